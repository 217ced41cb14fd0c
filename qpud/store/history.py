"""Everything that ever ran here, read from outside the daemon: what `qpud simulate --from-db` starts from."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import msgspec

from qpud.core.errors import NotFound, Unavailable
from qpud.core.job import Job
from qpud.core.session import Session
from qpud.store.rows import JOB_COLUMNS, SESSION_COLUMNS, job_from, session_from
from qpud.store.schema import MIGRATIONS


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions by opening, jobs by submission, and what the ledger says of each resource.

    `shot_rates` are shots per QPU second without set-up, `setup_seconds` the mean of a register change; a resource
    that never ran, or never changed its register, is left out.
    """

    sessions: list[Session]
    jobs: list[Job]
    shot_rates: dict[str, float]
    setup_seconds: dict[str, float]


def read_past(path: Path) -> Past:
    """Read a database, beside a running daemon or without one; nothing is written.

    Raises:
        NotFound: There is no such file.
        Unavailable: It is no database of this qpud, or may not be read.
    """
    if not path.is_file():
        raise NotFound(f"there is no database {path}")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as database:
            _check_schema(database, path)
            return _read(database)
    except sqlite3.Error as error:
        raise Unavailable(f"the database {path} cannot be read: {error}") from None


def _check_schema(database: sqlite3.Connection, path: Path) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version != len(MIGRATIONS):
        needed = "a newer qpud" if version > len(MIGRATIONS) else "a start of this qpud's daemon, which migrates it"
        raise Unavailable(f"the database {path} has schema {version}, not {len(MIGRATIONS)}: it needs {needed}")


def _read(database: sqlite3.Connection) -> Past:
    sessions = database.execute(f"SELECT {SESSION_COLUMNS} FROM sessions ORDER BY opened_at, id")  # noqa: S608  constants
    jobs = database.execute(f"SELECT {JOB_COLUMNS} FROM jobs ORDER BY submitted_at, id")  # noqa: S608  constants
    return Past(
        sessions=[session_from(row) for row in sessions],
        jobs=[job_from(row) for row in jobs],
        shot_rates=_shot_rates(database),
        setup_seconds=_setup_seconds(database),
    )


def _shot_rates(database: sqlite3.Connection) -> dict[str, float]:
    return dict(
        database.execute(
            "SELECT resource, sum(shots) / sum(qpu_seconds - setup_seconds) FROM ledger"
            " GROUP BY resource HAVING sum(shots) > 0 AND sum(qpu_seconds - setup_seconds) > 0"
        )
    )


def _setup_seconds(database: sqlite3.Connection) -> dict[str, float]:
    return dict(
        database.execute("SELECT resource, avg(setup_seconds) FROM ledger WHERE setup_seconds > 0 GROUP BY resource")
    )
