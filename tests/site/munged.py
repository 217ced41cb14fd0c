"""A real munged with its own key and socket."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def running_munged(folder: Path) -> Iterator[Path]:
    """A munged in the folder; gives its socket."""
    program = shutil.which("munged", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("munged is not installed")
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    key = folder / "key"
    if not key.exists():
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
    files = [f"--{name}-file={folder / name}" for name in ("key", "pid", "log", "seed")]
    arguments = [program, "--foreground", "--force", f"--socket={folder / 'sock'}", *files]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    try:
        wait_for_answer(folder / "sock", process)
        yield folder / "sock"
    finally:
        process.terminate()
        process.wait(timeout=10)


def wait_for_answer(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert process.poll() is None, f"munged ended with {process.returncode}"
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        time.sleep(0.005)
    raise TimeoutError(f"no munged at {path}")
