"""The rules that every scheduler obeys: who may run at all, who stands in which tier, who may be preempted."""

from __future__ import annotations

from typing import NamedTuple

from qpud.core.job import Job, Reason
from qpud.core.policy import QueuePolicy
from qpud.core.terms import PreemptMode


class Rank(NamedTuple):
    """The sort key of a job that waits for its verdict; smaller goes first."""

    minus_tier: int
    submitted_at: float
    job_id: int


def rank(job: Job, queues: dict[str, QueuePolicy]) -> Rank:
    """Rank a job: tier, then first come first served.

    Args:
        job: An unfinished job.
        queues: The queues of the policy; a job of a queue that no longer exists ranks in tier 0.
    """
    return Rank(-tier(job, queues), job.submitted_at, job.id)


def tier(job: Job, queues: dict[str, QueuePolicy]) -> int:
    """PriorityTier of the job's queue, 0 if the policy has no such queue any more."""
    queue = queues.get(job.queue)
    return queue.priority_tier if queue else 0


BLOCKING = frozenset({Reason.HELD, Reason.HELD_ADMIN, Reason.CANCELING, Reason.VALIDATING})


def may_run(job: Job) -> bool:
    """Whether nothing of the job's own keeps it from the resource: not ended, held, canceling or unvalidated."""
    return not job.is_terminal and job.reason not in BLOCKING and job.shots_left > 0


def preempt_mode(job: Job, queues: dict[str, QueuePolicy]) -> PreemptMode:
    """PreemptMode of the job's queue; SLICE if the policy has no such queue any more."""
    queue = queues.get(job.queue)
    return queue.preempt_mode if queue else PreemptMode.SLICE


def preempts(newcomer_tier: int, current: Job, current_tier: int, queues: dict[str, QueuePolicy]) -> bool:
    """Whether a waiting job of `newcomer_tier` takes the resource from `current` sooner or later."""
    return newcomer_tier > current_tier and preempt_mode(current, queues) is not PreemptMode.OFF
