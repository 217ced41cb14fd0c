"""What leaves the store once it is old: jobs that ended, what hangs on them, and what nothing names any more.

Candidates are found by readers; each DELETE decides again, in the writer's transaction. So each transaction leaves a
consistent store, and one that never comes leaves work for the next sweep. The ledger and the audit record stay.

A text is looked for without an index, in seconds, and a submission may need it meanwhile. So the writer's connection
notes, by triggers of its own, the hash of every job and batch that is stored while texts are being purged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

import msgspec

from qpud.store.rows import Row
from qpud.store.store import Store

MOST_JOBS = 50
"""Jobs of one transaction: submissions that come meanwhile wait for it."""
MOST_ROWS = 200
"""Other rows of one transaction; jobs with many slices fill it earlier."""
MOST_FOUND = 10_000
"""Of what one long SELECT looks for."""

# a QPU tells when a job ended: its clock may be far behind ours
_ENDED = "max(submitted_at, ended_at) <= ?1"
_IN_FLIGHT = "SELECT job_id FROM slices WHERE state IN ('INTENT', 'RUNNING', 'UNKNOWN')"
_PROMISED = "SELECT job_id FROM releases WHERE settled_at IS NULL"
_OPEN_BATCH = "SELECT 1 FROM batches b WHERE b.id = jobs.batch_id AND (b.closed_at IS NULL OR b.closed_at > ?1)"
# the n-th job of such a session has the n-th seed: they are counted
_COUNTED = "SELECT 1 FROM sessions s WHERE s.id = jobs.session_id AND s.closed_at IS NULL AND s.rehearsal IS NOT NULL"
# the next daemon counts on from the largest ids, and gives none a second time
_LAST = "SELECT max(id) FROM jobs UNION SELECT job_id FROM slices WHERE id = (SELECT max(id) FROM slices)"
_GOES = (
    f"(state IN ('DONE', 'CANCELED', 'ERROR') AND {_ENDED} AND NOT EXISTS ({_OPEN_BATCH})"
    f" AND NOT EXISTS ({_COUNTED}) AND id NOT IN ({_PROMISED}) AND id NOT IN ({_IN_FLIGHT}) AND id NOT IN ({_LAST}))"
)
_PAGE = (
    f"SELECT id, submitted_at <= ?1, {_GOES}, (SELECT count(*) FROM slices WHERE job_id = jobs.id)"  # noqa: S608  constants
    f" FROM jobs WHERE id > ?2 ORDER BY id LIMIT {MOST_JOBS}"
)
_UNNAMED = (
    f"SELECT hash FROM sequences WHERE hash NOT IN (SELECT sequence_hash FROM jobs) AND hash NOT IN"  # noqa: S608  constants
    f" (SELECT sequence_hash FROM batches WHERE sequence_hash IS NOT NULL) LIMIT {MOST_FOUND}"
)
_NOTE = "BEGIN INSERT OR IGNORE INTO needed (hash) VALUES (new.sequence_hash); END"


class OldJobs(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the oldest jobs.

    Attributes:
        ids: Those that may go.
        last: Where the next page begins; None if no older job follows.
    """

    ids: tuple[int, ...]
    last: int | None


