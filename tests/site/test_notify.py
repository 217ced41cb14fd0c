"""sd_notify on real datagram sockets, as systemd listens on them."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qpud.site.notify import Notifier


@contextmanager
def a_manager(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(5)
        yield listener


def test_what_is_told_arrives_in_systemds_words(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with a_manager(path) as manager:
        notifier = Notifier({"NOTIFY_SOCKET": path})
        for tell in (notifier.ready, notifier.alive, notifier.reloading, notifier.stopping):
            tell()
        told = [manager.recv(1000).decode() for _ in range(4)]
    assert [one.splitlines()[0] for one in told] == ["READY=1", "WATCHDOG=1", "RELOADING=1", "STOPPING=1"]
    assert told[2].splitlines()[1].startswith("MONOTONIC_USEC=")


def test_an_abstract_socket_is_reached(tmp_path: Path) -> None:
    name = f"qpud-{uuid.uuid4()}"
    with a_manager(f"\0{name}") as manager:
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert manager.recv(1000) == b"READY=1"


def test_without_a_manager_nothing_fails(tmp_path: Path) -> None:
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


def test_a_manager_that_reads_nothing_does_not_stop_the_daemon(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with a_manager(path):
        notifier = Notifier({"NOTIFY_SOCKET": path})
        for _ in range(2000):  # more than the socket holds
            notifier.alive()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_watchdog_is_fed_only_if_it_watches_this_process(environ: dict[str, str], seconds: float | None) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/run/notify", **environ}).watchdog_seconds == seconds
