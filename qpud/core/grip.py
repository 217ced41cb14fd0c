"""Who has a resource, and for how long nobody can take it."""

from __future__ import annotations

import math

import msgspec

from qpud.core.book import Book, Flight
from qpud.core.job import Job
from qpud.core.order import Order
from qpud.core.plan import preempt_mode
from qpud.core.slicing import SliceLengths
from qpud.core.terms import PreemptMode
from qpud.core.turns import CUTTING

_FOREVER = float(2**53)


class Grip(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The job that has the resource. Times are seconds of the clock from now."""

    job: Job | None = None
    tier: int = 0
    seconds: float = 0.0  # until others may have it: the end of the slice in flight, or of the job
    cut_after: float = 0.0  # the same for a higher tier, which may cut the slice
    rest: int = 0  # its shots after `seconds`

    def before(self, tier: int) -> float:
        """Seconds until a job of this tier may have the resource."""
        return self.cut_after if tier > self.tier else self.seconds


FREE = Grip()


def grip_of(book: Book, resource: str, lengths: SliceLengths, now: float) -> Grip:
    """Who has a resource now.

    Args:
        book: Everything unfinished.
        resource: Which one.
        lengths: Of its slices.
        now: Seconds since the epoch.
    """
    flight, order, job = book.flights[resource], book.pending[resource], book.current(resource)
    if job is None:
        return FREE
    shots = _shots_in_flight(job, flight, order, lengths)
    seconds = max(0.0, _ends_at(shots, flight, now) - now)
    rest, shot = job.shots_left - shots, flight.pace.wall / flight.pace.shot_rate
    kept_for = _kept_until(job, flight, order, book) - now - seconds
    kept = min(rest, max(0, math.ceil(kept_for / shot)))
    seconds += kept * shot
    cut = min(seconds, _cut_after(job, flight, order, book, now))
    return Grip(job=job, tier=order.tier_of(job), seconds=seconds, cut_after=cut, rest=rest - kept)


def _shots_in_flight(job: Job, flight: Flight, order: Order, lengths: SliceLengths) -> int:
    if flight.slice is not None and flight.slice.job_id == job.id:
        return min(job.shots_left, flight.slice.shots)
    seconds = lengths.seconds(job.queue, is_heavy=False, is_contended=order.has_others(job))
    return min(job.shots_left, max(1, flight.pace.shots_in(seconds)))  # its intent is being committed


def _ends_at(shots: int, flight: Flight, now: float) -> float:
    if flight.slice is None or flight.is_unmanned:
        began = now  # nobody knows when a worker comes: now is the soonest
    else:
        began = flight.manned_at or flight.slice.started_at or flight.slice.intended_at
    return began + flight.pace.seconds(shots, flight.sets_up) * flight.pace.wall


def _kept_until(job: Job, flight: Flight, order: Order, book: Book) -> float:
    """Until when the job has the resource whoever waits, seconds since the epoch."""
    queue = book.policy.queues.get(job.queue)
    if order.runs_whole or preempt_mode(job, book.policy.queues) is PreemptMode.OFF:
        return _FOREVER
    return 0.0 if queue is None else flight.since + queue.preempt_exempt_time


def _cut_after(job: Job, flight: Flight, order: Order, book: Book, now: float) -> float:
    queue = book.policy.queues.get(job.queue)
    if order.runs_whole:
        return math.inf
    if flight.is_unmanned:
        return 0.0
    if queue is None or queue.preempt_mode not in CUTTING:
        return math.inf
    return max(queue.grace_time, flight.since + queue.preempt_exempt_time - now)
