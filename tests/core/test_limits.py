"""Each limit refuses in one sentence what exceeds it, and lets through exactly what fits."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpud.core import limits
from qpud.core.errors import Forbidden, LimitExceeded
from qpud.core.job import JobState
from qpud.core.policy import AccountPolicy, Policy, QueuePolicy, UserPolicy
from qpud.core.session import Session
from qpud.core.tally import DAY_SECONDS, DaySum, Tally, day_start
from tests.core.builders import a_job, a_policy, a_session, running

NOON = 20_000 * DAY_SECONDS + 43_200
RATES = {"TWIN": 1.0, "FAST": 100.0}


def policy(queue: dict[str, Any] | None = None, **sections: Any) -> Policy:
    """The test's queues with changes of development; sections user= and account= for alice and chem."""
    base = a_policy()
    queues = {**base.queues, "development": QueuePolicy(name="development", **(queue or {}))}
    users = {"alice": UserPolicy(name="alice", **sections["user"])} if "user" in sections else {}
    accounts = {"chem": AccountPolicy(name="chem", **sections["account"])} if "account" in sections else {}
    return msgspec.structs.replace(base, queues=queues, users=users, accounts=accounts)


class Desk:
    """Submissions of one session against a policy."""

    def __init__(self, policy: Policy, session: Session | None = None) -> None:
        self.policy = policy
        self.session = session or a_session(account="chem")
        self.tally = Tally()
        self.now = NOON

    def ask(self, *shots: int, resource: str = "TWIN") -> None:
        session = self.session
        loads = self.tally.loads(session.user_id, session.queue, session.account or "")
        binding = limits.bounds(self.policy, session, session.queue, loads)
        limits.admit(binding, [(resource, one) for one in shots], RATES, self.tally, self.now)

    def has(self, number: int, shots: int = 10, **changes: Any) -> None:
        for job_id in range(1, number + 1):
            self.tally.add(a_job(job_id, shots=shots, **changes), self.session.account or "")

    def refused(self, *shots: int, **ask: Any) -> str:
        with pytest.raises(LimitExceeded) as refusal:
            self.ask(*shots, **ask)
        return refusal.value.message


def test_too_many_shots_are_refused_with_how_to_split_them() -> None:
    assert Desk(policy({"max_shots": 1000})).refused(5000) == (
        "5000 shots exceed MaxShots 1000 of queue development: submit 5 jobs of at most 1000 shots"
    )


@pytest.mark.parametrize(("section", "whose"), [("user", "user alice"), ("account", "account chem")])
def test_max_shots_of_user_and_account_hold_in_every_queue(section: str, whose: str) -> None:
    assert f"MaxShots 10 of {whose}:" in Desk(policy(**{section: {"max_shots": 10}})).refused(11)


def test_a_limit_binds_nobody_else() -> None:
    other = a_session(user="bob", user_id=1002, account="physics")
    Desk(policy(user={"max_shots": 1}, account={"max_shots": 1}), other).ask(100)


def test_expected_qpu_seconds_beyond_the_time_limit_are_refused_with_the_shots_that_fit() -> None:
    assert Desk(policy({"time_limit": 3600.0})).refused(5000) == (
        "5000 shots take about 5000 QPU seconds, which exceed TimeLimit 3600 of queue development:"
        " at most 3600 shots fit in one job"
    )


def test_the_time_limit_follows_the_shot_rate_of_the_resource() -> None:
    Desk(policy({"time_limit": 50.0})).ask(5000, resource="FAST")


def test_a_time_limit_shorter_than_a_shot_says_so() -> None:
    assert Desk(policy({"time_limit": 0.5})).refused(1).endswith("no shot fits in one job")


def test_time_that_cannot_be_told_in_advance_is_not_refused() -> None:
    Desk(policy({"time_limit": 1.0, "max_qpu_seconds_per_day": 1.0})).ask(10**6, resource="EMU")


def test_the_room_left_by_max_submit_jobs_is_named() -> None:
    desk = Desk(policy({"max_submit_jobs": 6}))
    desk.has(3)
    assert desk.refused(*[1] * 5) == (
        "3 unfinished and 5 new jobs exceed MaxSubmitJobs 6 of queue development: 3 more fit now"
    )


def test_a_full_queue_says_what_to_wait_for() -> None:
    desk = Desk(policy(account={"max_submit_jobs": 3}))
    desk.has(3)
    assert desk.refused(1) == (
        "3 unfinished and 1 new jobs exceed MaxSubmitJobs 3 of account chem: wait for one to end, or cancel one"
    )


