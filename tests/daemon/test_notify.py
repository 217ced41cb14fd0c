"""The daemon under a service manager: a real process, a real NOTIFY_SOCKET."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from qpud.daemon import _show_life
from qpud.site.notify import Notifier
from tests.daemon.harness import a_daemon


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(10)
        yield listener


def until(manager: socket.socket, word: str) -> list[str]:
    """What is told, up to and with a word."""
    told: list[str] = []
    while word not in told:
        told.append(manager.recv(1000).decode().splitlines()[0])
    return told


def test_ready_alive_reloading_and_stopping_are_told(
    tmp_path: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    with a_daemon(tmp_path) as daemon:
        assert "STOPPING=1" not in until(manager, "READY=1")
        until(manager, "WATCHDOG=1")
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        until(manager, "RELOADING=1")
        until(manager, "READY=1")
        daemon.write_policy(max_shots="many")
        daemon.process.send_signal(signal.SIGHUP)
        until(manager, "RELOADING=1")
        until(manager, "READY=1")  # the policy in force stays
        assert daemon.end() == 0
        until(manager, "STOPPING=1")


async def test_the_watchdog_starves_when_the_scheduler_stands_still(tmp_path: Path, manager: socket.socket) -> None:
    """The loop turns, HTTP would answer: only the scheduler's heartbeat counts."""
    asked = asyncio.Semaphore(0)
    health = SimpleNamespace(alive=False)

    def look() -> SimpleNamespace:
        asked.release()
        return health

    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}
    life = asyncio.create_task(_show_life(SimpleNamespace(health=look), Notifier(environ)))  # type: ignore[arg-type]
    manager.setblocking(False)
    async with asyncio.timeout(10):
        for _ in range(5):
            await asked.acquire()
        with pytest.raises(BlockingIOError):
            manager.recv(1000)
        health.alive = True
        assert await asyncio.get_running_loop().sock_recv(manager, 1000) == b"WATCHDOG=1"
    life.cancel()
