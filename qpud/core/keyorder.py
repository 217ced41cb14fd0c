"""The schedulers by a sort key: first come first served, by tiers, by session, or a site's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from qpud.core.fairshare import Contender, Group
from qpud.core.job import Job, JobState
from qpud.core.line import NOTHING, Line, Work
from qpud.core.order import Ask, Newcomers, Rule, SessionOf, ShareRow
from qpud.core.plan import may_run, tier
from qpud.core.policy import Policy
from qpud.core.queue import PendingQueue
from qpud.core.session import Session


class Fifo:
    """First come first served, whatever the tier: what the peer does."""

    runs_whole = True

    def key(self, job: Job, session: Session | None, tier: int) -> tuple[Any, ...]:
        """Age."""
        return (job.submitted_at,)


class Priority:
    """Tiers, then first come first served."""

    runs_whole = True

    def key(self, job: Job, session: Session | None, tier: int) -> tuple[Any, ...]:
        """Tier, then age."""
        return (-tier, job.submitted_at)


class Keyed(NamedTuple):
    """A sort key made unique by the job's id."""

    begun: int  # 0: has begun, where jobs run whole
    key: tuple[Any, ...]
    job_id: int


class KeyOrder:
    """Jobs by the key of a rule.

    Args:
        policy: Gives the tiers.
        session_of: The open session of an id.
        rule: The sort key.
    """

    def __init__(self, policy: Policy, session_of: SessionOf, rule: Rule) -> None:
        self.runs_whole = rule.runs_whole
        self._policy = policy
        self._session_of = session_of
        self._rule = rule
        self._queue: PendingQueue[Keyed] = PendingQueue(self._rank)
        self._jobs: dict[int, Job] = {}
        self._line: Line[Keyed] = Line()
        self._register = ""  # of the job that was queued last
        self.newcomers = _NEWCOMERS.get(type(rule), Newcomers.ANYBODY)

    def __len__(self) -> int:
        return len(self._queue)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._queue

    def put(self, job: Job) -> None:
        """See Order."""
        known, changes = self._queue.rank_of(job.id), int(job.register_hash != self._register)
        if known is not None:
            changes = self._line.work_of(job.id).changes
            self._line.drop(known)
        self._jobs[job.id] = job
        self._queue.put(job)
        self._line.put(self._rank_of(job.id), Work(job.shots_left, changes))
        self._register = job.register_hash

    def drop(self, job_id: int) -> None:
        """See Order."""
        known = self._queue.rank_of(job_id)
        if known is not None:
            del self._jobs[job_id]
            self._queue.drop(job_id)
            self._line.drop(known)

    def take(self, job: Job) -> None:
        """See Order."""
        self.drop(job.id)

    def quit(self, job_id: int) -> None:
        """Nothing is kept of jobs that are not queued."""

    def forget(self, session_id: str) -> None:
        """Nothing is kept of sessions."""

    def renew(self, session: Session) -> None:
        """See Order; a key is asked for again after each slice."""

    def choose(self, ask: Ask) -> Job | None:
        """See Order."""
        head = self._head(ask)
        if ask.current is None or head is None:
            return ask.current or head
        return head if self._rank(head) < self._rank(ask.current) else ask.current

    def charge(self, job: Job, seconds: float, now: float) -> None:
        """Nothing is shared."""

    def tier_of(self, job: Job) -> int:
        """See Order."""
        return tier(job, self._policy.queues)

    def best_tier(self, ask: Ask) -> int | None:
        """See Order."""
        head = self._head(ask)
        return None if head is None else self.tier_of(head)

    def has_others(self, job: Job) -> bool:
        """See Order."""
        return len(self._queue) > 0

    def is_ahead(self, job: Job) -> bool:
        """Nothing is shared."""
        return False

    def head(self) -> int | None:
        """See Order."""
        return self._queue.head()

    def in_order(self, limit: int) -> list[int]:
        """See Order."""
        return self._queue.in_order(limit)

    def shares(self, now: float) -> list[ShareRow]:
        """Nothing is shared."""
        return []

    def work_before(self, job: Job) -> Work:
        """See Order."""
        known = self._queue.rank_of(job.id)
        return NOTHING if known is None else self._line.before(known)

    def work_of(self, job: Job) -> Work:
        """See Order."""
        return self._line.work_of(job.id)

    def contender_of(self, job: Job) -> Contender | None:
        """Nothing is shared."""
        return None

    def tiers(self) -> list[tuple[int, Group]]:
        """Nothing is shared."""
        return []

    def walk(self) -> Iterator[tuple[Job, Work, Work]]:
        """See Order."""
        return self._walk(self._line, NOTHING)

    def _walk(self, line: Line[Keyed], before: Work) -> Iterator[tuple[Job, Work, Work]]:
        shots, changes = before
        for key in line:
            own = self._line.work_of(key.job_id)
            yield self._jobs[key.job_id], Work(shots, changes), own
            shots += own.shots
            changes += own.changes

    def _rank_of(self, job_id: int) -> Keyed:
        found = self._queue.rank_of(job_id)
        assert found is not None  # noqa: S101  it was put a line before
        return found

    def _rank(self, job: Job) -> Keyed:
        has_begun = self.runs_whole and job.state is JobState.RUNNING
        key = self._rule.key(job, self._session_of(job.session_id), self.tier_of(job))
        return Keyed(int(not has_begun), key, job.id)

    def _head(self, ask: Ask) -> Job | None:
        if ask.admits is None:
            head = self._queue.head()
            return None if head is None else self._jobs[head]
        return next((job for job_id in self._queue.walk() if ask.admits(job := self._jobs[job_id])), None)


