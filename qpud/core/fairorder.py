"""The scheduler `share`: tiers, then fair shares, then set-up, hints and age. Each is asked only where the one before
leaves a choice.

    tier       a higher one always goes first; StarvationLimit may lift a job
    share      fairshare.py says who may have the next slice so that nobody falls behind his due
    set-up     of those, who needs the register that is loaded, if another one costs time
    hint       cc-heavy by nodes held ÷ work left (Smith's rule: the least node-seconds wait), then qc-balanced by the
               classical seconds that follow ÷ work left (Johnson's rule: a classical phase overlaps another's shots)
    due        whose share is due first
    age        the oldest job

Within a session the job that has begun goes first, then the oldest; jobs of the loaded register may overtake older
ones a bounded number of times.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from qpud.core.fairshare import Contender, Group, activate, charge, part_of, retire
from qpud.core.job import Job, JobState
from qpud.core.line import NOTHING, Line, Work
from qpud.core.order import Ask, Newcomers, SessionOf, ShareRow
from qpud.core.plan import tier
from qpud.core.policy import UNLIMITED_SECONDS, FairShareBy, Policy
from qpud.core.session import Hint, Session
from qpud.core.slicing import DEFAULT_SECONDS
from qpud.core.usage import Usage, of_account, of_member, of_user

LONGEST_DETOUR = 64
"""Jobs of the loaded register that may overtake an older job of the same session in a row."""
LARGEST_CORRECTION = 4.0
"""Past usage changes the weight of a user or account by at most this factor: it leans, it never starves."""
MOST_CANDIDATES = 32
"""Contenders of one group, those due first, among which set-up and hints choose: a decision stays short."""
_NOT_FADING_SECONDS = 7 * 86_400.0


class _Key(NamedTuple):
    """Order within a session."""

    not_begun: bool
    submitted_at: float
    job_id: int


class Leaf(Contender):
    """A session with its queued jobs.

    Args:
        group: Where it competes.
        session_id: Its key.
        session: Gives units, hint and nodes; None for a session that has ended.
    """

    __slots__ = ("_by_register", "_detours", "_heap", "_line", "_queued", "_registers", "hint", "serving", "value")

    def __init__(self, group: Group, session_id: str, session: Session | None) -> None:
        super().__init__(group, session_id, "session", float(session.share if session else 1))
        self.hint = session.hint if session else Hint.NONE
        self.value = _value(session)
        self.serving: set[int] = set()  # jobs that have the resource, or are leaving it
        self._queued: dict[int, tuple[_Key, Job]] = {}
        self._heap: list[_Key] = []
        self._by_register: dict[str, list[_Key]] = {}
        self._detours = 0
        self._line: Line[_Key] = Line()
        self._registers: Counter[str] = Counter()  # queued jobs of each

    def __len__(self) -> int:
        return len(self._queued)

    @property
    def has_work(self) -> bool:
        """Whether a job of it is queued or has the resource."""
        return bool(self._queued or self.serving)

    def put(self, job: Job) -> None:
        """Queue a job."""
        key = _Key(job.state is JobState.PENDING, job.submitted_at, job.id)
        known = self._queued.get(job.id)
        self._count(key, job, known)
        self._queued[job.id] = (key, job)
        if known is None or known[0] != key:
            heapq.heappush(self._heap, key)
            heapq.heappush(self._by_register.setdefault(job.register_hash, []), key)

    def drop(self, job_id: int) -> None:
        """Take a job out."""
        known = self._queued.pop(job_id, None)
        if known is not None:
            self._line.drop(known[0])
            self._registers[known[1].register_hash] -= 1
        if not self._queued:
            self._heap.clear()
            self._by_register.clear()
            self._registers.clear()

    def take(self, job: Job) -> None:
        """The job gets the resource."""
        oldest = self._top(self._heap)
        is_detour = oldest is not None and oldest.id != job.id and job.id in self._queued
        self._detours = self._detours + 1 if is_detour else 0
        self.serving.add(job.id)
        self.drop(job.id)

    def best(self, register: str | None) -> Job | None:
        """The job to go next: one that has begun, one of the loaded register, or the oldest."""
        oldest = self._top(self._heap)
        if register is None or oldest is None or oldest.state is JobState.RUNNING or self._detours >= LONGEST_DETOUR:
            return oldest
        same = self._by_register.get(register)
        return (self._top(same) if same else None) or oldest

    def in_order(self) -> Iterator[Job]:
        """Its jobs, as they would go on equal registers."""
        for key in self._line:
            yield self._queued[key.job_id][1]

    @property
    def work(self) -> Work:
        """What is queued. Jobs of one register go in a row, so that its first one changes it."""
        return self._line.work

    def walk(self) -> Iterator[tuple[Job, Work, Work]]:
        """Its jobs in order: each with what is queued before it, and what it adds."""
        shots = changes = 0
        for job in self.in_order():
            own = self._line.work_of(job.id)
            yield job, Work(shots, changes), own
            shots += own.shots
            changes += own.changes

    def work_before(self, job_id: int) -> Work:
        """What is queued before a job; nothing if it is not queued."""
        known = self._queued.get(job_id)
        return NOTHING if known is None else self._line.before(known[0])

    def work_of(self, job_id: int) -> Work:
        """What a queued job adds."""
        return self._line.work_of(job_id)

    def _count(self, key: _Key, job: Job, known: tuple[_Key, Job] | None) -> None:
        if known is not None:
            changes = self._line.work_of(job.id).changes
            self._line.drop(known[0])
        else:
            changes = int(not self._registers[job.register_hash])
            self._registers[job.register_hash] += 1
        self._line.put(key, Work(job.shots_left, changes))

    def _top(self, heap: list[_Key]) -> Job | None:
        while heap:
            key = heap[0]
            queued = self._queued.get(key.job_id)
            if queued is not None and queued[0] == key:
                return queued[1]
            heapq.heappop(heap)
        return None


def _value(session: Session | None) -> tuple[int, float]:
    """What waiting costs by the session's hint: class of hint, and weight of Smith's or Johnson's rule."""
    if session is None:
        return (0, 0.0)
    if session.hint is Hint.CC_HEAVY:
        return (2, float(session.nodes))
    if session.hint is Hint.QC_BALANCED:
        return (1, session.expected_classical_seconds or 1.0)
    return (0, 0.0)


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
        self._weighed_at = 0.0
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

    def charge(self, job: Job, seconds: float, now: float) -> None:
        """See Order."""
        place = self._serving.get(job.id)
        if place is None:
            return
        charge(place[1], seconds)
        self._head_is_known = False
        self._record(job, seconds, now)
        if place[1].group.owner is not None:
            self._weigh_anew(self._tiers[place[0]].top, now)

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
            if top.active and (found := _pick(top, ask, current[1] if current else None, quantum)) is not None:
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
            usage_seconds=0.0 if one.kind == "session" else self._usage.value(_usage_name(one), now),
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
            policy = self._policy.accounts.get(account)
            top = _members(top, account, "account", policy.shares if policy else 1.0)
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

    def _weigh_anew(self, top: Group, now: float) -> None:
        """Let past usage lean on the weights, at most every ten thousandth of a half-life."""
        scale = self._scale()
        if now - self._weighed_at < scale / 10_000:
            return
        self._weighed_at = now
        groups = [top]
        while groups:
            group = groups.pop()
            self._weigh(group, scale, now)
            groups += [one.members for one in group.active.values() if one.members is not None]

    def _weigh(self, group: Group, scale: float, now: float) -> None:
        above = [one for one in group.active.values() if one.kind != "session"]
        used = {one.key: self._usage.value(_usage_name(one), now) for one in above}
        base = {one.key: self._base_weight(one) for one in above}
        usage, weights = sum(used.values()), sum(base.values())
        for one in above:
            part = base[one.key] / weights
            excess = (used[one.key] - part * usage) / (part * scale)
            group.reweigh(one, base[one.key] * _correction(excess))

    def _base_weight(self, one: Contender) -> float:
        policy = self._policy.accounts.get(one.key) if one.kind == "account" else None
        return policy.shares if policy else 1.0

    def _scale(self) -> float:
        half_life = self._policy.daemon.priority_decay_half_life
        return half_life if 0 < half_life < UNLIMITED_SECONDS else _NOT_FADING_SECONDS


