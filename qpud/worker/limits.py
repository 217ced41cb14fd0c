"""What a child process may use, and how it ends with its parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h


def fork(serve: Callable[[socket.socket], None], *, memory: int, niceness: int) -> tuple[int, socket.socket]:
    """Fork a child that serves one end of a new socket pair and exits.

    Args:
        serve: Runs in the child; its return or failure ends the child.
        memory: Bytes the child may map beyond what it inherits.
        niceness: Added to the child's nice value.

    Returns:
        The child's pid and our end of the pair.
    """
    parent, ours, theirs = os.getpid(), *socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _be_child(serve, theirs, parent, memory, niceness)
    theirs.close()
    return pid, ours


def _be_child(
    serve: Callable[[socket.socket], None], sock: socket.socket, parent: int, memory: int, niceness: int
) -> None:
    code = 1
    try:
        die_with(parent)
        _close_all_but(sock.fileno())
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.nice(niceness)
        limit_memory(memory)
        write_nothing()
        random.seed()
        serve(sock)
        code = 0
    finally:
        os._exit(code)  # never run the parent's exit handlers


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies, and exit if it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def limit_memory(extra: int) -> None:
    """Allow `extra` bytes of address space beyond what is mapped now; MemoryError beyond."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + extra, mapped + extra))


def write_nothing() -> None:
    """No files, no core dumps, and no rights by set-uid programs: a child computes and answers."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # pipes and sockets are no files
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _close_all_but(keep: int) -> None:
    """Close inherited sockets: siblings must see the end of each other's streams."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        if (descriptor := int(entry.name)) > 2 and descriptor != keep:
            with contextlib.suppress(OSError):  # the listing's own descriptor is closed already
                os.close(descriptor)
