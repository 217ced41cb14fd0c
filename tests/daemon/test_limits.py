"""Limits against the running scheduler: what is refused, what waits, what ends, and what a restart remembers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qpud.core.errors import Forbidden, Invalid, LimitExceeded
from qpud.core.job import Job, JobState, Reason
from qpud.core.policy import AccountPolicy, Policy, UserPolicy
from qpud.core.resource import ResourcePolicy
from qpud.core.session import Session
from qpud.core.tally import DAY_SECONDS, day_start
from qpud.core.terms import DriverKind
from qpud.core.verbs import JobRequest
from qpud.scheduler import runner
from tests.daemon.builders import (
    ALICE,
    BOB,
    CANCELED,
    ROOT,
    SEQUENCE,
    Clock,
    Site,
    a_policy,
    a_site,
    sums,
    until,
    with_queue,
)
from tests.daemon.qpu import SPEC, Qpu, QpuDriver, bits
from tests.drivers.builders import sequence

RATE = 10.0  # shots per QPU second of the test's QPU


def limited(**changes: Any) -> Policy:
    """The test's policy with changes of queue development; TWIN makes ten shots a second."""
    policy = with_queue(a_policy(), "development", **changes)
    twin = ResourcePolicy(name="TWIN", driver=DriverKind.SIMULATED, shot_rate=RATE)
    return msgspec.structs.replace(policy, resources={"TWIN": twin})


async def batch(site: Site, session: Session, number: int, shots: int = 10) -> list[Job]:
    return await site.service.submit(ALICE, session.id, [JobRequest(sequence=SEQUENCE, shots=shots)] * number)


async def explained(site: Site, job: Job) -> str:
    entries = await site.service.queue(ROOT, "TWIN")
    return next(entry.explanation for entry in entries if entry.job.id == job.id)


# -- at submission
async def test_a_batch_counts_as_many_jobs(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=limited(max_submit_jobs=3)) as site:
        session = await site.session()
        await batch(site, session, 2)
        with pytest.raises(LimitExceeded, match=r"2 unfinished and 2 new jobs exceed MaxSubmitJobs 3.*: 1 more fits"):
            await batch(site, session, 2)
        assert len(site.book.jobs) == 2


async def test_a_user_is_limited_over_all_queues(tmp_path: Path) -> None:
    policy = msgspec.structs.replace(a_policy(), users={"user1001": UserPolicy(name="user1001", max_submit_jobs=2)})
    async with a_site(tmp_path, Qpu(), policy=policy) as site:
        await site.submit(await site.session())
        await site.submit(await site.session(queue="test"))
        with pytest.raises(LimitExceeded, match="MaxSubmitJobs 2 of user user1001"):
            await site.submit(await site.session(queue="production"))


async def test_an_account_is_limited_over_all_users(tmp_path: Path) -> None:
    policy = msgspec.structs.replace(a_policy(), accounts={"chem": AccountPolicy(name="chem", max_submit_jobs=1)})
    async with a_site(tmp_path, Qpu(), policy=policy) as site:
        await site.submit(await site.session(account="chem"))
        with pytest.raises(LimitExceeded, match="MaxSubmitJobs 1 of account chem"):
            await site.submit(await site.session(BOB, account="chem"), who=BOB)
        await site.submit(await site.session(BOB), who=BOB)


async def test_a_refused_submission_gives_its_room_back(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=limited(max_submit_jobs=1)) as site:
        session = await site.session()
        site.workers.bad[sequence(3)] = "too few atoms"
        with pytest.raises(Invalid, match="too few atoms"):
            await site.submit(session, sequence=sequence(3))
        await site.submit(session)


async def test_room_is_free_again_when_a_job_has_ended(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=limited(max_submit_jobs=1)) as site:
        session = await site.session()
        await site.end(await site.submit(session))
        await site.end(await site.submit(session))


async def test_the_time_limit_is_refused_with_the_shots_that_fit(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=limited(time_limit=10.0)) as site:
        with pytest.raises(LimitExceeded, match=r"TimeLimit 10 of queue development: at most 100 shots fit"):
            await site.submit(await site.session(), 101)


async def test_the_day_counts_the_charged_and_the_queued(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=limited(max_qpu_seconds_per_day=10.0), clock=at_noon()) as site:
        session = await site.session()
        site.qpu.now = site.clock
        await site.end(await site.submit(session, 40))
        await site.service.drain(ROOT, "TWIN", "to queue in peace")
        await site.submit(session, 30)
        with pytest.raises(LimitExceeded, match=r"of which 7 are used or queued today: at most 30 shots fit until"):
            await site.submit(session, 31)
        await site.submit(session, 30)