_NEWCOMERS: dict[type, Newcomers] = {Fifo: Newcomers.NOBODY, Priority: Newcomers.LOWER_TIERS}


class ExclusiveOrder(KeyOrder):
    """First come first served, and the session that has the resource keeps it until it ends: Slurm alone.

    Args:
        policy: Gives the tiers.
        session_of: The open session of an id.
    """

    def __init__(self, policy: Policy, session_of: SessionOf) -> None:
        super().__init__(policy, session_of, Fifo())
        self.newcomers = Newcomers.OTHER_SESSIONS
        self._holder = ""
        self._of_session: dict[str, Line[Keyed]] = {}
        self._heads: Line[Keyed] = Line()  # the first job of each session, with the work of all of them

    def put(self, job: Job) -> None:
        """See Order."""
        known = self._queue.rank_of(job.id)
        super().put(job)
        line = self._of_session.setdefault(job.session_id, Line())
        with self._changing(line):
            if known is not None:
                line.drop(known)
            line.put(self._rank_of(job.id), self._line.work_of(job.id))

    def drop(self, job_id: int) -> None:
        """See Order."""
        job, known = self._jobs.get(job_id), self._queue.rank_of(job_id)
        super().drop(job_id)
        if job is None or known is None:
            return
        line = self._of_session[job.session_id]
        with self._changing(line):
            line.drop(known)
        if not line:
            del self._of_session[job.session_id]

    def work_before(self, job: Job) -> Work:
        """See Order; sessions go one after the other, by their first jobs, after the one that has the resource."""
        known, mine = self._queue.rank_of(job.id), self._of_session.get(job.session_id)
        first = None if mine is None else mine.first()
        if known is None or mine is None or first is None:
            return NOTHING
        own = mine.before(known)
        if job.session_id == self._holder:
            return own
        ahead, holder = self._heads.before(first), self._of_session.get(self._holder)
        late = holder.work if holder is not None and (holder.first() or first) > first else NOTHING
        return Work(own.shots + ahead.shots + late.shots, own.changes + ahead.changes + late.changes)

    def walk(self) -> Iterator[tuple[Job, Work, Work]]:
        """See Order."""
        shots = changes = 0
        for line in sorted(self._of_session.values(), key=self._turn):
            yield from self._walk(line, Work(shots, changes))
            shots += line.shots
            changes += line.changes

    @contextmanager
    def _changing(self, line: Line[Keyed]) -> Iterator[None]:
        if (before := line.first()) is not None:
            self._heads.drop(before)
        yield
        if (after := line.first()) is not None:
            self._heads.put(after, line.work)

    def _turn(self, line: Line[Keyed]) -> tuple[bool, Keyed]:
        first = next(iter(line))
        return (self._jobs[first.job_id].session_id != self._holder, first)

    def take(self, job: Job) -> None:
        """See Order; the job's session has the resource from now on."""
        self._holder = job.session_id
        super().take(job)

    def choose(self, ask: Ask) -> Job | None:
        """See Order."""
        if not self._holder or self._session_of(self._holder) is None:
            return super().choose(ask)
        if ask.current is not None and may_run(ask.current):
            return ask.current
        holder, admits = self._holder, ask.admits
        return self._head(
            msgspec.structs.replace(
                ask, admits=lambda job: job.session_id == holder and (admits is None or admits(job))
            )
        )
