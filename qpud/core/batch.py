"""Batches: jobs that belong together, closed at once or open for more.

An open batch is a lease on nothing: it never holds the resource, other jobs run between its own, and it closes by
itself when nobody uses it. Its state is that of its jobs; while it is open it is never over.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from qpud.core.job import TERMINAL, JobState


class BatchEnd(enum.StrEnum):
    """Why a batch takes no more jobs."""

    COMPLETE = "complete"  # its owner said so, at once for a batch that never was open
    CANCELED = "canceled"
    IDLE = "idle_timeout"
    SESSION = "session_ended"


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of one session for one resource. Times are float seconds since the epoch, UTC.

    `last_used_at` moves with each submission and each job's end; BatchIdleTimeout after it an open batch closes,
    unless jobs are unfinished.
    """

    id: str  # uuid; of a batch that was closed with one job, that job's
    session_id: str
    user_id: int
    resource: str
    name: str | None = None
    tags: tuple[str, ...] = ()
    project: str | None = None  # the cloud dialect's word, kept as it came
    sequence_hash: str | None = None  # of the sequence that jobs have which bring none
    opened_at: float
    last_used_at: float
    closed_at: float | None = None
    close_reason: BatchEnd | None = None

    @property
    def is_open(self) -> bool:
        """Whether more jobs may be added."""
        return self.closed_at is None


def idle_deadline(batch: Batch, idle_timeout_seconds: float) -> float:
    """Seconds since the epoch at which an unused open batch closes."""
    return batch.last_used_at + idle_timeout_seconds


def state_of(batch: Batch, states: Iterable[JobState]) -> JobState:
    """What a batch is, by the states of its jobs.

    One failed job makes it ERROR, one that has its counts DONE; only a batch without either is CANCELED.
    """
    found = set(states)
    unfinished = found - TERMINAL
    if unfinished or batch.is_open:
        return JobState.PENDING if found <= {JobState.PENDING} else JobState.RUNNING
    for state in (JobState.ERROR, JobState.DONE, JobState.CANCELED):
        if state in found:
            return state
    return JobState.DONE if batch.close_reason is BatchEnd.COMPLETE else JobState.CANCELED
