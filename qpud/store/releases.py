"""SQL of held Slurm jobs, and of the jobs after whose ends they are released."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from qpud.store.jobs import add_event
from qpud.store.store import Store
from qpud.store.writer import Operation


class Promise(msgspec.Struct):
    """A Slurm job that is to be released, whose it is, and the ids of the jobs it waits for."""

    user_id: int
    jobs: set[int]


def submit(
    connection: sqlite3.Connection, *, submission: Operation[None], user_id: int, promises: Mapping[int, list[int]]
) -> None:
    """Store jobs, and which Slurm jobs are released after their ends, with a sentence in the story of each job."""
    submission(connection)
    for number, jobs in promises.items():
        connection.executemany(
            "INSERT INTO releases (slurm_job, job_id, user_id) VALUES (?, ?, ?)",
            [(number, job_id, user_id) for job_id in jobs],
        )
        connection.executemany(
            "INSERT INTO events (job_id, at, text) SELECT id, submitted_at, ? FROM jobs WHERE id = ?",
            [(f"Slurm job {number} stays held until this job and all others for it have ended", job) for job in jobs],
        )


def settle(connection: sqlite3.Connection, number: int, at: float, outcome: str) -> None:
    """Remember what became of a Slurm job, in the story of each of its jobs too; a second time changes nothing."""
    waiting = connection.execute(
        "SELECT job_id FROM releases WHERE slurm_job = ? AND settled_at IS NULL", (number,)
    ).fetchall()
    connection.execute(
        "UPDATE releases SET settled_at = ?, outcome = ? WHERE slurm_job = ? AND settled_at IS NULL",
        (at, outcome, number),
    )
    tell(connection, [row[0] for row in waiting], at, outcome)


def tell(connection: sqlite3.Connection, jobs: Iterable[int], at: float, text: str) -> None:
    """Put one sentence into the story of several jobs."""
    for job_id in jobs:
        add_event(connection, job_id, at, text)


async def unsettled(store: Store) -> dict[int, Promise]:
    """What is still to be released, by the number of the Slurm job."""
    found: dict[int, Promise] = {}
    rows = await store.rows("SELECT slurm_job, user_id, job_id FROM releases WHERE settled_at IS NULL")
    for number, user_id, job_id in rows:
        found.setdefault(number, Promise(user_id, set())).jobs.add(job_id)
    return found


async def endings(store: Store, number: int) -> dict[str, int]:
    """How many of the jobs that a Slurm job waits for are in which state."""
    found: defaultdict[str, int] = defaultdict(int)
    rows = await store.rows(
        "SELECT j.state FROM releases r JOIN jobs j ON j.id = r.job_id WHERE r.slurm_job = ? AND r.settled_at IS NULL",
        (number,),
    )
    for (state,) in rows:
        found[state] += 1
    return found
