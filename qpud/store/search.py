"""What clients ask of batches and of their jobs: SELECTs over the read-only connection, with filters and pages."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from qpud.core.batch import Batch
from qpud.core.job import Job
from qpud.core.verbs import BatchFilter, JobSearch
from qpud.store.rows import BATCH_COLUMNS, JOB_COLUMNS, batch_from, job_from
from qpud.store.store import Store

Clauses = list[tuple[str, tuple[Any, ...]]]

_UNFINISHED = "SELECT 1 FROM jobs j WHERE j.batch_id = batches.id AND j.state IN ('PENDING', 'RUNNING')"
_STATE = f"""CASE
  WHEN closed_at IS NULL OR EXISTS ({_UNFINISHED}) THEN
    CASE WHEN EXISTS (SELECT 1 FROM jobs j WHERE j.batch_id = batches.id AND j.state != 'PENDING')
      THEN 'RUNNING' ELSE 'PENDING' END
  WHEN EXISTS (SELECT 1 FROM jobs j WHERE j.batch_id = batches.id AND j.state = 'ERROR') THEN 'ERROR'
  WHEN EXISTS (SELECT 1 FROM jobs j WHERE j.batch_id = batches.id AND j.state = 'DONE') THEN 'DONE'
  WHEN EXISTS (SELECT 1 FROM jobs j WHERE j.batch_id = batches.id) THEN 'CANCELED'
  WHEN close_reason = 'complete' THEN 'DONE' ELSE 'CANCELED' END"""  # noqa: S608  constants; core.batch.state_of in SQL


async def batch(store: Store, batch_id: str) -> Batch | None:
    """One batch by its id, closed ones too."""
    rows = await store.rows(f"SELECT {BATCH_COLUMNS} FROM batches WHERE id = ?", (batch_id,))  # noqa: S608  constants
    return batch_from(rows[0]) if rows else None


async def jobs_of(store: Store, batch_ids: Sequence[str]) -> list[Job]:
    """All jobs of some batches, oldest first."""
    found: list[Job] = []
    for start in range(0, len(batch_ids), 500):
        some = tuple(batch_ids[start : start + 500])
        rows = await store.rows(
            f"SELECT {JOB_COLUMNS} FROM jobs WHERE batch_id IN ({_marks(some)}) ORDER BY id",  # noqa: S608  marks only
            some,
        )
        found += [job_from(row) for row in rows]
    return found


async def batches(store: Store, which: BatchFilter) -> tuple[list[Batch], int]:
    """A page of batches, newest first, and how many there are in all."""
    where, parameters = _joined(_batch_clauses(which))
    total = (await store.long_rows(f"SELECT count(*) FROM batches WHERE {where}", parameters))[0][0]  # noqa: S608  constants
    rows = await store.long_rows(
        f"SELECT {BATCH_COLUMNS} FROM batches WHERE {where} ORDER BY opened_at DESC, id LIMIT ? OFFSET ?",  # noqa: S608  constants
        (*parameters, which.limit, which.offset),
    )
    return [batch_from(row) for row in rows], total


async def jobs(store: Store, which: JobSearch) -> tuple[list[Job], int]:
    """A page of jobs, and how many there are in all."""
    where, parameters = _joined(_job_clauses(which))
    order = "ASC" if which.oldest_first else "DESC"
    total = (await store.long_rows(f"SELECT count(*) FROM jobs WHERE {where}", parameters))[0][0]  # noqa: S608  constants
    rows = await store.long_rows(
        f"SELECT {JOB_COLUMNS} FROM jobs WHERE {where} ORDER BY id {order} LIMIT ? OFFSET ?",  # noqa: S608  constants
        (*parameters, which.limit, which.offset),
    )
    return [job_from(row) for row in rows], total


async def sequence_texts(store: Store, hashes: Collection[str]) -> dict[str, str]:
    """The texts of stored sequences by hash."""
    found: dict[str, str] = {}
    wanted = tuple(hashes)
    for start in range(0, len(wanted), 500):
        some = wanted[start : start + 500]
        rows = await store.rows(f"SELECT hash, text FROM sequences WHERE hash IN ({_marks(some)})", some)  # noqa: S608  marks only
        found |= {row[0]: row[1] for row in rows}
    return found


async def job_variables(store: Store, jobs: Sequence[Job]) -> dict[int, dict[str, Any]]:
    """The variables of those jobs that have any, by job id."""
    found: dict[int, dict[str, Any]] = {}
    for start in range(0, len(jobs), 500):
        some = tuple(job.id for job in jobs[start : start + 500])
        rows = await store.rows(
            f"SELECT id, variables FROM jobs WHERE variables IS NOT NULL AND id IN ({_marks(some)})",  # noqa: S608  marks only
            some,
        )
        found |= {row[0]: json.loads(row[1]) for row in rows}
    return found


async def job_messages(store: Store, jobs: Sequence[Job]) -> dict[int, str]:
    """The sentences of those jobs that have one, by job id."""
    failed = tuple(job.id for job in jobs if job.is_terminal)[:1000]
    if not failed:
        return {}
    rows = await store.rows(
        f"SELECT id, message FROM jobs WHERE message != '' AND id IN ({_marks(failed)})",  # noqa: S608  marks only
        failed,
    )
    return {row[0]: row[1] for row in rows}


def _batch_clauses(which: BatchFilter) -> Clauses:
    clauses = [
        *_equal("user_id", which.user_id),
        *_among("id", which.ids),
        *_among("resource", which.resources),
        *_among("coalesce(project, '')", which.projects),
        *_between("opened_at", which.after, which.before),
        *_among(_STATE, which.states),
    ]
    if which.is_open is not None:
        clauses.append((f"closed_at IS {'' if which.is_open else 'NOT '}NULL", ()))
    if which.tag is not None:
        clauses.append(("instr(tags, ?) > 0", (json.dumps(which.tag),)))
    return clauses


def _job_clauses(which: JobSearch) -> Clauses:
    clauses = [
        *_equal("user_id", which.user_id),
        *_among("id", which.ids),
        *_among("batch_id", which.batch_ids),
        *_among("state", which.states),
        *_among("coalesce((SELECT project FROM batches b WHERE b.id = jobs.batch_id), '')", which.projects),
        *_between("submitted_at", which.after, which.before),
        *_between("shots", which.least_shots, which.most_shots),
    ]
    if which.failed is not None:
        clauses.append((f"(state = 'ERROR') = {int(which.failed)}", ()))
    return clauses


def _equal(column: str, value: Any) -> Clauses:
    return [] if value is None else [(f"{column} = ?", (value,))]


def _among(column: str, values: tuple[Any, ...]) -> Clauses:
    return [(f"{column} IN ({_marks(values)})", tuple(values))] if values else []


def _between(column: str, least: float | None, most: float | None) -> Clauses:
    found: Clauses = [] if least is None else [(f"{column} >= ?", (least,))]
    return found if most is None else [*found, (f"{column} <= ?", (most,))]


def _joined(clauses: Clauses) -> tuple[str, tuple[Any, ...]]:
    where = " AND ".join(clause for clause, _ in clauses) or "1"
    return where, tuple(value for _, values in clauses for value in values)


def _marks(values: tuple[Any, ...]) -> str:
    return ", ".join("?" * len(values))
