"""The folder with the daemon's state: only the daemon's user may change it, and only one daemon may use it."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import IO

from qpud.core.errors import Conflict, NotFound, Unavailable
from qpud.site.peer import user_name

LOCK = "qpud.lock"


def one_daemon(state: Path) -> IO[bytes]:
    """Make the state folder if needed and lock it; the lock ends with the process.

    Raises:
        Conflict: Another daemon uses it, it is another user's, or others may write to it: they could put a database
            or a link of theirs in the place of ours.
        Unavailable: It cannot be made or written.
    """
    try:
        return _lock(state)
    except OSError as error:
        raise Unavailable(
            f"StateSaveLocation {state} cannot be used: {(error.strerror or str(error)).lower()}"
        ) from error


def _lock(state: Path) -> IO[bytes]:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_own(state)
    # 0600, also if it is there: whoever may open the file may take the lock, and keep the daemon from starting
    lock = os.fdopen(os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "rb")
    try:
        os.fchmod(lock.fileno(), 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise Conflict(
            f"another qpud serves {state}: stop it first, or choose another folder by StateSaveLocation or --state"
        ) from None
    except BaseException:
        lock.close()
        raise
    return lock


def _require_own(state: Path) -> None:
    found = state.stat()
    if found.st_uid != os.geteuid():
        raise Conflict(f"StateSaveLocation {state} belongs to {user_name(found.st_uid)}, not to the daemon's user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(found.st_mode)
        raise Conflict(f"StateSaveLocation {state} has mode {mode:04o}: others may write to it, make it 0700")


def become_owner(state: Path) -> None:
    """From root, turn into the state folder's owner for good: what follows writes nothing as root into his folder.

    Raises:
        NotFound: There is no such folder.
    """
    try:
        found = state.stat()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NotFound(f"StateSaveLocation {state} cannot be entered: {reason}") from None
    if os.geteuid() == 0 and found.st_uid != 0:
        os.setgroups([])
        os.setgid(found.st_gid)
        os.setuid(found.st_uid)
