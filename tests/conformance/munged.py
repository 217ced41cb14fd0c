"""A real munged at the default socket, where the released clients' libmunge looks."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path("/run/munge")
SOCKET = FOLDER / "munge.socket.2"
PID_FILE = FOLDER / "munged.pid"
PATIENCE_SECONDS = 10.0


class NoMunge(Exception):
    """munged neither runs nor can be started here; the message says why."""


@contextlib.contextmanager
def running() -> Iterator[None]:
    """See that munged runs; end it afterwards only if it was started here. Raises: NoMunge."""
    if answers():
        yield
        return
    process = _start()
    try:
        _await_answer(process)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)


def answers() -> bool:
    """Whether a munged serves credentials at the default socket."""
    munge = shutil.which("munge")
    return munge is not None and subprocess.run([munge, "-n"], capture_output=True).returncode == 0


def credential(user_id: int | None = None, ttl_seconds: int | None = None) -> str:
    """A fresh credential, of this process's user or of another (root only)."""
    ttl = [] if ttl_seconds is None else ["-t", str(ttl_seconds)]
    command = [*as_user(user_id), "munge", "-n", *ttl]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS).stdout.strip()


def as_user(user_id: int | None) -> list[str]:
    """What to put before a command so that it runs as another user, with nothing of root's left."""
    if user_id is None or user_id == os.geteuid():
        return []
    return ["setpriv", f"--reuid={user_id}", f"--regid={user_id}", "--clear-groups"]


def _start() -> subprocess.Popen[bytes]:
    munged = shutil.which("munged") or shutil.which("munged", path="/usr/sbin:/usr/local/sbin")
    if munged is None:
        raise NoMunge("munged is not installed: apt-get install munge libmunge2")
    if os.geteuid() != 0:
        raise NoMunge(f"no munged answers at {SOCKET} and only root can start one there")
    FOLDER.mkdir(mode=0o755, exist_ok=True)
    shutil.chown(FOLDER, "munge", "munge")
    user = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups"]
    return subprocess.Popen([*user, munged, "--foreground", f"--pid-file={PID_FILE}"], stdout=subprocess.DEVNULL)


def _await_answer(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not answers():
        if process.poll() is not None:
            raise NoMunge(f"munged ended with exit code {process.returncode}; is /etc/munge/munge.key there?")
        if time.monotonic() > deadline:
            raise NoMunge(f"munged did not answer at {SOCKET} within {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.02)