async def test_what_was_charged_today_is_remembered_over_a_restart(tmp_path: Path) -> None:
    policy, clock = limited(max_qpu_seconds_per_day=10.0), at_noon()
    async with a_site(tmp_path, policy=policy, clock=clock) as site:
        site.qpu.now = clock
        await site.end(await site.submit(await site.session(), 100))
    async with a_site(tmp_path, policy=policy, clock=clock) as site:
        with pytest.raises(LimitExceeded, match="is used up: nothing fits until 00:00 UTC"):
            await site.submit(await site.session(), 1)


async def test_a_new_day_has_all_its_seconds(tmp_path: Path) -> None:
    clock = at_noon()
    async with a_site(tmp_path, policy=limited(max_qpu_seconds_per_day=10.0), clock=clock) as site:
        site.qpu.now = clock
        session = await site.session()
        await site.end(await site.submit(session, 100))
        clock.forward(DAY_SECONDS / 2 + 60)
        await site.end(await site.submit(await site.session(), 100))


def at_noon() -> Clock:
    clock = Clock()
    clock.forward(day_start(clock()) + DAY_SECONDS / 2 - clock())
    return clock


# -- while jobs run
async def test_no_more_jobs_of_a_user_begin_than_the_queue_allows(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=limited(max_jobs_per_user=1)) as site:
        session = await site.session()
        first = await site.submit(session, 20)
        await site.in_flight(first)
        second = await site.submit(session, 10)
        await site.settle()
        assert (await site.job(second)).reason is Reason.MAX_JOBS_PER_USER
        assert "1 job of user1001 in queue development has begun, MaxJobsPerUser is 1" in await explained(site, second)
        site.qpu.finish()
        await site.in_flight(slices=2)
        assert site.qpu.requests[-1].job_id == first.id
        site.qpu.finish()
        await site.in_flight(second)


async def test_jobs_that_have_begun_on_another_resource_count_and_free_their_place(tmp_path: Path) -> None:
    policy, qpu, other = with_queue(a_policy("TWIN", "OTHER"), "development", max_jobs_per_user=1), Qpu(), Qpu()
    drivers = {"TWIN": QpuDriver("TWIN", qpu), "OTHER": QpuDriver("OTHER", other)}
    async with a_site(tmp_path, qpu, policy=policy, drivers=drivers) as site:
        session = await site.session()
        first = await site.submit(session, 10)
        await site.in_flight(first)
        second = await site.submit(session, 10, resource="OTHER")
        await site.settle()
        assert other.requests == []
        qpu.finish()
        await until(lambda: other.running is not None)
        assert other.requests[0].job_id == second.id


async def test_a_begun_job_that_the_new_device_refuses_frees_its_place_on_another_resource(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "HEARTBEAT_SECONDS", 3600.0)  # which would look by itself
    policy, qpu, other = with_queue(a_policy("TWIN", "OTHER"), "development", max_jobs_per_user=1), Qpu(), Qpu()
    drivers = {"TWIN": QpuDriver("TWIN", qpu), "OTHER": QpuDriver("OTHER", other)}
    async with a_site(tmp_path, qpu, policy=policy, drivers=drivers) as site:
        session = await site.session()
        first = await site.submit(session, 20)
        await site.in_flight(first)
        second = await site.submit(session, 10, resource="OTHER", sequence=sequence(3))
        await site.settle()
        site.workers.bad[SEQUENCE] = "the laser is weaker today"
        site.context.specs["TWIN"] = msgspec.structs.replace(SPEC, hash="recalibrated")
        qpu.finish()
        assert (await site.end(first)).reason is Reason.INVALID
        await until(lambda: other.running is not None, 30)
        assert other.requests[0].job_id == second.id


async def test_others_pass_a_job_that_may_not_begin(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=limited(max_jobs_per_user=1)) as site:
        alice, bob = await site.session(), await site.session(BOB)
        first = await site.submit(alice, 10)
        await site.in_flight(first)
        await site.service.hold_job(ALICE, str(first.id))
        barred = await site.submit(alice, 10)
        other = await site.submit(bob, 10, who=BOB)
        site.qpu.finish(5)
        await site.in_flight(other)
        assert (await site.job(barred)).state is JobState.PENDING


