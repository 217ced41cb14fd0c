"""SQL of slices and the ledger. Each function is one step of a writer's operation."""

from __future__ import annotations

import json
import sqlite3

from qpud.core.errors import Conflict
from qpud.core.job import Job
from qpud.core.slices import Charge, Outcome, Slice, SliceState
from qpud.store.rows import SLICE_COLUMNS, marks, to_row

_INSERT = f"INSERT INTO slices ({SLICE_COLUMNS}) VALUES ({marks(SLICE_COLUMNS)})"  # noqa: S608  constants
_END = (
    "UPDATE slices SET state = ?, started_at = ?, ended_at = ?, shots_done = ?, qpu_seconds = ?, setup_seconds = ?,"
    " counts = ?, message = ?, spec_hash = ?, result = ? WHERE id = ? AND state IN ('INTENT', 'RUNNING', 'UNKNOWN')"
)


def insert(connection: sqlite3.Connection, new: Slice) -> None:
    """Store the intent to run a slice, before the driver is called."""
    connection.execute(_INSERT, to_row(new))


def set_running(connection: sqlite3.Connection, slice_id: int, device_id: str, started_at: float) -> None:
    """Store the resource's id of a slice in flight."""
    connection.execute(
        "UPDATE slices SET state = ?, device_id = ?, started_at = ? WHERE id = ? AND state IN ('INTENT', 'UNKNOWN')",
        (SliceState.RUNNING, device_id, started_at, slice_id),
    )


def set_unknown(connection: sqlite3.Connection, slice_id: int) -> None:
    """Store that the resource does not answer for a slice in flight."""
    connection.execute(
        "UPDATE slices SET state = ? WHERE id = ? AND state IN ('INTENT', 'RUNNING')", (SliceState.UNKNOWN, slice_id)
    )


def end(
    connection: sqlite3.Connection, ended: Slice, state: SliceState, outcome: Outcome, spec_hash: str | None
) -> None:
    """Store the end of a slice, once.

    Raises:
        Conflict: The slice had ended before: its shots are counted already.
    """
    shots = outcome.shots
    counts = json.dumps(outcome.counts) if outcome.counts else None
    times = (outcome.started_at, outcome.ended_at)
    costs = (outcome.qpu_seconds, outcome.setup_seconds)
    values = (state, *times, shots, *costs, counts, outcome.message, spec_hash, outcome.result, ended.id)
    if connection.execute(_END, values).rowcount != 1:
        raise Conflict(f"slice {ended.tag} has ended before")


def drop_intent(connection: sqlite3.Connection, slice_id: int, at: float, message: str) -> None:
    """Store that an intended slice never started; it counts nothing and costs nothing."""
    connection.execute(
        "UPDATE slices SET state = 'FAILED', ended_at = ?, message = ?"
        " WHERE id = ? AND state IN ('INTENT', 'RUNNING', 'UNKNOWN')",
        (at, message, slice_id),
    )


def add_to_ledger(connection: sqlite3.Connection, ended: Slice, job: Job, at: float, charge: Charge) -> None:
    """Charge a slice to its job's session; the unique slice id makes a second charge impossible."""
    connection.execute(
        "INSERT INTO ledger (at, slice_id, job_id, session_id, user_id, queue, resource, shots, qpu_seconds,"
        " setup_seconds, wasted_shots, wasted_seconds, account, slurm_job_id)"
        " SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, s.account, s.slurm_job_id"
        " FROM (SELECT 1) LEFT JOIN sessions s ON s.id = ?",
        (
            at,
            ended.id,
            job.id,
            job.session_id,
            job.user_id,
            job.queue,
            job.resource,
            charge.shots,
            charge.qpu_seconds,
            charge.setup_seconds,
            charge.wasted_shots,
            charge.wasted_seconds,
            job.session_id,
        ),
    )
