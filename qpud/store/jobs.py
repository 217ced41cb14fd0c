"""SQL of jobs, their sequences, keys and events. Each function is one step of a writer's operation."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from qpud.core.errors import Conflict
from qpud.core.job import Job, JobState, Reason
from qpud.core.slices import merge_counts
from qpud.store.rows import JOB_COLUMNS, insert_rows, to_row

_NEW_COLUMNS = f"{JOB_COLUMNS}, variables, tags, seed, check_seconds"
_INSERT = (
    f"INSERT INTO jobs ({_NEW_COLUMNS}) WITH new ({_NEW_COLUMNS}) AS (VALUES {{rows}}) SELECT * FROM new"  # noqa: S608  constants
    " WHERE EXISTS (SELECT 1 FROM sessions WHERE sessions.id = new.session_id AND closed_at IS NULL)"
)
_MOVE = (
    "UPDATE jobs SET state = ?, reason = ?, started_at = ?, ended_at = ?, shots_done = ?, validated_spec = ?"
    " WHERE id = ? AND state = ?"
)


class NewJob(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job to store with what the scheduler does not need in memory; JSON texts or None."""

    job: Job
    variables: str | None
    tags: str | None
    seed: int | None  # None: by its number in the session, when it is stored
    check_seconds: float = 0.0  # from the request to its acceptance


def insert(connection: sqlite3.Connection, news: Sequence[NewJob]) -> int:
    """Store accepted jobs, except those whose session has ended; returns how many are stored."""
    rows = [(*to_row(new.job), new.variables, new.tags, new.seed, new.check_seconds) for new in news]
    return insert_rows(connection, _INSERT, rows)


def number_of(connection: sqlite3.Connection, session_id: str) -> int:
    """How many jobs a session has had."""
    number: int = connection.execute("SELECT count(*) FROM jobs WHERE session_id = ?", (session_id,)).fetchone()[0]
    return number


def insert_sequences(connection: sqlite3.Connection, texts: Sequence[tuple[str, str]]) -> None:
    """Store sequences, hash and text, each once per hash."""
    insert_rows(connection, "INSERT OR IGNORE INTO sequences (hash, text) VALUES {rows}", texts)


def find_key(connection: sqlite3.Connection, user_id: int, key: str) -> tuple[int, int, bytes] | None:
    """First job, number of jobs and body hash of an earlier submission with this key, unless all its jobs are gone."""
    row: tuple[int, int, bytes] | None = connection.execute(
        "SELECT first_job, jobs, body_hash FROM keys WHERE user_id = ? AND key = ?"
        " AND EXISTS (SELECT 1 FROM jobs WHERE id >= first_job AND id < first_job + keys.jobs)",
        (user_id, key),
    ).fetchone()
    return row


def insert_key(connection: sqlite3.Connection, user_id: int, key: str, jobs: list[Job], body_hash: bytes) -> None:
    """Remember which jobs a key made; what it made before is gone, or `find_key` had found it."""
    connection.execute(
        "INSERT OR REPLACE INTO keys (user_id, key, first_job, jobs, body_hash) VALUES (?, ?, ?, ?, ?)",
        (user_id, key, jobs[0].id, len(jobs), body_hash),
    )


def move(connection: sqlite3.Connection, job: Job, found: JobState) -> None:
    """Store a job's new state, reason, times and shots.

    Raises:
        Conflict: The job is not in the state `found` any more.
    """
    values = (job.state, job.reason, job.started_at, job.ended_at, job.shots_done, job.validated_spec, job.id, found)
    if connection.execute(_MOVE, values).rowcount != 1:
        raise Conflict(f"job {job.id} is not {found} any more")


