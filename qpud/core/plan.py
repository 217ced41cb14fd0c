"""What a resource does next: pure functions of (state, policy, now).

Order is lexicographic: tier; then share, hint and batch affinity, which all rank 0 until the scheduling mind
arrives (their place is `Rank`); then first come first served. A job that has the resource keeps it until a higher
tier waits and its queue may be preempted: jobs of one tier never interrupt each other.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from qpud.core.job import Job, Reason
from qpud.core.policy import PreemptMode, QueuePolicy


class Rank(NamedTuple):
    """The sort key of a pending job; smaller goes first."""

    minus_tier: int
    share: float  # start tag of fair queueing; 0 until shares are scheduled
    submitted_at: float
    job_id: int


def rank(job: Job, queues: dict[str, QueuePolicy]) -> Rank:
    """Rank a job.

    Args:
        job: A job that may start.
        queues: The queues of the policy; a job of a queue that no longer exists ranks in tier 0.
    """
    return Rank(-tier(job, queues), 0.0, job.submitted_at, job.id)


def tier(job: Job, queues: dict[str, QueuePolicy]) -> int:
    """PriorityTier of the job's queue, 0 if the policy has no such queue any more."""
    queue = queues.get(job.queue)
    return queue.priority_tier if queue else 0


BLOCKING = frozenset({Reason.HELD, Reason.HELD_ADMIN, Reason.CANCELING, Reason.VALIDATING})


def may_run(job: Job) -> bool:
    """Whether nothing of the job's own keeps it from the resource: not ended, held, canceling or unvalidated."""
    return not job.is_terminal and job.reason not in BLOCKING and job.shots_left > 0


class Choice(msgspec.Struct, frozen=True):
    """Who gets the next slice; `preempts` is true if `current` could have gone on and yields to a higher tier."""

    job: Job
    preempts: bool


def choose(current: Job | None, head: Job | None, queues: dict[str, QueuePolicy]) -> Choice | None:
    """Decide at a slice boundary.

    Args:
        current: The job that had the last slice, as it is now; None if the resource was idle.
        head: The best of the pending jobs, or None.
        queues: The queues of the policy.

    Returns:
        The job of the next slice, or None if nothing can run.
    """
    if current is None or not may_run(current):
        return Choice(head, False) if head else None
    if head is None or not preempts(head, current, queues):
        return Choice(current, False)
    return Choice(head, True)


def preempts(newcomer: Job, current: Job, queues: dict[str, QueuePolicy]) -> bool:
    """Whether `newcomer` takes the resource from `current` at the next boundary."""
    queue = queues.get(current.queue)
    if queue is not None and queue.preempt_mode is PreemptMode.OFF:
        return False
    return tier(newcomer, queues) > tier(current, queues)


def slice_seconds(job: Job, queues: dict[str, QueuePolicy]) -> float:
    """SliceSeconds of the job's queue: QPU seconds a slice may last, set-up excluded."""
    queue = queues.get(job.queue)
    return (queue or QueuePolicy(name=job.queue)).slice_seconds


def slice_shots(job: Job, shots_per_slice: int) -> int:
    """Shots of the job's next slice: what is left, at most `shots_per_slice`, at least 1."""
    return min(job.shots_left, max(1, shots_per_slice))
