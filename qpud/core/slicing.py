"""How many shots a slice holds: what a higher tier may be made to wait, against the overhead that a site accepts."""

from __future__ import annotations

from qpud.core.policy import QueuePolicy
from qpud.core.terms import UNLIMITED_SECONDS, PreemptMode

LONG = 5.0
"""Times SliceSeconds of a slice that nobody can want to end, and of one of a qc-heavy session."""
DEFAULT_SECONDS = 20.0
"""SliceSeconds of a queue that is not configured any more."""


class SliceLengths:
    """The lengths of slices under one policy, at one set-up time of a resource.

    Args:
        queues: The queues of the policy.
        setup_seconds: QPU seconds of a change of register, as measured.

    Attributes:
        quanta: Tier → its longest ordinary slice in QPU seconds, set-up included: the unit of its fairness.
    """

    def __init__(self, queues: dict[str, QueuePolicy], setup_seconds: float) -> None:
        self.queues = queues
        self.setup_seconds = setup_seconds
        self.quanta: dict[int, float] = {}
        self._ordinary: dict[str, float] = {}
        self._contended: dict[str, float] = {}
        for queue in queues.values():
            self._add(queue)

    def seconds(self, queue: str, *, is_heavy: bool, is_contended: bool) -> float:
        """QPU seconds of shots in the next slice of a job, set-up excluded; maybe less than one shot takes.

        SliceSeconds; LONG times that where nobody can come, or for a qc-heavy session; with others beside it at least
        so much that a set-up is no more than MaxSliceOverhead of it; and above all no more than a higher tier may be
        made to wait.

        Args:
            queue: Of the job.
            is_heavy: Whether its session is qc-heavy.
            is_contended: Whether others of its tier have work.
        """
        one = self.queues.get(queue)
        if one is None:
            return DEFAULT_SECONDS
        seconds = (self._contended if is_contended else self._ordinary)[queue]
        if is_heavy:
            seconds = max(seconds, LONG * one.slice_seconds)
        return min(seconds, self._longest(one))

    def _add(self, queue: QueuePolicy) -> None:
        part = queue.max_slice_overhead
        contended = max(queue.slice_seconds, self.setup_seconds * (1.0 - part) / part)
        self._contended[queue.name] = contended
        self._ordinary[queue.name] = queue.slice_seconds * (1.0 if self._can_be_outranked(queue) else LONG)
        quantum = contended + self.setup_seconds
        self.quanta[queue.priority_tier] = max(quantum, self.quanta.get(queue.priority_tier, 0.0))

    def _can_be_outranked(self, queue: QueuePolicy) -> bool:
        is_kept = queue.preempt_mode is PreemptMode.OFF
        return not is_kept and any(one.priority_tier > queue.priority_tier for one in self.queues.values())

    def _longest(self, queue: QueuePolicy) -> float:
        """Seconds for which a slice may keep a higher tier waiting."""
        if queue.preempt_mode is not PreemptMode.SLICE:
            return UNLIMITED_SECONDS  # it is not to be preempted, or cut in the middle
        above = (one for one in self.queues.values() if one.priority_tier > queue.priority_tier)
        return min((one.max_preempt_delay for one in above), default=UNLIMITED_SECONDS) - self.setup_seconds