def start(connection: sqlite3.Connection, job: Job, now: float) -> None:
    """Store that a slice of the job is intended; a hold or a wish to stop that came meanwhile stays.

    Raises:
        Conflict: The job has ended.
    """
    cursor = connection.execute(
        "UPDATE jobs SET state = 'RUNNING', started_at = coalesce(started_at, ?), validated_spec = ?,"
        " reason = CASE WHEN reason = 'Validating' THEN '' ELSE reason END"
        " WHERE id = ? AND state IN ('PENDING', 'RUNNING')",
        (now, job.validated_spec, job.id),
    )
    if cursor.rowcount != 1:
        raise Conflict(f"job {job.id} has ended")


def advance(connection: sqlite3.Connection, job: Job, shots: int) -> None:
    """Add the shots of an ended slice to its job, and end the job if `job` has ended.

    Raises:
        Conflict: The job is not RUNNING any more.
    """
    reason = job.reason if job.is_terminal else None
    cursor = connection.execute(
        "UPDATE jobs SET shots_done = shots_done + ?, state = ?, ended_at = ?, reason = coalesce(?, reason)"
        " WHERE id = ? AND state = 'RUNNING'",
        (shots, job.state, job.ended_at, reason, job.id),
    )
    if cursor.rowcount != 1:
        raise Conflict(f"job {job.id} is not RUNNING any more")


def set_reason(connection: sqlite3.Connection, job_id: int, reason: Reason) -> None:
    """Store why an unfinished job waits, or that it is asked to stop, which nothing takes back.

    Raises:
        Conflict: The job has ended, or is asked to stop.
    """
    cursor = connection.execute(
        "UPDATE jobs SET reason = ?1 WHERE id = ?2 AND state IN ('PENDING', 'RUNNING')"
        " AND (reason != 'Canceling' OR ?1 = 'Canceling')",
        (reason, job_id),
    )
    if cursor.rowcount != 1:
        raise Conflict(f"job {job_id} has ended, or is being canceled")


def set_queue(connection: sqlite3.Connection, job_id: int, queue: str) -> None:
    """Store another queue of an unfinished job.

    Raises:
        Conflict: The job has ended.
    """
    cursor = connection.execute(
        "UPDATE jobs SET queue = ? WHERE id = ? AND state IN ('PENDING', 'RUNNING')", (queue, job_id)
    )
    if cursor.rowcount != 1:
        raise Conflict(f"job {job_id} has ended")


def finish(connection: sqlite3.Connection, job: Job, message: str) -> None:
    """Write a job's final counts, the exact sum over its slices, and the sentence for its owner."""
    counts = total_counts(connection, job.id)
    connection.execute(
        "UPDATE jobs SET counts = ?, message = ? WHERE id = ?", (json.dumps({"counter": counts}), message, job.id)
    )


def total_counts(connection: sqlite3.Connection, job_id: int) -> dict[str, int]:
    """The sum of the counts of a job's slices."""
    rows = connection.execute("SELECT counts FROM slices WHERE job_id = ? AND counts IS NOT NULL", (job_id,))
    return sum_counts(row[0] for row in rows)


def sum_counts(texts: Iterable[str]) -> dict[str, int]:
    """Add up counts stored as JSON texts."""
    total: dict[str, int] = {}
    for text in texts:
        total = merge_counts(total, json.loads(text))
    return total


def charge(connection: sqlite3.Connection, job_id: int, qpu_seconds: float, provenance: dict[str, str]) -> None:
    """Add a slice's QPU seconds to its job and remember where the counts came from."""
    connection.execute(
        "UPDATE jobs SET qpu_seconds = qpu_seconds + ?, provenance = ? WHERE id = ?",
        (qpu_seconds, json.dumps(provenance), job_id),
    )


def add_event(connection: sqlite3.Connection, job_id: int, at: float, text: str) -> None:
    """Add one sentence to a job's story."""
    connection.execute("INSERT INTO events (job_id, at, text) VALUES (?, ?, ?)", (job_id, at, text))


def canonical(value: Any) -> str | None:
    """JSON text of variables or tags, None when there are none; equal values give equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")) if value else None
