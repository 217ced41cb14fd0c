"""Accounting SELECTs: closed sessions and their jobs, as sites report them."""

from __future__ import annotations

from typing import Any

from qpud.core.job import JobState
from qpud.core.verbs import AccountingFilter, JobSum, SessionSum, StateSum, UserSum
from qpud.store.rows import JOB_COLUMNS, SESSION_COLUMNS, Row, job_from, session_from
from qpud.store.store import Store

_EXECUTION = "coalesce(j.ended_at - j.started_at, 0)"
_WAIT = "coalesce(j.started_at, j.ended_at) - j.submitted_at"


def _prefixed(columns: str, table: str) -> str:
    return ", ".join(f"{table}.{column.strip()}" for column in columns.split(","))


def _session_filter(which: AccountingFilter) -> tuple[str, tuple[Any, ...]]:
    clauses = ["s.closed_at IS NOT NULL"]
    parameters: list[Any] = []
    if which.user_ids:
        clauses.append(f"s.user_id IN ({', '.join('?' * len(which.user_ids))})")
        parameters.extend(which.user_ids)
    for clause, value in (
        ("s.id = ?", which.session_id),
        ("s.slurm_job_id = ?", which.slurm_job_id),
        ("s.closed_at >= ?", which.ended_after),
        ("s.closed_at <= ?", which.ended_before),
    ):
        if value is not None:
            clauses.append(clause)
            parameters.append(value)
    return " AND ".join(clauses), tuple(parameters)


async def users(store: Store, which: AccountingFilter) -> tuple[list[UserSum], int]:
    """Sums per user, by user id, and how many users there are."""
    where, parameters = _session_filter(which)
    total = (await store.rows(f"SELECT count(DISTINCT s.user_id) FROM sessions s WHERE {where}", parameters))[0][0]  # noqa: S608  constants
    rows = await store.rows(
        f"SELECT s.user_id, count(*), sum(s.closed_at - s.opened_at) FROM sessions s WHERE {where}"  # noqa: S608  constants
        " GROUP BY s.user_id ORDER BY s.user_id LIMIT ? OFFSET ?",
        (*parameters, which.limit, which.offset),
    )
    states = await _states(store, where, parameters)
    sums = [
        UserSum(user_id=row[0], sessions=row[1], session_seconds=row[2], states=states.get(row[0], [])) for row in rows
    ]
    return sums, total


async def _states(store: Store, where: str, parameters: tuple[Any, ...]) -> dict[int, list[StateSum]]:
    rows = await store.rows(
        f"SELECT s.user_id, j.state, count(*), sum({_EXECUTION}), sum({_WAIT}), sum(j.shots_done)"  # noqa: S608  constants
        f" FROM sessions s JOIN jobs j ON j.session_id = s.id WHERE {where}"
        " GROUP BY s.user_id, j.state ORDER BY j.state",
        parameters,
    )
    sums: dict[int, list[StateSum]] = {}
    for user_id, *row in rows:
        sums.setdefault(user_id, []).append(_state_sum(row))
    return sums


def _state_sum(row: Row) -> StateSum:
    state, count, execution, wait, shots = row
    return StateSum(
        state=JobState(state), count=count, execution_seconds=execution, wait_seconds=wait or 0.0, shots=shots
    )


async def sessions(store: Store, which: AccountingFilter) -> tuple[list[SessionSum], int]:
    """Closed sessions, latest closed first, and how many there are."""
    where, parameters = _session_filter(which)
    total = (await store.rows(f"SELECT count(*) FROM sessions s WHERE {where}", parameters))[0][0]  # noqa: S608  constants
    rows = await store.rows(
        f"SELECT {_prefixed(SESSION_COLUMNS, 's')}, (SELECT count(*) FROM jobs j WHERE j.session_id = s.id)"  # noqa: S608  constants
        f" FROM sessions s WHERE {where} ORDER BY s.closed_at DESC, s.id LIMIT ? OFFSET ?",
        (*parameters, which.limit, which.offset),
    )
    return [SessionSum(session=session_from(row[:-1]), jobs=row[-1]) for row in rows], total


async def jobs(store: Store, which: AccountingFilter) -> tuple[list[JobSum], int]:
    """Jobs of closed sessions, newest first, and how many there are."""
    where, parameters = _session_filter(which)
    if which.states:
        where += f" AND j.state IN ({', '.join('?' * len(which.states))})"
        parameters = (*parameters, *which.states)
    source = f"FROM jobs j JOIN sessions s ON s.id = j.session_id WHERE {where}"
    total = (await store.rows(f"SELECT count(*) {source}", parameters))[0][0]
    rows = await store.rows(
        f"SELECT {_prefixed(JOB_COLUMNS, 'j')}, {_EXECUTION}, {_WAIT} {source} ORDER BY j.id DESC LIMIT ? OFFSET ?",
        (*parameters, which.limit, which.offset),
    )
    return [
        JobSum(job=job_from(row[:-2]), execution_seconds=row[-2], wait_seconds=row[-1] or 0.0) for row in rows
    ], total
