"""What the limits count: unfinished jobs, those that have begun, shots still to come, QPU seconds charged today.

One `Load` for each user in each queue, each user and each account, kept up to date with every change of a job, so that
asking costs the same however long the queue is. Days are those of UTC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from qpud.core.job import Job, JobState

K = TypeVar("K")

DAY_SECONDS = 86_400.0


class Load:
    """What one user (in one queue, or in all) or one account has at hand.

    Attributes:
        jobs: Unfinished jobs, also those on their way into the store.
        begun: Jobs that have begun and not ended.
        shots: Shots still to come, by resource.
        charged: QPU seconds charged today; read it through `Tally`, which forgets yesterday's.
    """

    __slots__ = ("begun", "charged", "jobs", "shots")

    def __init__(self) -> None:
        self.jobs = 0
        self.begun = 0
        self.shots: Counter[str] = Counter()
        self.charged = 0.0

    def expected(self, rates: Mapping[str, float]) -> float:
        """QPU seconds of the shots still to come; those of a resource without a rate count nothing.

        Args:
            rates: Shots per QPU second by resource, where that can be told in advance.
        """
        return sum(shots / rates[resource] for resource, shots in self.shots.items() if resource in rates)

    def _add(self, job: Job, sign: int) -> None:
        self.jobs += sign
        self.shots[job.resource] += sign * job.shots_left
        if job.state is JobState.RUNNING:
            self.begun += sign


class Loads(msgspec.Struct, frozen=True, gc=False):
    """Everything that one user's job in one queue counts for; `account` is None without an account."""

    queue: Load  # of the user in the queue
    user: Load
    account: Load | None


class DaySum(msgspec.Struct, frozen=True, kw_only=True):
    """QPU seconds charged to one user, queue and account since 00:00 UTC, from the ledger."""

    user_id: int
    queue: str
    account: str
    qpu_seconds: float


class Tally:
    """All loads of one daemon."""

    def __init__(self) -> None:
        self._queues: dict[tuple[int, str], Load] = {}
        self._users: dict[int, Load] = {}
        self._accounts: dict[str, Load] = {}
        self._account_of: dict[str, str] = {}  # session id → account, while it has unfinished jobs
        self._jobs_of: Counter[str] = Counter()  # session id → unfinished jobs
        self._day = 0

    def loads(self, user_id: int, queue: str, account: str) -> Loads:
        """What a job of this user, queue and account ("": none) counts for."""
        return Loads(
            _load_of(self._queues, (user_id, queue)),
            _load_of(self._users, user_id),
            _load_of(self._accounts, account) if account else None,
        )

    def begun(self, user_id: int, queue: str) -> int:
        """Jobs of a user in a queue that have begun and not ended."""
        load = self._queues.get((user_id, queue))
        return load.begun if load else 0

    # -- jobs
    def add(self, job: Job, account: str) -> None:
        """Count a new unfinished job of a session with this account ("": none)."""
        self._account_of[job.session_id] = account
        self._jobs_of[job.session_id] += 1
        for load in self._of(job):
            load._add(job, 1)

    def replace(self, old: Job, new: Job) -> None:
        """Count an unfinished job by its new version, maybe in another queue."""
        if (old.queue, old.state, old.shots_done) == (new.queue, new.state, new.shots_done):
            return
        for load in self._of(old):
            load._add(old, -1)
        for load in self._of(new):
            load._add(new, 1)

    def remove(self, job: Job) -> None:
        """Forget a job that has ended, given as it was counted last."""
        for load in self._of(job):
            load._add(job, -1)
        self._jobs_of[job.session_id] -= 1
        if not self._jobs_of[job.session_id]:
            del self._jobs_of[job.session_id], self._account_of[job.session_id]

    def expect(self, loads: Loads, asked: Sequence[tuple[str, int]]) -> Callable[[], None]:
        """Count jobs on their way into the store, each (resource, shots), until the returned function is called."""
        shots: Counter[str] = Counter()
        for resource, number in asked:
            shots[resource] += number
        counted = [load for load in (loads.queue, loads.user, loads.account) if load is not None]
        for load in counted:
            load.jobs += len(asked)
            load.shots.update(shots)

        def forget() -> None:
            for load in counted:
                load.jobs -= len(asked)
                load.shots.subtract(shots)

        return forget

    # -- charges
    def charge(self, job: Job, qpu_seconds: float, at: float) -> None:
        """Count what a slice of an unfinished job was charged.

        Args:
            job: Counted by `add` and not yet removed.
            qpu_seconds: As in the ledger, >= 0.
            at: The time in the ledger, seconds since the epoch.
        """
        self._begin_day_of(at)
        if _day(at) == self._day:
            for load in self._of(job):
                load.charged += qpu_seconds

    def charged(self, load: Load, now: float) -> float:
        """QPU seconds that a load was charged since 00:00 UTC of now's day."""
        self._begin_day_of(now)
        return load.charged

    def restore(self, sums: Iterable[DaySum], now: float) -> None:
        """Take in what the ledger says of now's day."""
        self._begin_day_of(now)
        for one in sums:
            found = self.loads(one.user_id, one.queue, one.account)
            for load in (found.queue, found.user, found.account):
                if load is not None:
                    load.charged += one.qpu_seconds

    def _begin_day_of(self, at: float) -> None:
        """Forget what earlier days were charged; a clock that goes back forgets nothing."""
        if _day(at) > self._day:
            self._day = _day(at)
            for load in (*self._queues.values(), *self._users.values(), *self._accounts.values()):
                load.charged = 0.0

    def _of(self, job: Job) -> tuple[Load, ...]:
        found = self.loads(job.user_id, job.queue, self._account_of.get(job.session_id, ""))
        return (found.queue, found.user) if found.account is None else (found.queue, found.user, found.account)


def _load_of(loads: dict[K, Load], key: K) -> Load:
    found = loads.get(key)
    if found is None:
        found = loads[key] = Load()
    return found


def day_start(now: float) -> float:
    """00:00 UTC of now's day, in seconds since the epoch."""
    return _day(now) * DAY_SECONDS


def _day(at: float) -> int:
    return int(at // DAY_SECONDS)