def test_a_batch_counts_as_many_jobs() -> None:
    desk = Desk(policy({"max_submit_jobs": 3}))
    desk.ask(1, 1, 1)
    desk.refused(1, 1, 1, 1)


def test_jobs_of_other_queues_do_not_count_in_a_queue() -> None:
    desk = Desk(policy({"max_submit_jobs": 1}))
    desk.has(5, queue="production")
    desk.ask(1)


def test_jobs_of_all_queues_count_for_the_user() -> None:
    desk = Desk(policy(user={"max_submit_jobs": 5}))
    desk.has(5, queue="production")
    assert "of user alice" in desk.refused(1)


def test_jobs_of_all_users_count_for_the_account() -> None:
    desk = Desk(policy(account={"max_submit_jobs": 5}))
    desk.has(5, user_id=1002)
    assert "of account chem" in desk.refused(1)


def test_the_day_counts_what_was_charged_and_what_is_queued() -> None:
    desk = Desk(policy(account={"max_qpu_seconds_per_day": 3600.0}))
    desk.tally.restore([DaySum(user_id=7, queue="test", account="chem", qpu_seconds=3000.0)], NOON)
    desk.has(3, shots=100)
    assert desk.refused(600) == (
        "600 QPU seconds more exceed MaxQPUSecondsPerDay 3600 of account chem,"
        " of which 3300 are used or queued today: at most 300 shots fit until 00:00 UTC"
    )
    desk.ask(300)


def test_a_new_day_begins_at_midnight_utc() -> None:
    desk = Desk(policy({"max_qpu_seconds_per_day": 100.0}))
    desk.has(1)
    desk.tally.charge(a_job(1), 100.0, NOON)
    assert "is used up: nothing fits until 00:00 UTC" in desk.refused(1)
    desk.now = day_start(NOON) + DAY_SECONDS
    desk.ask(90)


def test_a_used_up_day_stops_also_what_cannot_be_told_in_advance() -> None:
    desk = Desk(policy({"max_qpu_seconds_per_day": 100.0}))
    desk.has(1)
    desk.tally.charge(a_job(1), 100.0, NOON)
    assert "is used up" in desk.refused(1, resource="EMU")


@given(
    limit=st.integers(1, 10_000),
    charged=st.integers(0, 10_000),
    queued=st.integers(0, 5_000),
    shots=st.integers(1, 20_000),
    rate=st.sampled_from([0.25, 1.0, 100.0]),
)
def test_the_shots_that_are_said_to_fit_do_and_one_more_does_not(
    limit: int, charged: int, queued: int, shots: int, rate: float
) -> None:
    desk = Desk(policy({"max_qpu_seconds_per_day": float(limit)}))
    desk.tally.restore([DaySum(user_id=1001, queue="development", account="chem", qpu_seconds=charged)], NOON)
    if queued:
        desk.has(1, shots=queued)
    loads = desk.tally.loads(1001, "development", "chem")
    binding = limits.bounds(desk.policy, desk.session, "development", loads)

    def ask(shots: int) -> None:
        limits.admit(binding, [("TWIN", shots)], {"TWIN": rate}, desk.tally, NOON)

    try:
        ask(shots)
    except LimitExceeded as refusal:
        fits = re.search(r"at most (\d+) shot", refusal.message)
        if fits is not None:
            ask(int(fits[1]))
        with pytest.raises(LimitExceeded):
            ask(int(fits[1]) + 1 if fits else 1)


# -- who may use a queue


