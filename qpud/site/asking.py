"""The process that asks munged, so that nothing else waits for it: libmunge has no time-out (munge.py).

The daemon starts it (`munge_process.py`); it needs libmunge.py and the stdlib, and imports little: each module is
memory. It has one thread and keeps nothing. On descriptor 0, a SOCK_SEQPACKET socket, it reads credentials, each a
message, or PROBE, and answers in order. Those that wait together are answered by one message: the daemon is then woken
once, and their jobs share a commit. It ends when the daemon does.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import struct
import time

from qpud.site.libmunge import Code, Libmunge

ANSWER = struct.Struct("=iI?H")
"""Munge's code, the uid if it is 0, whether munged is left alone until a PROBE succeeds, the length of the reason."""
LARGEST_GROUP = 32
"""Credentials that are answered together; the first of them waits for the last."""
LONGEST_REASON = 500
LARGEST_ANSWER = LARGEST_GROUP * (ANSWER.size + LONGEST_REASON)
"""Bytes of one message."""
LONGEST_CREDENTIAL = 4096
"""Characters; qrmi's have 143. munged would take a megabyte of payload, which qpud has no use for."""
PROBE = b"?"
SLOW_SECONDS = 0.5
"""A failure that takes longer, and the rest is refused unasked: each of them would take as long."""

_DESCRIPTOR = 0
_PR_SET_PDEATHSIG = 1


class Asker:
    """Answers questions.

    Args:
        socket: munged's; b"" is libmunge's default.
    """

    def __init__(self, socket: bytes) -> None:
        self._socket = socket
        self._library = Libmunge()
        self._context = self._library.new_context(socket)
        self._is_silent = False

    def answer(self, question: bytes) -> bytes:
        """The bytes of one answer; asks munged for up to ten seconds, once per hang."""
        if self._is_silent and question != PROBE:
            return ANSWER.pack(Code.TIMEOUT, 0, True, 0)
        began = time.monotonic()
        code, uid = self._ask(question)
        took = time.monotonic() - began
        self._is_silent = code in (Code.SOCKET, Code.TIMEOUT) and (self._is_silent or took > SLOW_SECONDS)
        reason = self._library.reason(self._context).encode()[:LONGEST_REASON] if code else b""
        return ANSWER.pack(code, uid, self._is_silent, len(reason)) + reason

    def _ask(self, question: bytes) -> tuple[int, int]:
        if question == PROBE:
            return self._encode(), 0
        code, uid, _ = self._library.decode(question, self._context)
        return code, uid

    def _encode(self) -> int:
        """Make a credential for nobody: its code tells whether munged answers."""
        context = self._library.new_context(self._socket)
        code, _ = self._library.encode(context)
        self._library.free_context(context)
        return code


def main(socket: str) -> None:
    """Answer until the daemon ends. `socket` is munged's; "" is libmunge's default."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # also in the ten seconds that munged may hang
    asker = Asker(os.fsencode(socket))
    while group := _waiting():
        os.write(_DESCRIPTOR, b"".join([asker.answer(question) for question in group]))


def _waiting() -> list[bytes]:
    """The questions that are there, one at least; none at the end."""
    group = [os.read(_DESCRIPTOR, LONGEST_CREDENTIAL)]
    while group[-1] and len(group) < LARGEST_GROUP and select.select([_DESCRIPTOR], (), (), 0)[0]:
        group.append(os.read(_DESCRIPTOR, LONGEST_CREDENTIAL))
    return group if group[-1] else []
