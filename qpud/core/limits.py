"""The limits of the policy: what a queue, a user or an account may have, and what would fit. Pure checks.

    at submission   MaxShots, TimeLimit, MaxSubmitJobs, MaxQPUSecondsPerDay   `admit`
    at opening      AllowAccounts, DenyAccounts, AllowGroups, DenyGroups       `check_access`
    at each slice   MaxJobsPerUser                                             `is_barred`
    after a slice   TimeLimit                                                  `time_limit`

A batch counts as many jobs. Expected QPU seconds are shots ÷ shot rate, without set-up; an emulation's time cannot be
told in advance, so only what it was charged counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from qpud.core.errors import Forbidden, LimitExceeded
from qpud.core.job import Job, JobState
from qpud.core.policy import AccountPolicy, Policy, QueuePolicy, UserPolicy
from qpud.core.session import Session
from qpud.core.tally import Load, Loads, Tally
from qpud.core.terms import UNLIMITED_SECONDS

Asked = Sequence[tuple[str, int]]
"""Resource and shots of each new job."""
Rates = Mapping[str, float]
"""Shots per QPU second by resource, where that can be told in advance."""


_TOLERANCE = 1e-9  # of sums of floats, relative


class Bound(NamedTuple):
    """One section of the policy that binds a job, and what counts against it."""

    whose: str  # "queue development", for sentences
    limits: QueuePolicy | UserPolicy | AccountPolicy
    load: Load


def bounds(policy: Policy, session: Session, queue: str, loads: Loads) -> list[Bound]:
    """The sections that bind a session's jobs in a queue: the queue's, the user's, the account's, where they exist.

    Args:
        policy: In force.
        session: The jobs'.
        queue: Usually the session's; a job that was moved has another.
        loads: What the jobs count for.
    """
    queues, user = policy.queues.get(queue), policy.users.get(session.user)
    account = policy.accounts.get(session.account or "")
    found = [Bound(f"queue {queue}", queues, loads.queue)] if queues else []
    if user is not None:
        found.append(Bound(f"user {user.name}", user, loads.user))
    if account is not None and loads.account is not None:
        found.append(Bound(f"account {account.name}", account, loads.account))
    return found


def is_bound(bound: Bound) -> bool:
    """Whether a section limits what a user may submit at all: most do not, and nothing need be counted."""
    limits = bound.limits
    return (
        limits.max_shots is not None
        or limits.max_submit_jobs is not None
        or limits.max_qpu_seconds_per_day < UNLIMITED_SECONDS
        or (isinstance(limits, QueuePolicy) and limits.time_limit < UNLIMITED_SECONDS)
    )


def admit(binding: Iterable[Bound], asked: Asked, rates: Rates, tally: Tally, now: float) -> None:
    """Let new jobs in, all of them or none.

    Args:
        binding: From `bounds`.
        asked: What is submitted at once.
        rates: Shots per QPU second by resource.
        tally: Holds the loads of the bounds.
        now: Seconds since the epoch.

    Raises:
        LimitExceeded: One sentence: the limit, its value, and what would fit.
    """
    for bound in binding:
        for resource, shots in asked:
            _check_shots(bound, shots)
            _check_time(bound, shots, rates.get(resource))
        _check_room(bound, len(asked))
        _check_day(bound, asked, rates, tally.charged(bound.load, now))


def _check_shots(bound: Bound, shots: int) -> None:
    limit = bound.limits.max_shots
    if limit is None or shots <= limit:
        return
    jobs = math.ceil(shots / limit)
    raise LimitExceeded(
        f"{shots} shots exceed MaxShots {limit} of {bound.whose}: submit {jobs} jobs of at most {limit} shots"
    )


def _check_time(bound: Bound, shots: int, rate: float | None) -> None:
    limit = bound.limits.time_limit if isinstance(bound.limits, QueuePolicy) else UNLIMITED_SECONDS
    if rate is None or not _exceeds(shots / rate, limit):
        return
    takes = f"{shots} shots take about {number(shots / rate)} QPU seconds, which exceed"
    fits = _fitting(limit * rate, "in one job")
    raise LimitExceeded(f"{takes} TimeLimit {number(limit)} of {bound.whose}: {fits}")


def _check_room(bound: Bound, more: int) -> None:
    limit = bound.limits.max_submit_jobs
    if limit is None or bound.load.jobs + more <= limit:
        return
    room = max(0, limit - bound.load.jobs)
    fits = f"{room} more {_fit(room)} now" if room else "wait for one to end, or cancel one"
    raise LimitExceeded(
        f"{bound.load.jobs} unfinished and {more} new jobs exceed MaxSubmitJobs {limit} of {bound.whose}: {fits}"
    )


def _check_day(bound: Bound, asked: Asked, rates: Rates, charged: float) -> None:
    limit = bound.limits.max_qpu_seconds_per_day
    if limit >= UNLIMITED_SECONDS:
        return
    more = sum(shots / rates[resource] for resource, shots in asked if resource in rates)
    used = charged + bound.load.expected(rates)
    said = f"MaxQPUSecondsPerDay {number(limit)} of {bound.whose}"
    if charged >= limit:
        raise LimitExceeded(f"{said} is used up: nothing fits until 00:00 UTC")
    if more and _exceeds(used + more, limit):
        fits = _fitting((limit - used) * rates.get(asked[0][0], 0.0), "until 00:00 UTC")
        what = f"{number(more)} QPU seconds more exceed {said}"
        raise LimitExceeded(f"{what}, of which {number(used)} are used or queued today: {fits}")


def _exceeds(seconds: float, limit: float) -> bool:
    return seconds > limit * (1.0 + _TOLERANCE)


def _fitting(shots: float, when: str) -> str:
    whole = int(shots + 1e-6)
    if whole < 1:
        return f"no shot fits {when}"
    return f"at most {whole} shot{'s' * (whole != 1)} {_fit(whole)} {when}"


def _fit(how_many: int) -> str:
    return "fits" if how_many == 1 else "fit"


def number(seconds: float) -> str:
    """Seconds for a sentence: at most one decimal, never an exponent."""
    return f"{seconds:.1f}".removesuffix(".0")


# -- who may use a queue


def check_access(queue: QueuePolicy, user: str, account: str, groups: Iterable[str]) -> None:
    """Let a user with this account use a queue.

    A session without an account has account "": AllowAccounts does not name it, so a queue with AllowAccounts is
    closed to it; DenyAccounts does not touch it.

    Args:
        queue: The queue.
        user: For the sentence.
        account: Of the session, "" if it has none.
        groups: Names of the user's groups; only looked at if the queue names groups.

    Raises:
        Forbidden: One sentence: which list, and what it says.
    """
    _check_accounts(queue, account)
    mine = set(groups)
    if queue.allow_groups and not mine & set(queue.allow_groups):
        allowed = ", ".join(queue.allow_groups)
        raise Forbidden(f"user {user} may not use queue {queue.name}: its AllowGroups are {allowed}")
    denied = [group for group in queue.deny_groups if group in mine]
    if denied:
        raise Forbidden(f"user {user} may not use queue {queue.name}: its DenyGroups name {denied[0]}")


def _check_accounts(queue: QueuePolicy, account: str) -> None:
    if queue.allow_accounts and account not in queue.allow_accounts:
        who = f"account {account}" if account else "a session without account"
        allowed = ", ".join(queue.allow_accounts)
        raise Forbidden(f"{who} may not use queue {queue.name}: its AllowAccounts are {allowed}")
    if account in queue.deny_accounts:
        raise Forbidden(f"account {account} may not use queue {queue.name}: its DenyAccounts name it")


# -- while jobs run


def is_barred(job: Job, begun: int, policy: Policy) -> bool:
    """Whether MaxJobsPerUser of its queue keeps a pending job from starting; a job that has begun may go on.

    Args:
        job: Unfinished.
        begun: Jobs of its user in its queue that have begun and not ended.
        policy: In force.
    """
    queue = policy.queues.get(job.queue)
    if queue is None or queue.max_jobs_per_user is None or job.state is not JobState.PENDING:
        return False
    return begun >= queue.max_jobs_per_user


def time_limit(queue: str, policy: Policy) -> float:
    """TimeLimit of a queue in QPU seconds; UNLIMITED_SECONDS if the policy has no such queue any more."""
    found = policy.queues.get(queue)
    return found.time_limit if found else UNLIMITED_SECONDS
