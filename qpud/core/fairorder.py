"""The scheduler `share`: tiers, then fair shares, then set-up, hints and age. Each is asked only where the one before
leaves a choice.

    tier       a higher one always goes first; StarvationLimit may lift a job
    share      fairshare.py says who may have the next slice so that nobody falls behind his due
    set-up     of those, who needs the register that is loaded, if another one costs time
    hint       cc-heavy by nodes held ÷ work left (Smith's rule: the least node-seconds wait), then qc-balanced by the
               classical seconds that follow ÷ work left (Johnson's rule: a classical phase overlaps another's shots)
    priority   of the Slurm job, with SlurmPriority
    due        whose share is due first
    age        the oldest job

Within a session the job that has begun goes first, then the oldest; jobs of the loaded register may overtake older
ones a bounded number of times.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from qpud.core.fairshare import Contender, Group, activate, charge, part_of, retire
from qpud.core.job import Job, JobState
from qpud.core.leaf import Leaf
from qpud.core.line import NOTHING, Work
from qpud.core.order import Ask, Newcomers, SessionOf, ShareRow
from qpud.core.pick import pick
from qpud.core.plan import tier
from qpud.core.policy import Policy
from qpud.core.session import Session
from qpud.core.slicing import DEFAULT_SECONDS
from qpud.core.terms import UNLIMITED_SECONDS, FairShareBy
from qpud.core.usage import Usage, of_account, of_member, of_user
from qpud.core.weights import Weights


class _Tier:
    """One tier: the contenders at its top, and all its sessions."""

    __slots__ = ("leaves", "top")

    def __init__(self) -> None:
        self.top = Group()
        self.leaves: dict[str, Leaf] = {}


class FairOrder:
    """Jobs by tier and fair shares.

    Args:
        policy: Tiers, FairShareBy, shares of accounts, half-life, StarvationLimit.
        session_of: The open session of an id.
        usage: Decayed QPU-seconds of users and accounts, over all resources; charged here.
    """

    runs_whole = False
    newcomers = Newcomers.LOWER_TIERS

    def __init__(self, policy: Policy, session_of: SessionOf, usage: Usage) -> None:
        self._policy = policy
        self._session_of = session_of
        self._usage = usage
        self._tiers: dict[int, _Tier] = {}
        self._places: dict[int, tuple[int, Leaf]] = {}  # queued job → tier and session
        self._serving: dict[int, tuple[int, Leaf]] = {}  # job that has the resource, or is leaving it
        self._lifts: dict[int, int] = {}  # job → tiers that it was lifted by
        self._weights = Weights(policy, usage)
        self._head: int | None = None
        self._head_is_known = False

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._places

    # -- what is queued
    def put(self, job: Job) -> None:
        """See Order."""
        if job.state is JobState.RUNNING:
            self._lifts.pop(job.id, None)
        number = self.tier_of(job)
        known = self._places.get(job.id)
        if known is not None and known[0] != number:
            self.drop(job.id)
        leaf = self._leaf(number, job.session_id)
        leaf.put(job)
        self._places[job.id] = (number, leaf)
        if not leaf.is_active:
            activate(leaf)
        self._head_is_known = False

    def drop(self, job_id: int) -> None:
        """See Order."""
        place = self._places.pop(job_id, None)
        if place is None:
            return
        _number, leaf = place
        leaf.drop(job_id)
        self._lifts.pop(job_id, None)
        self._rest(place)
        self._head_is_known = False

    def take(self, job: Job) -> None:
        """See Order."""
        if job.id in self._serving:
            return
        place = self._places.pop(job.id, None)
        if place is None:  # adopted after a restart: it was never queued
            number = self.tier_of(job)
            place = (number, self._leaf(number, job.session_id))
        self._serving[job.id] = place
        place[1].take(job)
        activate(place[1])
        self._head_is_known = False

    def quit(self, job_id: int) -> None:
        """See Order."""
        place = self._serving.pop(job_id, None)
        if place is None:
            return
        place[1].serving.discard(job_id)
        self._lifts.pop(job_id, None)
        self._rest(place)

    def forget(self, session_id: str) -> None:
        """See Order."""
        for one in self._tiers.values():
            leaf = one.leaves.get(session_id)
            if leaf is not None and not leaf.has_work:
                _remove(one, leaf)

    def renew(self, session: Session) -> None:
        """See Order."""
        for one in self._tiers.values():
            if (leaf := one.leaves.get(session.id)) is not None:
                leaf.renew(session)
                self._head_is_known = False

    def charge(self, job: Job, seconds: float, now: float) -> None:
        """See Order."""
        place = self._serving.get(job.id)
        if place is None:
            return
        charge(place[1], seconds)
        self._head_is_known = False
        self._record(job, seconds, now)
        if place[1].group.owner is not None:
            self._weights.bring_up_to_date(self._tiers[place[0]].top, now)

    def _record(self, job: Job, seconds: float, now: float) -> None:
        """Users and accounts both: a reload may change FairShareBy."""
        session = self._session_of(job.session_id)
        if session is not None and seconds:
            self._usage.add(of_user(session.user), seconds, now)
            self._usage.add(of_account(session.account), seconds, now)
            self._usage.add(of_member(session.user, session.account), seconds, now)

    # -- who goes next
    def choose(self, ask: Ask) -> Job | None:
        """See Order."""
        self._lift(ask.now)
        current = None if ask.current is None else self._serving.get(ask.current.id)
        for number in sorted(self._tiers, reverse=True):
            top, quantum = self._tiers[number].top, ask.quanta.get(number, DEFAULT_SECONDS)
            if top.active and (found := pick(top, ask, current[1] if current else None, quantum)) is not None:
                return found
        return None

    def best_tier(self, ask: Ask) -> int | None:
        """See Order."""
        self._lift(ask.now)
        for number in sorted(self._tiers, reverse=True):
            for leaf in self._tiers[number].leaves.values():
                job = leaf.best(None) if len(leaf) else None
                if job is not None and (ask.admits is None or ask.admits(job)):
                    return number
        return None

    def tier_of(self, job: Job) -> int:
        """See Order."""
        mine = tier(job, self._policy.queues)
        lifted = self._lifts.get(job.id, 0)
        if not lifted:
            return mine
        higher = [number for number in self._ladder() if number > mine]
        return higher[min(lifted, len(higher)) - 1] if higher else mine

    def has_others(self, job: Job) -> bool:
        """See Order."""
        place = self._serving.get(job.id) or self._places.get(job.id)
        if place is None:
            return bool(self._places)
        leaf = place[1]
        return len(leaf.group.active) > 1 or any(len(above.group.active) > 1 for above in _owners(leaf))

    def is_ahead(self, job: Job) -> bool:
        """See Order."""
        place = self._places.get(job.id)
        if place is None:
            return False
        leaf = place[1]
        return any(one.lag_seconds < 0 and len(one.group.active) > 1 for one in (leaf, *_owners(leaf)))

    def head(self) -> int | None:
        """See Order; kept until something changes, since every explanation asks for it."""
        if not self._head_is_known:
            best = self.choose(Ask(now=0.0))
            self._head = None if best is None else best.id
            self._head_is_known = True
        return self._head

    # -- shown to people
    def in_order(self, limit: int) -> list[int]:
        """See Order."""
        found: list[int] = []
        for number in sorted(self._tiers, reverse=True):
            found += self._in_order_of(self._tiers[number], limit - len(found))
            if len(found) >= limit:
                break
        return found

    def _in_order_of(self, one: _Tier, limit: int) -> list[int]:
        """Jobs merged by when they would be due if all ran at once at their shares' rates."""
        rows: list[tuple[float, float, int, float, Iterator[Job]]] = []
        for leaf in one.leaves.values():
            if len(leaf):
                jobs, part = leaf.in_order(), part_of(leaf)
                job = next(jobs)
                owed = -leaf.lag_seconds / part
                rows.append((owed + job.shots_left / part, job.submitted_at, job.id, part, jobs))
        heapq.heapify(rows)
        found: list[int] = []
        while rows and len(found) < limit:
            due, _, job_id, part, jobs = rows[0]
            found.append(job_id)
            if (following := next(jobs, None)) is None:
                heapq.heappop(rows)
            else:
                due += following.shots_left / part
                heapq.heapreplace(rows, (due, following.submitted_at, following.id, part, jobs))
        return found

    def shares(self, now: float) -> list[ShareRow]:
        """See Order."""
        return [
            self._row(number, one, now)
            for number in sorted(self._tiers, reverse=True)
            for one in _everybody(self._tiers[number].top)
        ]

    def _row(self, number: int, one: Contender, now: float) -> ShareRow:
        owner = one.group.owner
        return ShareRow(
            tier=number,
            name=one.key,
            kind=one.kind,
            parent=owner.key if owner else "",
            weight=one.weight,
            entitled=part_of(one) if one.is_active else 0.0,
            served_seconds=one.served,
            lag_seconds=one.lag_seconds,
            usage_seconds=self._weights.usage_of(one, now),
            is_active=one.is_active,
        )

    # -- what a forecast needs
    def work_before(self, job: Job) -> Work:
        """See Order."""
        place = self._places.get(job.id)
        return NOTHING if place is None else place[1].work_before(job.id)

    def work_of(self, job: Job) -> Work:
        """See Order."""
        place = self._places.get(job.id)
        return NOTHING if place is None else place[1].work_of(job.id)

    def contender_of(self, job: Job) -> Leaf | None:
        """See Order."""
        place = self._places.get(job.id) or self._serving.get(job.id)
        return None if place is None else place[1]

    def tiers(self) -> list[tuple[int, Group]]:
        """See Order."""
        return [(number, self._tiers[number].top) for number in sorted(self._tiers, reverse=True)]

    def walk(self) -> Iterator[tuple[Job, Work, Work]]:
        """See Order."""
        for number in sorted(self._tiers, reverse=True):
            for leaf in self._tiers[number].leaves.values():
                yield from leaf.walk()

    # -- parts
    def _rest(self, place: tuple[int, Leaf]) -> None:
        number, leaf = place
        if leaf.has_work:
            return
        retire(leaf)
        if self._session_of(leaf.key) is None:
            _remove(self._tiers[number], leaf)

    def _leaf(self, number: int, session_id: str) -> Leaf:
        one = self._tiers.get(number)
        if one is None:
            one = self._tiers[number] = _Tier()
        leaf = one.leaves.get(session_id)
        if leaf is None:
            session = self._session_of(session_id)
            group = self._group(one.top, session)
            leaf = one.leaves[session_id] = Leaf(group, session_id, session)
            group.add(leaf)
        return leaf

    def _group(self, top: Group, session: Session | None) -> Group:
        """Where a session competes: at the top, or among those of its user or account."""
        by = self._policy.daemon.fair_share_by
        if by is FairShareBy.ACCOUNT:
            account = (session.account if session else None) or ""
            top = _members(top, account, "account", self._weights.base_of_account(account))
        if by is not FairShareBy.SESSION:
            top = _members(top, session.user if session else "", "user", 1.0)
        return top

    def _ladder(self) -> list[int]:
        return sorted({queue.priority_tier for queue in self._policy.queues.values()})

    def _lift(self, now: float) -> None:
        """Move jobs that have waited longer than StarvationLimit to the next tier; counted from their submission."""
        limit = self._policy.daemon.starvation_limit
        if limit >= UNLIMITED_SECONDS or not now:
            return
        for number in sorted(self._tiers)[:-1] if len(self._ladder()) > 1 else []:
            for leaf in list(self._tiers[number].leaves.values()):
                self._lift_from(leaf, limit, now)

    def _lift_from(self, leaf: Leaf, limit: float, now: float) -> None:
        while (job := leaf.best(None)) is not None and job.state is JobState.PENDING:
            due = int((now - job.submitted_at) / limit)
            if due <= self._lifts.get(job.id, 0) or self.tier_of(job) >= self._ladder()[-1]:
                return
            self.drop(job.id)
            self._lifts[job.id] = due
            self.put(job)


def _members(group: Group, key: str, kind: str, weight: float) -> Group:
    one = group.contenders.get(key)
    if one is None:
        one = Contender(group, key, kind, weight)
        one.members = Group(one)
        group.add(one)
    assert one.members is not None  # noqa: S101  only sessions have none, and they have keys of their own
    return one.members


def _owners(one: Contender) -> Iterator[Contender]:
    owner = one.group.owner
    while owner is not None:
        yield owner
        owner = owner.group.owner


def _everybody(group: Group) -> Iterator[Contender]:
    for one in group.contenders.values():
        yield one
        if one.members is not None:
            yield from _everybody(one.members)


def _remove(one: _Tier, leaf: Leaf) -> None:
    del one.leaves[leaf.key]
    leaf.group.remove(leaf)
