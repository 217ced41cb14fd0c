"""What waits for a resource at one moment: the work of each tier, and where each one that shares stands."""

from __future__ import annotations

import math

import msgspec

from qpud.core.book import Book
from qpud.core.curve import Curve, Place
from qpud.core.fairshare import Contender, Group, sessions_in
from qpud.core.grip import grip_of
from qpud.core.job import Job
from qpud.core.line import Work
from qpud.core.load import QUIET, Load, Rates
from qpud.core.order import Newcomers
from qpud.core.passage import Coming
from qpud.core.plan import preempt_mode
from qpud.core.session import Hint
from qpud.core.slicing import SliceLengths
from qpud.core.terms import PreemptMode


class Tier(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of one tier; times are seconds of the clock.

    Where several share, each set-up lasts its quantum: `swell` is by how much that makes work longer.
    """

    number: int
    above: float  # waits in higher tiers
    quantum: float  # of a slice, set-up included
    swell: float
    crowd: int  # sessions with work
    joining: float  # factor on it if all had work who submitted lately, >= 1
    newcomers: Rates  # in higher tiers
    coming: Coming


class Survey:
    """The survey of one resource. Its cost is that of the sessions with work, however many jobs they have.

    Args:
        book: Everything unfinished.
        resource: Which one.
        now: Seconds since the epoch.

    Attributes:
        grip: Who has the resource.
        shot: Seconds of the clock that a shot takes; `setup` those of a register change.
        slower: Factor by which the pace may be worse than measured.
    """

    def __init__(self, book: Book, resource: str, now: float) -> None:
        self._book = book
        self._resource = resource
        self._now = now
        self._order = book.pending[resource]
        pace = book.flights[resource].pace
        self._wall = pace.wall
        self.shot = pace.wall / pace.shot_rate
        self.setup = pace.setup_seconds * pace.wall
        self.slower = 1.0 + pace.spread
        self._lengths = SliceLengths(book.policy.queues, pace.setup_seconds)
        self.grip = grip_of(book, resource, self._lengths, now)
        self._holder = None if self.grip.job is None else self._order.contender_of(self.grip.job)
        self._tiers: dict[int, Tier] = {}
        self._curves: dict[Group, Curve] = {}
        self._places: dict[Contender, Place] = {}
        self._look()

    @property
    def contenders(self) -> int:
        """How many sessions, users and accounts have work."""
        return len(self._places)

    def tier(self, number: int) -> Tier:
        """What is known of a tier; also of one that had no work."""
        known = self._tiers.get(number)
        if known is None:
            known = self._tiers[number] = self._tier_of(number, 0.0, 0, 0)
        return known

    def place(self, contender: Contender) -> Place:
        """Where a contender stands; one that came later stands at its beginning."""
        known = self._places.get(contender)
        if known is not None:
            return known
        group = contender.group
        begin = (contender.start - group.virtual) * self._wall
        above = None if group.owner is None else self.place(group.owner)
        return Place(contender.weight, begin, 0.0, self._curves.get(group) or Curve(), above)

    def seconds(self, work: Work, tier: Tier, *, is_shared: bool) -> float:
        """How long work takes."""
        return work.shots * self.shot * (tier.swell if is_shared else 1.0) + work.changes * self.setup

    def rest_of(self, contender: Contender | None, tier: Tier, *, is_shared: bool) -> float:
        """Seconds of the job that has the resource, after its grip, if it is the contender's."""
        if contender is None or contender is not self._holder:
            return 0.0
        return self.seconds(Work(self.grip.rest, 0), tier, is_shared=is_shared)

    def slice_of(self, job: Job, *, is_shared: bool) -> float:
        """Seconds of a slice of this job, set-up included; without limit where it is not preempted."""
        if preempt_mode(job, self._book.policy.queues) is PreemptMode.OFF:
            return math.inf
        session = self._book.sessions.get(job.session_id)
        is_heavy = session is not None and session.hint is Hint.QC_HEAVY and not self._book.interleaving
        seconds = self._lengths.seconds(job.queue, is_heavy=is_heavy, is_contended=is_shared) * self._wall
        return max(seconds, self.shot) + (self.setup if is_shared else 0.0)

    # -- tiers
    def _look(self) -> None:
        above = 0.0
        for number, top in self._order.tiers():
            sums: dict[Contender, float] = {}
            tier = self._tiers[number] = self._tier_of(number, above, *self._busy(top))
            above += sum(self._sum(one, tier, sums) for one in top.active.values())
            self._settle(top, sums, None)

    def _busy(self, top: Group) -> tuple[int, int]:
        """How many sessions have work, and of how many users."""
        found = [self._book.sessions.get(key) for key in sessions_in(top)]
        return len(found), len({session.user_id for session in found if session is not None})

    def _tier_of(self, number: int, above: float, crowd: int, busy_users: int) -> Tier:
        quantum = self._lengths.quanta.get(number, 0.0) * self._wall
        load = self._book.loads.get((self._resource, number)) or Load()
        newcomers, beside = self._from_above(number), load.rates(self._now) if self._order.tiers() else QUIET
        sessions = load.users(self._now) * max(1.0, crowd / max(1, busy_users))
        return Tier(
            number=number,
            above=above,
            quantum=quantum,
            swell=quantum / (quantum - self.setup) if quantum > self.setup else 1.0,
            crowd=crowd,
            joining=max(1.0, sessions / max(1, crowd)),
            newcomers=newcomers,
            coming=Coming(newcomers, beside),
        )

    def _from_above(self, number: int) -> Rates:
        """What comes in higher tiers. It changes the register, which has to be changed back."""
        total = QUIET
        if self._order.newcomers is Newcomers.LOWER_TIERS:
            for (resource, other), load in self._book.loads.items():
                if resource == self._resource and other > number:
                    rates = load.rates(self._now)
                    total = total.plus(Rates(rates.number, rates.seconds + rates.number * self.setup, rates.squares))
        return total

    def _sum(self, one: Contender, tier: Tier, sums: dict[Contender, float]) -> float:
        """Seconds of work of a contender and those it stands for; each one's is noted."""
        if one.members is not None:
            seconds = sum(self._sum(member, tier, sums) for member in one.members.active.values())
        else:
            is_shared = tier.crowd > 1
            seconds = self.seconds(one.work, tier, is_shared=is_shared) + self.rest_of(one, tier, is_shared=is_shared)
        sums[one] = seconds
        return seconds

    # -- places
    def _settle(self, group: Group, sums: dict[Contender, float], above: Place | None) -> None:
        """Place a group's members as if what has the resource were charged already."""
        charged, seconds = self._charged(group), self.grip.seconds / self._wall
        virtual = group.virtual + (seconds / group.total if charged is not None and group.total > 0 else 0.0)
        lines = []
        for one in group.active.values():
            start = one.start + (seconds / one.weight if one is charged else 0.0)
            begin = (start - virtual) * self._wall
            lines.append((one.weight, begin, begin + sums[one] / one.weight))
        curve = self._curves[group] = Curve(lines)
        for one, (weight, begin, _end) in zip(group.active.values(), lines, strict=True):
            place = self._places[one] = Place(weight, begin, sums[one], curve, above)
            if one.members is not None:
                self._settle(one.members, sums, place)

    def _charged(self, group: Group) -> Contender | None:
        """The member of a group for which the resource works."""
        one: Contender | None = self._holder
        while one is not None and one.group is not group:
            one = one.group.owner
        return one