def _correction(excess: float) -> float:
    """Factor on a weight: ½ for one that used, above its part, as much as its part of one half-life."""
    return float(min(LARGEST_CORRECTION, max(1.0 / LARGEST_CORRECTION, 2.0 ** -max(-8.0, min(8.0, excess)))))


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


def _usage_name(one: Contender) -> str:
    if one.kind == "account":
        return of_account(one.key)
    return of_member(one.key, one.group.owner.key) if one.group.owner else of_user(one.key)


def _everybody(group: Group) -> Iterator[Contender]:
    for one in group.contenders.values():
        yield one
        if one.members is not None:
            yield from _everybody(one.members)


def _remove(one: _Tier, leaf: Leaf) -> None:
    del one.leaves[leaf.key]
    leaf.group.remove(leaf)


def _pick(top: Group, ask: Ask, current: Leaf | None, quantum: float) -> Job | None:
    best: tuple[tuple[float, ...], Job] | None = None
    for leaf in _candidates(top, ask, current, quantum):
        job = _job_of(leaf, ask, current)
        if job is None:
            continue
        rank = _preference(leaf, job, ask, current, quantum)
        if best is None or rank < best[0]:
            best = (rank, job)
    return best[1] if best else None


def _candidates(group: Group, ask: Ask, current: Leaf | None, quantum: float) -> Iterator[Leaf]:
    """The sessions that may have the next slice."""
    allowed = group.allowed(quantum)[:MOST_CANDIDATES]
    if ask.admits is not None and not any(_may_start(one, ask, current) for one in allowed):
        allowed = list(group.active.values())
    for one in allowed:
        if one.members is None:
            if isinstance(one, Leaf):
                yield one
        elif one.members.active:
            yield from _candidates(one.members, ask, current, quantum)


def _may_start(one: Contender, ask: Ask, current: Leaf | None) -> bool:
    if isinstance(one, Leaf):
        return _job_of(one, ask, current) is not None
    return one.members is not None and any(_may_start(each, ask, current) for each in one.members.active.values())


def _job_of(leaf: Leaf, ask: Ask, current: Leaf | None) -> Job | None:
    """The job with which a session would take the next slice."""
    job = ask.current if leaf is current else leaf.best(ask.register)
    if job is None or ask.admits is None or ask.admits(job):
        return job
    return None


def _preference(leaf: Leaf, job: Job, ask: Ask, current: Leaf | None, quantum: float) -> tuple[float, ...]:
    """Among those that may: set-up, hint, due, age; smaller goes first."""
    stays = leaf is current and leaf.hint is Hint.QC_HEAVY
    needs_setup = ask.register is not None and job.register_hash != ask.register
    level, weight = leaf.value
    due = (leaf.deadline(quantum) - leaf.group.virtual) * leaf.group.total
    return (needs_setup, -level, -weight / job.shots_left, not stays, due, job.submitted_at, job.id)
