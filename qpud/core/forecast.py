"""When each pending job will start and end: the queue in the limit of short slices, under the same rules.

Slice by slice it would take minutes to foresee a queue of 100 000 jobs. In the limit of short slices it takes sums:

    tier       what waits in higher tiers goes first: a sum (survey.py)
    share      within a tier everybody is served at his part (curve.py)
    session    what stands before a job in its session; without shares, in the whole queue (line.py)
    slices     a job starts with a slice, typically in the middle between its due time and its deadline
    newcomers  meanwhile higher tiers and others of its tier bring more (load.py, passage.py)
    windows    reservations of others push it back by their length

The latest times hold in CONFIDENCE of all cases (passage.py). They reckon with the deadline and a slice more if others
share, with a resource slower by the scatter of its pace, and with the scatter of what comes.

Nothing is foreseen of cancels, hints, MaxJobsPerUser and StarvationLimit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from qpud.core.book import Book
from qpud.core.curve import Place
from qpud.core.explain import reason, sentence
from qpud.core.fairshare import Contender, part_of
from qpud.core.job import Job, JobState, Reason
from qpud.core.line import NOTHING, Work
from qpud.core.order import Newcomers
from qpud.core.passage import LARGEST_LOAD
from qpud.core.plan import may_run
from qpud.core.reservations import Reservation, owns
from qpud.core.session import Session
from qpud.core.survey import Survey, Tier
from qpud.core.verbs import Forecast

SLACK_SECONDS = 1.0
"""What commits, the network and the start of a slice may add, is no broken promise."""
MOVED_BY = 50
"""A forecast is moved by at most this part of what stands before it; then one is worked out again."""
Closed = Sequence[tuple[float, float]]
"""Windows (begin, end) in which a job does not start, in order; seconds since the epoch."""


class _Lane(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the forecasts of the jobs of one contender, or without shares of one tier, have in common."""

    tier: Tier
    first: float  # seconds until the tier has its turn
    place: Place | None
    is_shared: bool
    most: float  # seconds that pass for one of the contender's own if all others have work all the time
    rest: float  # seconds of the job that has the resource, if it stands before the others
    slices: dict[str, float]  # seconds of a slice by queue
    before: str  # words before those on the jobs before it
    behind: str


class _WorkedOut(msgspec.Struct, frozen=True, gc=False):
    """A forecast by which those of like jobs behind it are told."""

    job: Job
    before: Work
    forecast: Forecast

    def holds_for(self, job: Job, before: Work) -> bool:
        """Whether a job is like it, and what stands before it not more by over a MOVED_BY-th."""
        mine, ahead = self.job, self.before.shots
        return (
            ahead <= before.shots <= ahead + ahead // MOVED_BY
            and job.shots == mine.shots
            and job.register_hash == mine.register_hash
            and job.queue == mine.queue
            and job.reason is mine.reason
        )

    def moved(self, before: Work) -> Forecast:
        """The forecast, later by the jobs between."""
        known, jobs = self.forecast, (before.shots - self.before.shots) / self.job.shots
        start, end, latest, end_latest = known.start, known.end, known.start_latest, known.end_latest
        if start is None or end is None or latest is None or end_latest is None:
            return known
        each, each_late = jobs * (end - start), jobs * (end_latest - latest)
        return Forecast(start + each, latest + each_late, end + each, end_latest + each_late, known.reason)


