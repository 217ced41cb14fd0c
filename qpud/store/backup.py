"""Copies of the database: before its schema changes, while the daemon runs, and back again.

A copy is one plain file, 0600, without SQLite's -wal and -shm beside it, and appears under its name only when it is
whole and on the disk.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

from qpud.core.errors import Conflict, Invalid, NotFound, Unavailable
from qpud.store.schema import MIGRATIONS, schema_of

log = logging.getLogger(__name__)

DATABASE = "state.sqlite"
KEPT_COPIES = 2


def keep_before_migration(connection: sqlite3.Connection, path: Path) -> None:
    """Copy a database of an older schema to `state.sqlite.vN.bak-TIME` beside it; of such copies the last two stay.

    Raises:
        Unavailable: It cannot be copied, so it must not be changed; the disk is full, most likely.
    """
    version = schema_of(connection)
    if not 0 < version < len(MIGRATIONS):
        return
    copy = path.with_name(f"{path.name}.v{version}.bak-{_stamp()}")
    try:
        _copy(connection, copy)
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(
            f"the database {path} has schema {version} and cannot be copied to {copy.name} before it becomes"
            f" schema {len(MIGRATIONS)}: {error}"
        ) from None
    kept = {"from": version, "to": len(MIGRATIONS), "copy": str(copy)}
    log.warning("the database gets a new schema, a copy of it is kept", extra=kept)
    for old in _copies(path)[:-KEPT_COPIES]:
        old.unlink()


def newest_copy(path: Path) -> Path | None:
    """The last copy of a database that this qpud can serve; None if there is none."""
    fit = [copy for copy in _copies(path) if 0 < _version_in(copy) <= len(MIGRATIONS)]
    return fit[-1] if fit else None


def back_up(database: Path, copy: Path) -> int:
    """Copy a database as it is now, beside a running daemon or without one; nobody waits for it.

    Returns:
        Bytes of the copy.

    Raises:
        NotFound: There is no such database.
        Conflict: There is something under the copy's name already.
        Unavailable: One cannot be read or the other not written.
    """
    if os.path.lexists(copy):
        raise Conflict(f"there is a file {copy} already: qpud backup replaces none")
    try:
        database.stat()
        with closing(_reader(database)) as source:
            _copy(source, copy)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"there is no {error.filename}: {database} cannot be copied to {copy}") from None
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"the database {database} cannot be copied to {copy}: {error}") from None
    return copy.stat().st_size


def open_copy(path: Path) -> IO[bytes]:
    """A copy for `put_back`, opened while whoever may read it still can.

    Raises:
        NotFound: It cannot be read.
        Conflict: Commits of it stand in a file beside it: it is a database in use, not a copy.
    """
    wal = path.with_name(f"{path.name}-wal")
    try:
        copy = path.open("rb")
        is_in_use = wal.exists() and wal.stat().st_size > 0
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if is_in_use:
        copy.close()
        raise Conflict(f"{path} is a database in use, {wal.name} belongs to it: copy it with qpud backup")
    return copy


def put_back(backup: IO[bytes], name: Path, database: Path) -> Path | None:
    """Put a copy in the place of the database, after checking it; no daemon may run, see `qpud.site.state`.

    Args:
        backup: Of `open_copy`.
        name: Its path, for what is said about it.
        database: What is replaced; its folder exists.

    Returns:
        Where the replaced database is kept; None if there was none.

    Raises:
        Invalid: It is damaged, or no database of this qpud.
        Unavailable: The folder cannot be written.
    """
    try:
        with _new_file(database.with_name(f"{database.name}.restoring")) as arriving:
            with arriving.open("wb") as target:
                shutil.copyfileobj(backup, target, 1 << 20)
            _check(arriving, name)
            _settle(arriving)
            kept = _set_aside(database)
            arriving.replace(database)
            _sync(database.parent)
    except OSError as error:
        raise Unavailable(f"{name} cannot be put in the place of {database}: {error}") from None
    return kept


def _copies(path: Path) -> list[Path]:
    """What `keep_before_migration` left, oldest first."""
    return sorted(path.parent.glob(f"{path.name}.v*.bak-*[0-9]"), key=lambda copy: copy.name.rpartition("-")[2])


def _version_in(copy: Path) -> int:
    number = copy.name.partition(".v")[2].partition(".bak-")[0]
    return int(number) if number.isdecimal() else 0


def _stamp() -> str:
    """Now, UTC, to the microsecond: names sort by time and none is used twice."""
    nanoseconds = time.time_ns()
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(nanoseconds // 10**9))}.{nanoseconds // 1000 % 10**6:06d}"


def _reader(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=5.0)


def _copy(source: sqlite3.Connection, copy: Path) -> None:
    """All pages in one step: one read transaction, which neither waits for a writer nor starts again after one."""
    with _new_file(copy.with_name(f"{copy.name}.part")) as part:
        with closing(sqlite3.connect(part)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # one plain file, also for a reader who may not write
        _check(part, part)
        _settle(part)
        part.rename(copy)
        _sync(copy.parent)


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """An empty file for our eyes only, which is gone afterwards unless it was renamed."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    try:
        yield path
    finally:
        for leftover in ("", "-wal", "-shm", "-journal"):
            path.with_name(f"{path.name}{leftover}").unlink(missing_ok=True)


def _check(path: Path, name: Path) -> None:
    """Raises: Invalid, with `name` in the sentence."""
    try:
        with closing(_reader(path)) as database:
            version = schema_of(database)
            (ledgers,) = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'ledger'").fetchone()
            (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        raise Invalid(f"{name} is no database: {error}") from None
    if found != "ok":
        raise Invalid(f"{name} is damaged: {found}")
    if not ledgers:
        raise Invalid(f"{name} is no database of qpud")
    if not 0 < version <= len(MIGRATIONS):
        raise Invalid(f"{name} has schema {version}, this qpud knows 1 to {len(MIGRATIONS)}")


def _set_aside(database: Path) -> Path | None:
    """Keep the replaced database under another name, with the commits that a crash left in its -wal."""
    if not database.exists():
        return None
    kept = database.with_name(f"{database.name}.replaced-{_stamp()}")
    os.link(database, kept)
    with suppress(FileNotFoundError):  # before the new one comes: it must not find another's -wal
        os.rename(f"{database}-wal", f"{kept}-wal")  # noqa: PTH104  names with a suffix behind the suffix
    Path(f"{database}-shm").unlink(missing_ok=True)
    return kept


def _settle(path: Path) -> None:
    """Bring a file's bytes to the disk."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _sync(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
