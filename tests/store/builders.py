"""Values to store, and stores to put them in."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from qpud.core.ids import job_uid
from qpud.core.job import Job
from qpud.core.session import Session
from qpud.core.slices import Slice
from qpud.store import jobs, sessions
from qpud.store.jobs import NewJob
from qpud.store.store import Store
from qpud.store.writer import Transaction


@asynccontextmanager
async def a_store(
    path: Path, on_commit: Callable[[int, float], None] = lambda _number, _seconds: None
) -> AsyncIterator[Store]:
    store = await Store.open(path / "state.sqlite", on_commit)
    try:
        yield store
    finally:
        await store.close()


def a_session(**changes: Any) -> Session:
    return Session(
        **{
            "id": "s1",
            "user_id": 1001,
            "user": "alice",
            "queue": "development",
            "opened_at": 1.0,
            "last_used_at": 1.0,
            "expires_at": 1e9,
            **changes,
        }
    )


def a_job(job_id: int = 1, **changes: Any) -> Job:
    return Job(
        **{
            "id": job_id,
            "uid": job_uid(job_id, 7),
            "session_id": "s1",
            "user_id": 1001,
            "queue": "development",
            "resource": "TWIN",
            "sequence_hash": "h",
            "register_hash": "r",
            "shots": 10,
            "submitted_at": float(job_id),
            **changes,
        }
    )


def a_slice(slice_id: int = 1, **changes: Any) -> Slice:
    return Slice(
        **{
            "id": slice_id,
            "job_id": 1,
            "number": 0,
            "resource": "TWIN",
            "tag": f"tag {slice_id}",
            "shots": 10,
            "first_shot": 0,
            "seed": 7,
            "intended_at": 1.0,
            **changes,
        }
    )


def insert(*ids: int, size: int = 0) -> Callable[[Transaction], None]:
    """An operation that stores jobs, with variables of some size, and their session if it is not there."""

    def operation(transaction: Transaction) -> None:
        with contextlib.suppress(sqlite3.IntegrityError):
            sessions.insert(transaction, a_session())
        for job_id in ids:
            jobs.insert(transaction, [NewJob(job=a_job(job_id), variables="x" * size or None, tags=None, seed=1)])

    return operation


def stored(path: Path, statement: str = "SELECT id FROM jobs ORDER BY id") -> list[Any]:
    """The first column of what another process would find."""
    with contextlib.closing(sqlite3.connect(path / "state.sqlite")) as database:
        return [row[0] for row in database.execute(statement)]