class Jobless(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of row that hangs on jobs, and goes when the last of them has gone."""

    table: str
    columns: tuple[str, ...]  # by which rows are found again
    condition: str  # ?1: seconds since the epoch


BATCHES = Jobless(
    table="batches",
    columns=("id",),
    condition="closed_at <= ?1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.batch_id = batches.id)",
)
SESSIONS = Jobless(
    table="sessions",
    columns=("id",),
    condition="closed_at <= ?1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.session_id = sessions.id)",
)
KEYS = Jobless(
    table="keys",
    columns=("user_id", "key"),
    condition="?1 IS NOT NULL AND NOT EXISTS"
    " (SELECT 1 FROM jobs WHERE jobs.id >= keys.first_job AND jobs.id < keys.first_job + keys.jobs)",
)
RELEASES = Jobless(
    table="releases",
    columns=("slurm_job",),
    condition="settled_at <= ?1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = releases.job_id)",
)


async def old_jobs(store: Store, before: float, after: int) -> OldJobs:
    """The next jobs that may go.

    Args:
        store: The store.
        before: They ended then or earlier, seconds since the epoch.
        after: Their ids are larger.
    """
    rows = _in_one_go(await store.rows(_PAGE, (before, after)))
    has_old = any(is_old for _id, is_old, _goes, _slices in rows)
    return OldJobs(ids=tuple(row[0] for row in rows if row[2]), last=rows[-1][0] if has_old else None)


def _in_one_go(rows: Sequence[Row]) -> Sequence[Row]:
    """As many of the first as fit into a transaction, one at least."""
    slices = 0
    for number, row in enumerate(rows):
        slices += row[3] if row[2] else 0
        if number and slices > MOST_ROWS:
            return rows[:number]
    return rows


def delete_jobs(connection: sqlite3.Connection, ids: Collection[int], before: float) -> int:
    """Delete those of some jobs that still may go, with their slices and stories.

    Returns:
        How many went.
    """
    rows = connection.execute(f"SELECT id FROM jobs WHERE {_GOES} AND id IN ({_listed(ids)})", (before,))  # noqa: S608  integers
    gone = [row[0] for row in rows]
    if not gone:
        return 0
    which = _listed(gone)
    connection.execute(  # the start of a daemon reads it from the jobs
        "UPDATE sessions SET last_used_at = max(last_used_at, (SELECT max(ended_at) FROM jobs"  # noqa: S608  integers
        f" WHERE id IN ({which}) AND session_id = sessions.id))"
        f" WHERE closed_at IS NULL AND id IN (SELECT session_id FROM jobs WHERE id IN ({which}))"
    )
    for table, column in (("slices", "job_id"), ("events", "job_id"), ("jobs", "id")):
        connection.execute(f"DELETE FROM {table} WHERE {column} IN ({which})")  # noqa: S608  integers
    return len(gone)


async def find_jobless(store: Store, kind: Jobless, before: float) -> list[Row]:
    """The columns of rows of a kind that nothing needs any more, at most MOST_FOUND."""
    return await store.aside(
        f"SELECT DISTINCT {', '.join(kind.columns)} FROM {kind.table} WHERE {kind.condition} LIMIT {MOST_FOUND}",  # noqa: S608  constants
        (before,),
    )


def delete_jobless(connection: sqlite3.Connection, kind: Jobless, found: Sequence[Row], before: float) -> int:
    """Delete those of some rows that still nothing needs; returns how many went.

    Each column is searched for by itself, since SQLite finds no pairs of values by an index: what it meets besides
    is not needed either.
    """
    among = " AND ".join(f"{column} IN ({_marks(found)})" for column in kind.columns)
    values = [row[number] for number in range(len(kind.columns)) for row in found]
    statement = f"DELETE FROM {kind.table} WHERE {kind.condition} AND {among}"  # noqa: S608  constants
    return connection.execute(statement, (before, *values)).rowcount


def watch_texts(connection: sqlite3.Connection) -> None:
    """Note from now on which texts jobs and batches need that are stored: nobody else sees these notes."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS needed (hash TEXT PRIMARY KEY) WITHOUT ROWID")
    connection.execute("DELETE FROM needed")
    connection.execute(f"CREATE TEMP TRIGGER IF NOT EXISTS note_job AFTER INSERT ON main.jobs {_NOTE}")
    connection.execute(
        "CREATE TEMP TRIGGER IF NOT EXISTS note_batch AFTER INSERT ON main.batches"
        f" WHEN new.sequence_hash IS NOT NULL {_NOTE}"
    )


def unwatch_texts(connection: sqlite3.Connection) -> None:
    """Note no more, and forget what was noted."""
    connection.execute("DROP TRIGGER IF EXISTS note_job")
    connection.execute("DROP TRIGGER IF EXISTS note_batch")
    connection.execute("DROP TABLE IF EXISTS needed")


async def unnamed_texts(store: Store) -> list[str]:
    """Hashes of sequences that no job and no batch has, at most MOST_FOUND; ask after `watch_texts`."""
    return [row[0] for row in await store.aside(_UNNAMED)]


def delete_texts(connection: sqlite3.Connection, hashes: Sequence[str]) -> int:
    """Delete texts that nothing named, but for those that were needed since `watch_texts`; returns how many went."""
    statement = f"DELETE FROM sequences WHERE hash IN ({_marks(hashes)}) AND hash NOT IN (SELECT hash FROM needed)"  # noqa: S608  marks only
    return connection.execute(statement, tuple(hashes)).rowcount


def _listed(ids: Collection[int]) -> str:
    return ", ".join(str(int(one)) for one in ids)


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
