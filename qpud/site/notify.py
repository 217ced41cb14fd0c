"""What systemd is told of the daemon's life: sd_notify(3) with nothing but a datagram socket.

Without $NOTIFY_SOCKET, as in a terminal, nothing is told and nothing fails.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """The service manager that started this process, if one did.

    Args:
        environ: For NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, as systemd sets them.

    Attributes:
        watchdog_seconds: It ends us if it hears no sign of life for so long; None if it does not watch.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_seconds = _watchdog_seconds(environ) if self._address else None

    def ready(self) -> None:
        """Requests are answered."""
        self._tell("READY=1")

    def alive(self) -> None:
        """The scheduler turns: wait another `watchdog_seconds`."""
        self._tell("WATCHDOG=1")

    def reloading(self) -> None:
        """The policy is read again; `ready` follows."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def _tell(self, *lines: str) -> None:
        """One datagram; a manager that went away, or is busy, must not stop the daemon."""
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out,
        ):
            out.sendto("\n".join(lines).encode(), self._address)


def _address(named: str) -> str:
    """A path, or an abstract name, which is written with @ and begins with a zero byte."""
    if named.startswith("@"):
        return f"\0{named[1:]}"
    return named if named.startswith("/") else ""


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # meant for a process that started us
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdecimal() and int(text) else None
