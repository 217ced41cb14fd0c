"""What profiles and bundles are made of: SELECTs over the read-only connection; and the specs, once per hash."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from typing import Any

from qpud.core.profile import JobTimes, SliceTimes
from qpud.store.store import Store

_JOB = "id, session_id, name, resource, state, shots_done, submitted_at, ended_at, check_seconds"
_SLICE = "job_id, number, shots, shots_done, state, intended_at, started_at, ended_at, qpu_seconds, setup_seconds"
_OF_SLICE = (
    "number",
    "state",
    "shots",
    "shots_done",
    "first_shot",
    "seed",
    "device_id",
    "intended_at",
    "started_at",
    "ended_at",
    "qpu_seconds",
    "setup_seconds",
    "message",
    "spec_hash",
    "counts",
)


def add_spec(connection: sqlite3.Connection, spec: tuple[str, str, str], resource: str, now: float) -> None:
    """Keep the text of a device spec (hash, name, text), once."""
    connection.execute(
        "INSERT OR IGNORE INTO specs (hash, name, text, resource, seen_at) VALUES (?, ?, ?, ?, ?)",
        (*spec, resource, now),
    )


async def spec(store: Store, spec_hash: str) -> tuple[str, str] | None:
    """Name and text of a device spec; None if it was never kept: qpud before schema 4 did not."""
    rows = await store.rows("SELECT name, text FROM specs WHERE hash = ?", (spec_hash,))
    return (rows[0][0], rows[0][1]) if rows else None


async def times_of_session(store: Store, session_id: str, most: int) -> list[JobTimes]:
    """The newest jobs of a session with their slices, oldest first."""
    where = "id IN (SELECT id FROM jobs WHERE session_id = ? ORDER BY id DESC LIMIT ?)"
    return await _times(store, where, (session_id, most))


async def times_of_jobs(store: Store, ids: tuple[int, ...]) -> list[JobTimes]:
    """Some jobs with their slices, oldest first."""
    return await _times(store, f"id IN ({', '.join('?' * len(ids))})", ids)


async def _times(store: Store, where: str, parameters: tuple[Any, ...]) -> list[JobTimes]:
    jobs = await store.rows(f"SELECT {_JOB} FROM jobs WHERE {where} ORDER BY id", parameters)  # noqa: S608  constants
    slices = await store.rows(
        f"SELECT {_SLICE} FROM slices WHERE job_id IN (SELECT id FROM jobs WHERE {where}) ORDER BY job_id, number",  # noqa: S608  constants
        parameters,
    )
    by_job: defaultdict[int, list[SliceTimes]] = defaultdict(list)
    for row in slices:
        found = SliceTimes(**dict(zip(SliceTimes.__struct_fields__, row, strict=True)))
        by_job[found.job_id].append(found)
    return [JobTimes(**dict(zip(_JOB.split(", "), row, strict=True)), slices=tuple(by_job[row[0]])) for row in jobs]


async def slices_with_counts(store: Store, job_id: int) -> list[dict[str, Any]]:
    """All that is stored of a job's slices, in order."""
    rows = await store.rows(
        f"SELECT {', '.join(_OF_SLICE)} FROM slices WHERE job_id = ? ORDER BY number",  # noqa: S608  constants
        (job_id,),
    )
    found = [dict(zip(_OF_SLICE, row, strict=True)) for row in rows]
    return [{**one, "counts": json.loads(one["counts"]) if one["counts"] else {}} for one in found]