@pytest.mark.parametrize(
    ("lists", "account", "groups", "sentence"),
    [
        (
            {"allow_accounts": ("prod", "ops")},
            "chem",
            (),
            "account chem may not use queue q: its AllowAccounts are prod, ops",
        ),
        ({"allow_accounts": ("prod",)}, "", (), "a session without account may not use queue q"),
        ({"deny_accounts": ("chem",)}, "chem", (), "account chem may not use queue q: its DenyAccounts name it"),
        ({"allow_groups": ("qa",)}, "", ("users",), "user alice may not use queue q: its AllowGroups are qa"),
        ({"deny_groups": ("guests",)}, "", ("guests",), "user alice may not use queue q: its DenyGroups name guests"),
    ],
)
def test_a_closed_queue_says_which_list_closes_it(
    lists: Any, account: str, groups: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(Forbidden, match=re.escape(sentence)):
        limits.check_access(QueuePolicy(name="q", **lists), "alice", account, groups)


@pytest.mark.parametrize(
    ("lists", "account", "groups"),
    [
        ({}, "", ()),
        ({"allow_accounts": ("chem",)}, "chem", ()),
        ({"deny_accounts": ("chem",)}, "", ()),
        ({"allow_groups": ("qa", "ops")}, "", ("users", "ops")),
        ({"deny_groups": ("guests",)}, "", ("users",)),
    ],
)
def test_an_open_queue_lets_in(lists: Any, account: str, groups: tuple[str, ...]) -> None:
    limits.check_access(QueuePolicy(name="q", **lists), "alice", account, groups)


# -- while jobs run


def test_a_pending_job_is_barred_while_as_many_have_begun() -> None:
    assert limits.is_barred(a_job(), 2, policy({"max_jobs_per_user": 2}))


def test_a_job_that_has_begun_is_never_barred() -> None:
    assert not limits.is_barred(running(), 2, policy({"max_jobs_per_user": 2}))


def test_a_queue_without_the_limit_bars_nobody() -> None:
    assert not limits.is_barred(a_job(), 10**6, policy())


# -- what is counted


def loads_of(tally: Tally) -> list[tuple[int, int, int, float]]:
    found = tally.loads(1001, "development", "chem")
    return [
        (load.jobs, load.begun, load.shots["TWIN"], tally.charged(load, NOON))
        for load in (found.queue, found.user, found.account)
        if load is not None
    ]


def test_a_job_counts_from_its_submission_to_its_end() -> None:
    tally = Tally()
    tally.add(a_job(), "chem")
    assert loads_of(tally) == [(1, 0, 10, 0.0)] * 3
    tally.replace(a_job(), running(shots_done=4))
    assert loads_of(tally) == [(1, 1, 6, 0.0)] * 3
    tally.charge(running(), 4.0, NOON)
    tally.remove(running(shots_done=4))
    assert loads_of(tally) == [(0, 0, 0, 4.0)] * 3


def test_a_job_that_changes_its_queue_counts_there() -> None:
    tally = Tally()
    tally.add(running(), "chem")
    tally.replace(running(), running(queue="production"))
    assert (tally.begun(1001, "development"), tally.begun(1001, "production")) == (0, 1)


def test_room_for_arriving_jobs_is_given_back() -> None:
    tally = Tally()
    forget = tally.expect(tally.loads(1001, "development", "chem"), [("TWIN", 5), ("TWIN", 6)])
    assert loads_of(tally) == [(2, 0, 11, 0.0)] * 3
    forget()
    assert loads_of(tally) == [(0, 0, 0, 0.0)] * 3


def test_a_charge_of_yesterday_that_comes_late_does_not_count_today() -> None:
    tally = Tally()
    tally.add(a_job(), "chem")
    tally.charge(a_job(), 1.0, NOON)
    tally.charge(a_job(), 5.0, NOON - DAY_SECONDS)
    assert loads_of(tally)[0][3] == 1.0


@given(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["add", "begin", "advance", "move", "end"])), max_size=40)
)
def test_counts_are_those_of_the_unfinished_jobs_whatever_happens(steps: list[tuple[int, str]]) -> None:
    tally, jobs = Tally(), {}
    for job_id, step in steps:
        job = jobs.get(job_id)
        if job is None:
            if step == "add":
                jobs[job_id] = a_job(job_id)
                tally.add(jobs[job_id], "chem")
            continue
        if step == "end":
            tally.remove(jobs.pop(job_id))
            continue
        changes: dict[str, Any] = {
            "begin": {"state": JobState.RUNNING},
            "advance": {"shots_done": min(job.shots, job.shots_done + 3)},
            "move": {"queue": "production" if job.queue == "development" else "development"},
        }.get(step, {})
        jobs[job_id] = msgspec.structs.replace(job, **changes)
        tally.replace(job, jobs[job_id])
    for queue in ("development", "production"):
        load = tally.loads(1001, queue, "chem").queue
        here = [job for job in jobs.values() if job.queue == queue]
        assert (load.jobs, load.begun) == (len(here), sum(job.state is JobState.RUNNING for job in here))
        assert load.shots["TWIN"] == sum(job.shots_left for job in here)
