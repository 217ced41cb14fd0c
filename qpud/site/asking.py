"""The process that asks munged, so that nothing else waits for it: libmunge has no time-out (munge.py).

The daemon starts it (`munge_process.py`); it needs libmunge.py and the stdlib, and imports little: each module is
memory. It has one thread and keeps nothing. On descriptor 0, a SOCK_SEQPACKET socket, it reads one credential after
another, or PROBE, and answers each in order. It ends when the daemon does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
import time

from qpud.site.libmunge import Code, Context, Libmunge

ANSWER = struct.Struct("=iI?")
"""Munge's code, the uid if it is 0, whether nothing is asked of munged until a PROBE succeeds; then the reason."""
LARGEST_ANSWER = ANSWER.size + 512
LONGEST_CREDENTIAL = 4096
"""Characters; qrmi's have 143. munged would take a megabyte of payload, which qpud has no use for."""
PROBE = b"?"
SLOW_SECONDS = 0.5
"""A failure that takes longer, and the rest is refused unasked: each of them would take as long."""

_DESCRIPTOR = 0
_PR_SET_PDEATHSIG = 1


def main(socket: str) -> None:
    """Answer until the daemon ends. `socket` is munged's; "" is libmunge's default."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # also in the ten seconds that munged may hang
    library = Libmunge()
    context = library.new_context(os.fsencode(socket))
    is_silent = False
    while question := os.read(_DESCRIPTOR, LONGEST_CREDENTIAL):
        if is_silent and question != PROBE:
            os.write(_DESCRIPTOR, ANSWER.pack(Code.TIMEOUT, 0, True))
            continue
        began = time.monotonic()
        code, uid = _encode(library, socket) if question == PROBE else library.decode(question, context)[:2]
        took = time.monotonic() - began
        is_silent = code in (Code.SOCKET, Code.TIMEOUT) and (is_silent or took > SLOW_SECONDS)
        os.write(_DESCRIPTOR, ANSWER.pack(code, uid, is_silent) + _reason(code, library, context))


def _encode(library: Libmunge, socket: str) -> tuple[int, int]:
    """Make a credential for nobody: its code tells whether munged answers."""
    context = library.new_context(os.fsencode(socket))
    code, _ = library.encode(context)
    library.free_context(context)
    return code, 0


def _reason(code: int, library: Libmunge, context: Context) -> bytes:
    return library.reason(context).encode()[:512] if code else b""


if __name__ == "__main__":
    main(sys.argv[1])
