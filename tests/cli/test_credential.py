"""munge over TCP: only for a daemon that asks, only without a token, fresh for each request."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qpud.site.munge import Munge

MISSING = {"detail": "Missing MUNGE credential", "code": "unauthenticated"}


@pytest.fixture
def munged(tmp_path: Path) -> Iterator[str]:
    program = shutil.which("munged", path="/usr/sbin:/usr/bin:/sbin")
    if program is None:
        pytest.skip("munged is not installed")
    folder = tmp_path / "munged"
    folder.mkdir(mode=0o755)
    (folder / "key").write_bytes(secrets.token_bytes(1024))
    (folder / "key").chmod(0o400)
    files = [f"--{name}-file={folder / name}" for name in ("key", "pid", "log", "seed")]
    process = subprocess.Popen(
        [program, "--foreground", "--force", f"--socket={folder / 'sock'}", *files], stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(folder / "sock")
        yield str(folder / "sock")
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        time.sleep(0.01)
    raise TimeoutError(path)


def asks_for_munge(asked: Any) -> tuple[int, Any]:
    return (200, {"queue": []}) if "X-Munge-Cred" in asked.headers else (401, MISSING)


@pytest.mark.munge
def test_a_daemon_that_asks_for_munge_gets_a_credential_of_the_caller(qpud: Any, daemon: Any, munged: str) -> None:
    daemon.on("GET", "/v1/queue", asks_for_munge)
    assert qpud("queue", "--url", daemon.url, QPUD_MUNGE_SOCKET=munged).returncode == 0
    with Munge(Path(munged)) as munge:
        assert munge.decode(daemon.asked[1].headers["X-Munge-Cred"]).uid == os.getuid()


@pytest.mark.munge
def test_a_credential_is_not_shown_to_a_daemon_that_does_not_ask(qpud: Any, daemon: Any, munged: str) -> None:
    daemon.on("GET", "/v1/queue", {"queue": []})
    qpud("queue", "--url", daemon.url, QPUD_MUNGE_SOCKET=munged)
    assert ["X-Munge-Cred" in asked.headers for asked in daemon.asked] == [False]


def test_a_refused_token_is_never_replaced_by_a_credential(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/queue", MISSING, status=401)
    assert qpud("queue", "--url", daemon.url, QPUD_TOKEN="t").returncode == 4
    assert len(daemon.asked) == 1


def test_without_munge_the_daemons_sentence_is_shown(qpud: Any, daemon: Any, tmp_path: Path) -> None:
    daemon.on("GET", "/v1/queue", MISSING, status=401)
    ended = qpud("queue", "--url", daemon.url, QPUD_MUNGE_SOCKET=str(tmp_path / "none"))
    assert (ended.returncode, ended.stderr) == (4, "qpud: Missing MUNGE credential\n")
