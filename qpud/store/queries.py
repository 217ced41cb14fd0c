"""What clients ask of ended and pending work: SELECTs over the read-only connection."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from qpud.core.errors import NotFound
from qpud.core.job import Job
from qpud.core.session import Session
from qpud.core.verbs import JobFilter, LogLine, SessionFilter, SliceView
from qpud.store.jobs import sum_counts
from qpud.store.rows import JOB_COLUMNS, SESSION_COLUMNS, Row, job_from, session_from
from qpud.store.store import Store

_ESCAPED = str.maketrans({"%": r"\%", "_": r"\_", "\\": r"\\"})


class JobTexts(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a job that memory does not hold."""

    variables: dict[str, Any]
    tags: tuple[str, ...]
    seed: int
    counts: str | None  # JSON text {"counter": {bits: n}} once ended
    message: str
    provenance: dict[str, str]
    qpu_seconds: float


async def job(store: Store, job_id: int) -> Job | None:
    """One job by its number."""
    rows = await store.rows(f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = ?", (job_id,))  # noqa: S608  constants
    return job_from(rows[0]) if rows else None


async def jobs(store: Store, which: JobFilter) -> list[Job]:
    """At most `which.limit` + 1 jobs, newest first: one more than the page tells whether there is a next one."""
    where, parameters = _job_filter(which)
    rows = await store.rows(
        f"SELECT {JOB_COLUMNS} FROM jobs WHERE {where} ORDER BY id DESC LIMIT ?",  # noqa: S608  constants
        (*parameters, which.limit + 1),
    )
    return [job_from(row) for row in rows]


def _job_filter(which: JobFilter) -> tuple[str, tuple[Any, ...]]:
    clauses, parameters = ["1"], []
    for column in ("user_id", "session_id", "queue", "resource", "name", "batch_id"):
        value = getattr(which, column)
        if value is not None:
            clauses.append(f"{column} = ?")
            parameters.append(value)
    if which.before is not None:
        clauses.append("id < ?")
        parameters.append(which.before)
    if which.states:
        clauses.append(f"state IN ({', '.join('?' * len(which.states))})")
        parameters.extend(which.states)
    if which.tag is not None:
        clauses.append(r"tags LIKE ? ESCAPE '\'")
        parameters.append(f"%{json.dumps(which.tag).translate(_ESCAPED)}%")
    return " AND ".join(clauses), tuple(parameters)


async def texts(store: Store, job_id: int) -> JobTexts:
    """What is stored of a job besides its Job. Raises: NotFound: It was purged just now."""
    rows = await store.rows(
        "SELECT variables, tags, seed, counts, message, provenance, qpu_seconds FROM jobs WHERE id = ?", (job_id,)
    )
    variables, tags, seed, counts, message, provenance, qpu_seconds = _only(rows, job_id)
    return JobTexts(
        variables=json.loads(variables) if variables else {},
        tags=tuple(json.loads(tags)) if tags else (),
        seed=seed,
        counts=counts,
        message=message,
        provenance=json.loads(provenance) if provenance else {},
        qpu_seconds=qpu_seconds,
    )


def _only(rows: Sequence[Row], job_id: int) -> Row:
    if not rows:
        raise NotFound(f"job {job_id} does not exist")
    return rows[0]


_RESULT = "SELECT result FROM slices WHERE job_id = ?1 AND result IS NOT NULL ORDER BY number DESC LIMIT 1"


async def raw_result(store: Store, job_id: int) -> str | None:
    """The result of an opaque program, as it came; None if there is none, or of Pulser's programs."""
    rows = await store.rows(_RESULT, (job_id,))
    text: str | None = rows[0][0] if rows else None
    return text


async def final_counts(store: Store, job_id: int) -> str | None:
    """What the wire calls results of an ended job: the JSON text {"counter": …}, or an opaque result as it came."""
    rows = await store.rows(f"SELECT coalesce(({_RESULT}), counts) FROM jobs WHERE id = ?1", (job_id,))  # noqa: S608
    text: str | None = rows[0][0] if rows else None
    return text


async def program(store: Store, job_id: int) -> tuple[str, dict[str, Any], int]:
    """Sequence text, variables and seed of a job. Raises: NotFound: It was purged just now."""
    rows = await store.rows(
        "SELECT s.text, j.variables, j.seed FROM jobs j JOIN sequences s ON s.hash = j.sequence_hash WHERE j.id = ?",
        (job_id,),
    )
    text, variables, seed = _only(rows, job_id)
    return text, json.loads(variables) if variables else {}, seed


async def counts_so_far(store: Store, job_id: int) -> dict[str, int]:
    """The sum over the ended slices of a job."""
    rows = await store.rows("SELECT counts FROM slices WHERE job_id = ? AND counts IS NOT NULL", (job_id,))
    return sum_counts(row[0] for row in rows)


async def slices(store: Store, job_id: int) -> tuple[list[SliceView], str | None]:
    """The slices of a job in order, and the device spec hash of the last one."""
    rows = await store.rows(
        "SELECT number, state, shots, shots_done, started_at, ended_at, qpu_seconds, setup_seconds, device_id,"
        " spec_hash FROM slices WHERE job_id = ? ORDER BY number",
        (job_id,),
    )
    views = [SliceView(**dict(zip(SliceView.__struct_fields__, row[:9], strict=True))) for row in rows]
    return views, rows[-1][9] if rows else None


async def last_slice_number(store: Store, job_id: int) -> int:
    """The number of the job's last slice, -1 if it has none."""
    number: int = (await store.rows("SELECT coalesce(max(number), -1) FROM slices WHERE job_id = ?", (job_id,)))[0][0]
    return number


async def newest_device_id(store: Store, resource: str) -> str | None:
    """The resource's id of the last slice that it is known to have taken."""
    rows = await store.rows(
        "SELECT device_id FROM slices WHERE resource = ? AND device_id IS NOT NULL ORDER BY id DESC LIMIT 1",
        (resource,),
    )
    return rows[0][0] if rows else None


async def events(store: Store, job_id: int) -> list[LogLine]:
    """The recorded sentences of a job's story, oldest first."""
    rows = await store.rows("SELECT at, text FROM events WHERE job_id = ? ORDER BY id", (job_id,))
    return [LogLine(at=row[0], text=row[1]) for row in rows]


async def session(store: Store, session_id: str) -> Session | None:
    """One session by its id, closed ones too."""
    rows = await store.rows(f"SELECT {SESSION_COLUMNS} FROM sessions WHERE id = ?", (session_id,))  # noqa: S608  constants
    return session_from(rows[0]) if rows else None


async def sessions(store: Store, which: SessionFilter) -> list[Session]:
    """Sessions, newest first, at most 1000."""
    rows = await store.rows(
        f"SELECT {SESSION_COLUMNS} FROM sessions WHERE (?1 IS NULL OR user_id = ?1)"  # noqa: S608  constants
        " AND (?2 IS NULL OR slurm_job_id = ?2) AND (?3 IS NULL OR (closed_at IS NULL) = ?3)"
        " ORDER BY opened_at DESC LIMIT 1000",
        (which.user_id, which.slurm_job_id, which.active),
    )
    return [session_from(row) for row in rows]


async def jobs_of_key(store: Store, user_id: int, key: str) -> list[Job]:
    """The jobs that an idempotency key made, oldest first; empty if the key is new."""
    rows = await store.rows(
        f"SELECT {JOB_COLUMNS} FROM jobs WHERE id >= (SELECT first_job FROM keys WHERE user_id = ?1 AND key = ?2)"  # noqa: S608  constants
        " AND id < (SELECT first_job + jobs FROM keys WHERE user_id = ?1 AND key = ?2) ORDER BY id",
        (user_id, key),
    )
    return [job_from(row) for row in rows]


async def slurm_marks(store: Store) -> list[tuple[str, str]]:
    """Kind and name of everything that qpud has set in Slurm, or was about to set."""
    return [(row[0], row[1]) for row in await store.rows("SELECT kind, name FROM slurm_marks ORDER BY kind, name")]


async def resources_of(store: Store, session_id: str) -> list[str]:
    """The resources for which a session ever submitted."""
    statement = "SELECT DISTINCT resource FROM jobs WHERE session_id = ?"
    return [row[0] for row in await store.long_rows(statement, (session_id,))]
