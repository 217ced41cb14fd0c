"""A child in the foreground: it gets the signals, we get its exit code, and the ending always happens.

Plain signal handlers instead of sigwaitinfo, which macOS lacks; handlers (unlike SIG_IGN) do not outlive exec, so
the child starts with the defaults.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
FROM_THE_TERMINAL = frozenset({signal.SIGINT, signal.SIGQUIT})


class _Relay:
    """Passes signals to the child once there is one, and remembers one that came before."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.early: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.child is None:
            self.early = number if number in ENDING else self.early
        elif not (number in FROM_THE_TERMINAL and _terminal_is_ours()):
            self.child.send_signal(number)


def run_in_foreground(start: Callable[[], subprocess.Popen[bytes]], end: Callable[[], object]) -> int:
    """Run a child to its end.

    Signals that arrive go to the child, except Ctrl-C and Ctrl-\\ of a terminal, which sends them to the child by
    itself. One that arrives before the child has started ends it as soon as it has.

    Args:
        start: Prepares and starts the child.
        end: Undoes the preparation; runs in any case, also if `start` raised.

    Returns:
        The child's exit code, 128 + n if signal n ended it.
    """
    relay = _Relay()
    before = {number: signal.signal(number, relay) for number in FORWARDED}
    try:
        relay.child = start()
        if relay.early is not None:
            relay.child.send_signal(relay.early)
        code = relay.child.wait()
    finally:
        relay.child = None
        end()
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _terminal_is_ours() -> bool:
    """Whether the terminal sends its signals to our process group, and so to the child."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False  # no terminal