async def test_a_job_that_has_begun_goes_on_past_an_older_one_that_may_not(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=limited(max_jobs_per_user=1)) as site:
        session = await site.session()
        await site.service.drain(ROOT, "TWIN", "to submit in peace")
        older = await site.submit(session, 10)
        await site.service.hold_job(ALICE, str(older.id))
        begun = await site.submit(session, 20)
        await site.service.resume(ROOT, "TWIN")
        await site.in_flight(begun)
        await site.service.hold_job(ALICE, str(begun.id))
        site.qpu.finish()
        await until(lambda: site.qpu.running is None)
        await site.service.release_job(ALICE, str(older.id))
        await site.settle()
        await site.service.release_job(ALICE, str(begun.id))
        await site.in_flight(begun, slices=2)


async def test_a_job_past_its_time_limit_ends_with_its_counts(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=limited(time_limit=2.0)) as site:
        job = await site.submit(await site.session(), 20)
        for number in range(2):
            await site.in_flight(slices=number + 1)
            site.qpu.finish(5, more_seconds=0.5)
        job = await site.end(job)
        assert (job.state, job.reason, job.shots_done) == (CANCELED, Reason.TIME_LIMIT, 10)
        result = await site.result(job)
        assert result.counts == {bits(shot): 1 for shot in range(10)}
        assert result.message == (
            "canceled with 10 of 20 shots: its 2 QPU seconds have reached TimeLimit 2 of queue development"
        )
    assert sums(tmp_path) == (10, 10, 10)


async def test_a_job_that_is_done_just_in_time_is_done(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=limited(time_limit=1.0)) as site:
        job = await site.submit(await site.session(), 10)
        await site.in_flight(job)
        site.qpu.finish(more_seconds=4.0)
        assert (await site.end(job)).state is JobState.DONE


async def test_what_a_job_was_charged_is_remembered_over_a_restart(tmp_path: Path) -> None:
    policy, qpu = limited(time_limit=2.0), Qpu()
    async with a_site(tmp_path, qpu, policy=policy) as site:
        job = await site.submit(await site.session(), 20)
        await site.in_flight(job)
        qpu.finish(5, more_seconds=1.0)
        await site.in_flight(slices=2)
    async with a_site(tmp_path, qpu, policy=policy) as site:
        qpu.finish(5, more_seconds=0.5)
        assert (await site.end(job)).reason is Reason.TIME_LIMIT


# -- who may use a queue
async def test_a_queue_takes_only_the_accounts_it_allows(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=limited(allow_accounts=("chem", "ops"))) as site:
        with pytest.raises(Forbidden, match=r"account physics may not use queue development: its AllowAccounts are"):
            await site.session(account="physics")
        with pytest.raises(Forbidden, match="a session without account may not use queue development"):
            await site.session()
        await site.submit(await site.session(account="chem"))


async def test_a_denied_account_is_kept_out(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=limited(deny_accounts=("chem",))) as site:
        with pytest.raises(Forbidden, match="its DenyAccounts name it"):
            await site.session(account="chem")
        await site.session()


async def test_a_queue_takes_only_the_groups_it_allows(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=limited(allow_groups=("qa",), deny_groups=("guests",))) as site:
        groups = {1001: ("users", "qa"), 1002: ("qa", "guests"), 1003: ("users",)}
        site.context.groups = lambda user_id: groups[user_id]
        await site.session()
        with pytest.raises(Forbidden, match="user user1002 may not use queue development: its DenyGroups name guests"):
            await site.session(BOB)
        with pytest.raises(Forbidden, match="its AllowGroups are qa"):
            await site.session(ROOT, user_id=1003)


async def test_groups_are_asked_for_in_a_thread_and_only_where_a_queue_names_some(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=limited(deny_groups=("guests",))) as site:
        asked_in_loop: list[bool] = []

        def groups(_user_id: int) -> tuple[str, ...]:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                asked_in_loop.append(False)
            else:
                asked_in_loop.append(True)
            return ()

        site.context.groups = groups
        await site.session(queue="test")
        assert asked_in_loop == []
        await site.session()
        assert asked_in_loop == [False]


async def test_an_open_session_of_a_slurm_job_stays_open_to_its_own_hooks(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=limited(allow_accounts=("chem",))) as site:
        first = await site.session(slurm_job_id="7", account="chem")
        assert (await site.session(slurm_job_id="7")).id == first.id
