"""How many shots a slice holds: what a higher tier may be made to wait, against the overhead that a site accepts."""

from __future__ import annotations

from qpud.core.job import Job
from qpud.core.pace import Pace
from qpud.core.plan import tier
from qpud.core.policy import UNLIMITED_SECONDS, PreemptMode, QueuePolicy

LONG = 5.0
"""Times SliceSeconds of a slice that nobody can want to end, and of one of a qc-heavy session."""


def slice_seconds(job: Job, queues: dict[str, QueuePolicy], pace: Pace, *, long: bool, contended: bool) -> float:
    """QPU seconds of shots in the job's next slice, set-up excluded.

    SliceSeconds; LONG times that where nobody can come, or for a qc-heavy session; at least so much that set-up is
    no more than MaxSliceOverhead of it; and above all no more than a higher tier may be made to wait.

    Args:
        job: Whose slice it is.
        queues: The queues of the policy.
        pace: Of the resource.
        long: Whether the session is qc-heavy.
        contended: Whether others of its tier have work.
    """
    queue = queues.get(job.queue) or QueuePolicy(name=job.queue)
    seconds = queue.slice_seconds
    if long or not (contended or _can_be_outranked(queue, queues)):
        seconds *= LONG
    if contended:
        seconds = max(seconds, _least(queue, pace))
    return min(seconds, longest_wait(job, queues) - pace.setup_seconds)


def _least(queue: QueuePolicy, pace: Pace) -> float:
    """Seconds of shots that keep one set-up within MaxSliceOverhead."""
    part = queue.max_slice_overhead
    return pace.setup_seconds * (1.0 - part) / part


def _can_be_outranked(queue: QueuePolicy, queues: dict[str, QueuePolicy]) -> bool:
    if queue.preempt_mode is PreemptMode.OFF:
        return False
    return any(other.priority_tier > queue.priority_tier for other in queues.values())


def longest_wait(job: Job, queues: dict[str, QueuePolicy]) -> float:
    """Seconds for which a slice of this job may keep a higher tier waiting, set-up included."""
    queue = queues.get(job.queue)
    if queue is not None and queue.preempt_mode is not PreemptMode.SLICE:
        return UNLIMITED_SECONDS  # it is not to be preempted, or cut in the middle
    mine = tier(job, queues)
    return min(
        (other.max_preempt_delay for other in queues.values() if other.priority_tier > mine),
        default=UNLIMITED_SECONDS,
    )


def quanta(queues: dict[str, QueuePolicy], pace: Pace) -> dict[int, float]:
    """The longest ordinary slice of each tier in QPU seconds, set-up included: the unit of its fairness."""
    found: dict[int, float] = {}
    for queue in queues.values():
        seconds = max(queue.slice_seconds, _least(queue, pace)) + pace.setup_seconds
        found[queue.priority_tier] = max(seconds, found.get(queue.priority_tier, 0.0))
    return found