class Prospect:
    """What is foreseen of one resource at one moment.

    Args:
        book: Everything unfinished.
        resource: Which one.
        now: Seconds since the epoch.
    """

    def __init__(self, book: Book, resource: str, now: float) -> None:
        self.at = now
        self.order = book.pending[resource]
        self._book = book
        self._resource = resource
        self._flight = book.flights[resource]
        self._closed: dict[str, Closed] = {}  # session → reservations of others
        self._survey = Survey(book, resource, now)
        self._lanes: dict[Contender | int, _Lane] = {}
        self._length = len(self.order)
        self._worked_out: dict[str, _WorkedOut] = {}  # session → its newest forecast that is no other one, moved

    @property
    def contenders(self) -> int:
        """How many sessions, users and accounts had work: the cost of a prospect goes with it."""
        return self._survey.contenders

    def has_moved_on(self) -> bool:
        """Whether another job has the resource now."""
        holder = self._survey.grip.job
        return self._flight.job_id != (holder.id if holder else None)

    def is_outgrown(self) -> bool:
        """Whether the queue is longer or shorter now by more than a tenth."""
        return abs(len(self.order) - self._length) * 10 > self._length

    def of(self, job: Job) -> Forecast:
        """The forecast of an unfinished job of this resource; it may have come after this moment."""
        own = self.order.work_of(job)
        return self._forecast(job, self.order.work_before(job), own if own.shots else Work(job.shots_left, 0))

    def of_newest(self, job: Job) -> Forecast:
        """The forecast of a job that was submitted just now.

        Of a scan, whose jobs are alike and come one after the other, not each one is worked out: those behind one that
        was are later by what stands between.
        """
        before, known = self.order.work_before(job), self._worked_out.get(job.session_id)
        if known is not None and known.holds_for(job, before):
            return known.moved(before)
        forecast = self.of(job)
        if forecast.start_latest is not None and not self._book.reservations:
            self._worked_out[job.session_id] = _WorkedOut(job, before, forecast)
        return forecast

    def in_order(self, jobs: Iterable[Job]) -> list[Forecast]:
        """The forecasts of the first jobs of the queue, or of all, as the order itself gives them.

        What stands before each is added up, not asked for: that is several times faster.
        """
        if self.order.newcomers is Newcomers.OTHER_SESSIONS:
            return [self.of(job) for job in jobs]
        found, ahead = [], dict[Contender | None, Work]()
        for job in jobs:
            own, contender = self.order.work_of(job), self.order.contender_of(job)
            before = ahead.get(contender, NOTHING)
            ahead[contender] = Work(before.shots + own.shots, before.changes + own.changes)
            found.append(self._forecast(job, before, own if own.shots else Work(job.shots_left, 0)))
        return found

    def all(self) -> dict[int, Forecast]:
        """The forecasts of all queued jobs, in one walk."""
        return {job.id: self._forecast(job, before, own) for job, before, own in self.order.walk()}

    # -- one job
    def _forecast(self, job: Job, before: Work, own: Work) -> Forecast:
        if why := self._why_never(job):
            return Forecast(None, None, None, None, why)
        survey, holder = self._survey, self._survey.grip.job
        lane = self._lane(job)
        ahead = survey.seconds(before, lane.tier, is_shared=lane.is_shared)
        first = lane.first
        if holder is None or holder.id != job.id:
            ahead += lane.rest
            if not ahead and job.register_hash == self._flight.register:
                own = Work(own.shots, 0)  # it is loaded
        else:
            first, own = survey.grip.seconds, Work(survey.grip.rest, 0)
        length = survey.seconds(own, lane.tier, is_shared=lane.is_shared)
        return self._told(job, lane, first, ahead, length)

    def _why_never(self, job: Job) -> str:
        flight = self._flight
        if flight.state == "up" and flight.drained is None and may_run(job):
            return ""
        word = reason(job, self._book, self.at)
        if word is Reason.NONE:  # what has the resource runs, but nobody can tell whether it goes on
            word = Reason.DRAINED if flight.shown_state == "drained" else Reason.DOWN
        return sentence(job, self._book, self._book.policy, self.at, word).removeprefix("waits: ")

    def _told(self, job: Job, lane: _Lane, first: float, ahead: float, length: float) -> Forecast:
        start: float | None
        start_latest: float | None
        end: float | None
        end_latest: float | None
        start, start_latest = self._start(job, lane, first, ahead, length)
        end, end_latest = self._end(job, lane, first, ahead, length)
        if job.state is JobState.RUNNING:
            start = start_latest = None
        if closed := self._closed_to(job):
            start, start_latest = after(self.at, start, closed), after(self.at, start_latest, closed)
            end, end_latest = after(self.at, end, closed), after(self.at, end_latest, closed)
        if not self._is_bounded(job):
            start_latest = end_latest = None
        words = f"{in_words(ahead)} of {'its own session' if lane.place else 'jobs before it'}" if ahead >= 1 else ""
        why = ", ".join([part for part in (self._about_worker(job), lane.before, words, lane.behind) if part])
        return Forecast(start, start_latest, end, end_latest, why or f"{self._resource} is free")

    def _start(self, job: Job, lane: _Lane, first: float, ahead: float, length: float) -> tuple[float, float]:
        place = lane.place
        if place is None or not lane.is_shared:
            return self._times(lane, first, ahead, ahead, ahead)
        turn = max(min(length, self._slice(job, lane)), lane.tier.quantum)
        middle = place.elapsed(ahead + turn / 2) - turn / 2
        due = place.elapsed(ahead + turn) + _late(lane)
        return self._times(lane, first, middle, due, ahead + turn / 2)

    def _end(self, job: Job, lane: _Lane, first: float, ahead: float, length: float) -> tuple[float, float]:
        place, whole = lane.place, ahead + length
        if place is None or not lane.is_shared:
            return self._times(lane, first, whole, whole, whole)
        piece = self._slice(job, lane)
        last = length if length <= piece else length - piece * (math.ceil(length / piece) - 1)
        turn = max(last, lane.tier.quantum)
        begin = whole - last
        middle = place.elapsed(begin + turn / 2) - turn / 2 + last
        due = place.elapsed(begin + turn) + _late(lane) + last
        return self._times(lane, first, middle, due, whole)

    def _slice(self, job: Job, lane: _Lane) -> float:
        seconds = lane.slices.get(job.queue)
        if seconds is None:
            seconds = lane.slices[job.queue] = self._survey.slice_of(job, is_shared=lane.is_shared)
        return seconds

    def _times(self, lane: _Lane, first: float, middle: float, due: float, own: float) -> tuple[float, float]:
        worst = (first + due) * self._survey.slower
        usual, latest = lane.tier.coming.times(middle, first + middle, worst, own, lane.most)
        return self.at + usual, self.at + latest + SLACK_SECONDS

    def _closed_to(self, job: Job) -> Closed:
        if not self._book.reservations:
            return ()
        known = self._closed.get(job.session_id)
        if known is None:
            session, all_of_them = self._book.sessions.get(job.session_id), self._book.reservations.values()
            windows = ((one.starts_at, one.ends_at) for one in all_of_them if self._bars(one, session))
            known = self._closed[job.session_id] = sorted(windows)
        return known

    def _bars(self, reservation: Reservation, session: Session | None) -> bool:
        return reservation.resource == self._resource and not owns(reservation, session)

    @property
    def _waits_for_worker(self) -> bool:
        return self._flight.is_unmanned and self._survey.grip.job is not None

    def _about_worker(self, job: Job) -> str:
        holder = self._survey.grip.job
        if holder is None or not self._waits_for_worker:
            return ""
        return f"{'its slice' if holder.id == job.id else f'the slice of job {holder.id}'} waits for a worker"

    def _is_bounded(self, job: Job) -> bool:
        """Whether anybody can say when its turn comes at the latest."""
        if self._waits_for_worker:
            return False
        if self.order.newcomers is not Newcomers.OTHER_SESSIONS:
            return self.order.newcomers is not Newcomers.ANYBODY
        holder = self._survey.grip.job
        return holder is None or holder.session_id == job.session_id

    # -- what jobs have in common
    def _lane(self, job: Job) -> _Lane:
        contender = self.order.contender_of(job)
        key = self.order.tier_of(job) if contender is None else contender
        known = self._lanes.get(key)
        if known is None:
            known = self._lanes[key] = self._new_lane(job, contender)
        return known

    def _new_lane(self, job: Job, contender: Contender | None) -> _Lane:
        survey, tier = self._survey, self._survey.tier(self.order.tier_of(job))
        is_shared = contender is not None and self.order.has_others(job)
        wait = survey.grip.before(tier.number)
        return _Lane(
            tier=tier,
            first=wait + tier.above,
            place=None if contender is None else survey.place(contender),
            is_shared=is_shared,
            most=1.0 if contender is None else tier.joining / part_of(contender),
            rest=survey.rest_of(contender, tier, is_shared=is_shared),
            slices={},
            before=self._about_before(tier, wait),
            behind=self._about_others(tier, contender),
        )

    def _about_before(self, tier: Tier, wait: float) -> str:
        holder = self._survey.grip.job
        parts = []
        if wait >= 1 and holder is not None:
            parts.append(f"{in_words(wait)} of job {holder.id}, which has {self._resource}")
        if tier.above >= 1:
            parts.append(f"{in_words(tier.above)} of higher tiers")
        return ", ".join(parts)

    def _about_others(self, tier: Tier, contender: Contender | None) -> str:
        parts = []
        others = 0 if contender is None else max(tier.crowd, len(contender.group.active)) - 1
        if others >= 1 and contender is not None:
            who = "1 other of its tier shares" if others == 1 else f"{others} others of its tier share"
            parts.append(f"{who} {self._resource}, {100 * part_of(contender):.0f} % is its part")
        if tier.newcomers.seconds >= 0.01:
            parts.append(
                f"higher tiers bring {100 * min(tier.newcomers.seconds, LARGEST_LOAD):.0f} % of the time more"
            )
        return ", ".join(parts)


def _late(lane: _Lane) -> float:
    """Seconds by which a slice may begin after it is due: one that began before may still run, a slice at most."""
    return lane.tier.quantum


def after(now: float, at: float | None, closed: Closed) -> float | None:
    """A moment, later by the windows that are closed until then.

    Args:
        now: Seconds since the epoch.
        at: The moment if nothing were closed, >= now; None stays None.
        closed: In order, without overlaps.
    """
    if at is None:
        return None
    for begin, end in closed:
        if end > now and at >= begin:
            at += end - max(begin, now)
    return at


def in_words(seconds: float) -> str:
    """About so long: 40 s, 12 min, 3 h, 2 days."""
    for unit, word in ((86_400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {word}"
    return f"{seconds:.0f} s"
