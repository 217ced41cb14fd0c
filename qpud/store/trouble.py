"""What goes wrong with the database, in words: for who asked, for /readyz, and once for the log."""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import tempfile
import time
from pathlib import Path

from qpud.core.errors import Conflict, QpudError, StorageFull, Unavailable

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1  # between two looks at the files: each costs a commit 0.05 ms, a tenth of a submission
LOG_SECONDS = 60.0  # the log may lie on the same full disk
ROOM = 1 << 20  # bytes that must fit before a full disk counts as good again: a few submissions
_FAILING = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
)


class Damaged(Unavailable):
    """SQLite says that the file itself is wrong. Other pages of it may still be read and written; no time heals it."""


def of_writing(error: BaseException) -> BaseException:
    """What is told to who could not store: Conflict, Unavailable, Damaged, StorageFull; other errors stay."""
    if isinstance(error, QpudError) or not isinstance(error, sqlite3.Error):
        return error
    text = str(error)
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict(f"the database refuses it ({text})")
    if "locked" in text or "busy" in text:
        return Unavailable("the database is locked by another process: try again")
    if isinstance(error, sqlite3.OperationalError):
        return StorageFull(f"nothing can be stored in StateSaveLocation now ({text}): nothing was accepted")
    return _damage(f"the database is damaged ({text})") if _harms(error) else error


def of_reading(error: sqlite3.Error) -> QpudError | sqlite3.Error:
    """What is told to who could not read; a mistake in a statement stays what it is."""
    if _harms(error):
        return _damage(f"the database is damaged ({error})")
    if _code(error) in _FAILING:
        return Unavailable(f"the database cannot be read now ({error}): try again")
    return error


def of_opening(path: Path, error: sqlite3.Error) -> Unavailable:
    """Why the daemon does not start."""
    if _harms(error):
        return _damage(f"the database {path} is damaged ({error})")
    for place in (path.parent, path):
        if not os.access(place, os.R_OK | os.W_OK):
            return Unavailable(f"the database {path} cannot be opened: qpud's user may not read and write {place}")
    return Unavailable(f"the database {path} cannot be opened: {error}")


def _damage(what: str) -> Damaged:
    return Damaged(f"{what}: stop qpud, then put a copy back with `qpud restore FILE`")


def _harms(error: sqlite3.Error) -> bool:
    """Whether the file itself is wrong: "malformed", "not a database"."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; of an error that Python made, that of a mistake."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def require_writable(connection: sqlite3.Connection) -> None:
    """SQLite opens a file that it may only read without a word, and says so at the first write.

    Raises:
        sqlite3.Error: It cannot be written. That another process locks it for now is none of this.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        _write_a_page(connection)
    except sqlite3.OperationalError as error:
        if _code(error) != sqlite3.SQLITE_BUSY:
            raise
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


class Trouble:
    """Why the database cannot be used now; begin and end are one line each in the log."""

    def __init__(self) -> None:
        self._why = ""
        self._damage = ""
        self._told_at = -math.inf
        self._is_told = False

    @property
    def why(self) -> str:
        """A sentence, "" if all is well. Of damage it stays, whatever could be written since."""
        return self._damage or self._why

    def note_damage(self, error: Damaged) -> None:
        """Take in that the file is wrong, found by reading or writing."""
        if not self._damage:
            log.error("the database is damaged", extra={"why": error.message})
        self._damage = error.message

    def note(self, why: str, now: float) -> None:
        """Take in how a write went.

        Args:
            why: A sentence, "" if it was stored.
            now: Monotonic seconds.
        """
        if why and not self._why and now - self._told_at >= LOG_SECONDS:
            log.error("nothing can be stored", extra={"why": why})
            self._told_at, self._is_told = now, True
        if not why and self._is_told:
            log.info("the database can be written again")
            self._is_told = False
        self._why = why


class Files:
    """The database and its -wal as they were opened: SQLite goes on writing to files that were removed.

    Args:
        path: The database, open and written to by this process.
    """

    def __init__(self, path: Path) -> None:
        self._paths = (str(path), f"{path}-wal")
        self._opened = [_identity(one) for one in self._paths]
        self._seen_at = -math.inf

    def require_in_place(self) -> None:
        """What is stored in a file that is gone ends with the process. Looks once in LOOK_SECONDS while all is well.

        Raises:
            StorageFull: One was removed or replaced.
        """
        now = time.monotonic()
        if now - self._seen_at < LOOK_SECONDS:
            return
        for path, opened in zip(self._paths, self._opened, strict=True):
            if opened is not None and _identity(path) != opened:
                raise StorageFull(
                    f"{path} was removed or replaced while qpud uses it, nothing is stored any more:"
                    " put it back, or stop qpud, then put a copy back with `qpud restore FILE`"
                )
        self._seen_at = now


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  while commits wait: a Path costs as much again
    except OSError:  # gone, or not to be reached: no reason for the writer's thread to end
        return None
    return found.st_dev, found.st_ino


def try_to_store(connection: sqlite3.Connection, folder: Path) -> None:
    """Try what a submission needs, so that the end of a trouble is seen while nobody submits anything.

    One page alone would not do: it fits into what an operation that failed has left of the -wal.

    Raises:
        StorageFull: There is no room in the folder.
        sqlite3.Error: The database cannot be written.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(ROOM))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageFull(f"nothing can be stored in StateSaveLocation now ({reason}): nothing was accepted") from None
    _write_a_page(connection)


def _write_a_page(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")
