"""Verbs against the running scheduler: cancel tells the truth in every state, hold and drain hold, limits limit."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qpud.core import verbs
from qpud.core.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    LimitExceeded,
    NotFound,
    QpudError,
    StorageFull,
    Unauthenticated,
    Unavailable,
)
from qpud.core.identity import Identity, Proof
from qpud.core.job import Job, JobState, Reason
from qpud.core.session import CloseReason, Session
from qpud.core.slices import OutcomeState
from qpud.core.terms import DriverKind, OpenSessions
from qpud.core.verbs import JobRequest
from tests.daemon.builders import (
    ALICE,
    BOB,
    CANCELED,
    DONE,
    ERROR,
    ROOT,
    SEQUENCE,
    Clock,
    FakeWorkers,
    Site,
    a_policy,
    a_site,
    sums,
    until,
    with_queue,
)
from tests.daemon.qpu import ATOMS, SPEC, Qpu
from tests.daemon.test_slices import every_shot_once
from tests.drivers.builders import sequence

OTHER_SEQUENCE = sequence(3)


async def held_up(site: Site) -> Job:
    """A development job whose first slice runs until the test ends it."""
    job = await site.submit(await site.session(), 30)
    await site.in_flight(job)
    await site.settle()
    return job


# -- cancel, state by state
async def test_canceling_a_pending_job_ends_it_at_once(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        await held_up(site)
        job = await site.submit(await site.session(), 10)
        answer = await site.service.cancel_job(ALICE, str(job.id))
        assert (answer.job.state, answer.before, answer.job.reason) == (CANCELED, JobState.PENDING, Reason.USER)
        assert answer.message == f"job {job.id} is canceled: 0 of 10 shots had run, 10 never will"


async def test_canceling_a_job_that_is_being_checked_ends_it_at_once(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=a_policy(validation_wait=0.0)) as site:
        site.workers.gate.clear()
        job = await site.submit(await site.session(), 10)
        assert (await site.job(job)).reason is Reason.VALIDATING
        assert (await site.service.cancel_job(ALICE, str(job.id))).job.state is CANCELED
        site.workers.gate.set()
        await site.settle()
        assert (await site.job(job)).state is CANCELED


async def test_canceling_a_held_job_ends_it_at_once(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        await held_up(site)
        job = await site.submit(await site.session(), 10)
        await site.service.hold_job(ALICE, str(job.id))
        assert (await site.service.cancel_job(ALICE, str(job.id))).job.state is CANCELED


async def test_canceling_a_preempted_job_keeps_the_shots_it_had(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        prod = await site.submit(await site.session(queue="production"), 10)
        site.qpu.finish()
        await site.in_flight(prod)
        await site.settle()
        answer = await site.service.cancel_job(ALICE, str(job.id))
        assert (answer.job.state, answer.job.shots_done, answer.before) == (CANCELED, 10, JobState.RUNNING)
        assert len((await site.result(job)).counts) == 10
        site.qpu.finish()
        await site.end(prod)
    assert sums(tmp_path) == (20, 20, 20)


async def test_canceling_a_job_in_flight_asks_the_resource_and_keeps_what_it_had(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        answer = await site.service.cancel_job(ALICE, str(job.id))
        assert (answer.job.state, answer.job.reason, answer.before) == (
            JobState.RUNNING,
            Reason.CANCELING,
            JobState.RUNNING,
        )
        assert "the slice in flight is ending" in answer.message
        job = await site.end(job)
        assert (job.state, job.reason, job.shots_done) == (CANCELED, Reason.USER, 1)
        assert (await site.result(job)).message == "canceled after 1 of 30 shots"
    assert sums(tmp_path) == (1, 1, 1)


async def test_canceling_twice_says_that_it_was_asked_before(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        site.qpu.away = True
        await site.service.cancel_job(ALICE, str(job.id))
        assert (await site.service.cancel_job(ALICE, str(job.id))).asked_before
        site.qpu.away = False
        assert (await site.end(job)).state is CANCELED


async def test_canceling_an_ended_job_changes_nothing(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        job = await site.end(await site.submit(await site.session(), 10))
        answer = await site.service.cancel_job(ALICE, str(job.id))
        assert (answer.before, answer.job.state) == (DONE, DONE)
        assert answer.message == f"job {job.id} had already ended as DONE with 10 of 10 shots"


async def test_canceling_a_job_whose_last_slice_is_being_committed_says_that_it_had_ended(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await site.submit(await site.session(), 10)
        await site.in_flight(job)
        await site.settle()
        waiting_room(site)
        site.qpu.finish()
        answer = await site.service.cancel_job(ALICE, str(job.id))
        assert answer.job.state is DONE
        assert answer.before is DONE
        assert "had already ended as DONE" in answer.message


def waiting_room(site: Site) -> None:
    """Let the next write of a verb queue behind the end of the slice."""
    store: Any = site.context.store
    real = store.write

    async def write(operation: Any, then: Any = None) -> Any:
        store.write = real
        await until(lambda: not site.book.jobs or site.book.flights["TWIN"].job_id is None)
        return await real(operation, then)

    store.write = write


async def test_canceling_a_job_that_was_just_claimed_stops_it_before_its_slice(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        await site.service.drain(ROOT, "TWIN", "x")
        job = await site.submit(await site.session(), 10)
        runner: Any = site.scheduler._runners["TWIN"]
        real, claimed, go = runner._programs.get, asyncio.Event(), asyncio.Event()

        async def get(job: Job) -> Any:
            claimed.set()
            await go.wait()
            return await real(job)

        runner._programs.get = get
        await site.service.resume(ROOT, "TWIN")
        await claimed.wait()
        answer = await site.service.cancel_job(ALICE, str(job.id))
        assert answer.job.reason is Reason.CANCELING
        go.set()
        job = await site.end(job)
        assert (job.state, job.shots_done, site.qpu.requests) == (CANCELED, 0, [])


async def test_a_cancel_that_the_claim_overtakes_still_stops_the_job(tmp_path: Path) -> None:
    """Whatever the order in which cancel and start arrive at the writer, the job ends CANCELED and others go on."""
    for seed in range(20):
        path = tmp_path / str(seed)
        path.mkdir()
        pause = random.Random(seed)
        async with a_site(path, Qpu(seconds=0.0)) as site:
            session = await site.session()
            jobs = [await site.submit(session, 20) for _ in range(4)]
            for _ in range(pause.randrange(30)):
                await asyncio.sleep(0)
            answers = [await site.service.cancel_job(ALICE, str(job.id)) for job in jobs]
            for answer, job in zip(answers, await site.ended(*jobs), strict=True):
                assert job.state in (CANCELED, DONE)
                assert not answer.job.is_terminal or answer.job.state is job.state
        ledger, slices, done = sums(path)
        assert ledger == slices == done == sum(site.qpu.ran.values())
        assert max(site.qpu.ran.values(), default=1) == 1


# -- hold and release
async def test_a_held_job_does_not_start_until_released(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        first = await held_up(site)
        job = await site.submit(await site.session(queue="production"), 10)
        held = await site.service.hold_job(ALICE, str(job.id))
        assert held.reason is Reason.HELD
        for number in range(3):
            await site.in_flight(first, slices=number + 1)
            site.qpu.finish()
        await site.end(first)
        await site.settle()
        assert len(site.qpu.requests) == 3
        await site.service.release_job(ALICE, str(job.id))
        await site.in_flight(job)
        site.qpu.finish()
        assert (await site.end(job)).state is DONE


async def test_a_job_held_in_mid_slice_starts_no_further_slice(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        await site.service.hold_job(ALICE, str(job.id))
        site.qpu.finish()
        await until(lambda: site.book.current("TWIN") is None)
        await site.settle()
        assert len(site.qpu.requests) == 1
        assert (await site.job(job)).shots_done == 10


async def test_a_hold_survives_a_change_of_the_device_spec(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        await site.service.hold_job(ALICE, str(job.id))
        site.context.specs["TWIN"] = msgspec.structs.replace(SPEC, hash="another")
        site.qpu.finish()
        await until(lambda: site.book.current("TWIN") is None)
        await site.settle()
        assert (await site.job(job)).reason is Reason.HELD
        assert len(site.qpu.requests) == 1


async def test_a_user_cannot_release_what_an_administrator_holds(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        await held_up(site)
        job = await site.submit(await site.session(), 10)
        await site.service.hold_job(ROOT, str(job.id))
        with pytest.raises(Conflict, match="held by an administrator"):
            await site.service.release_job(ALICE, str(job.id))


async def test_a_hold_that_comes_after_a_cancel_does_not_take_it_back(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        site.qpu.away = True
        cancel = asyncio.create_task(site.service.cancel_job(ALICE, str(job.id)))
        await asyncio.sleep(0)  # the cancel is on its way to the writer
        with pytest.raises(Conflict, match="canceled"):
            await site.service.hold_job(ALICE, str(job.id))
        await cancel
        assert site.book.jobs[job.id].reason is Reason.CANCELING
        site.qpu.away = False
        assert (await site.end(job)).state is CANCELED


async def test_holding_an_ended_job_is_a_conflict(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        job = await site.end(await site.submit(await site.session(), 10))
        with pytest.raises(Conflict, match="DONE"):
            await site.service.hold_job(ALICE, str(job.id))


# -- drain
async def test_a_drained_resource_starts_nothing_but_ends_what_runs(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        await site.service.drain(ROOT, "TWIN", "laser service")
        site.qpu.finish()
        await until(lambda: site.book.current("TWIN") is None)
        await site.settle()
        now = await site.job(job)
        assert (len(site.qpu.requests), now.shots_done, now.reason) == (1, 10, Reason.DRAINED)
        assert "laser service" in await site.story(job)
        await site.service.resume(ROOT, "TWIN")
        await site.in_flight(slices=2)


async def test_only_administrators_drain(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        munge_root = Identity(user_id=0, user="root", proof=Proof.MUNGE)
        for who in (ALICE, munge_root):
            with pytest.raises(Forbidden, match="only root and AdminUsers"):
                await site.service.drain(who, "TWIN", "x")


async def test_the_reason_of_a_drain_is_one_line(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        view = await site.service.drain(ROOT, "TWIN", "laser\nservice ")
        assert view.drained_reason == "laser service"


# -- sessions
async def test_a_slurm_job_has_one_session_however_often_it_is_opened(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        opened = await asyncio.gather(*(site.session(slurm_job_id="7") for _ in range(10)))
        assert len({session.id for session in opened}) == 1


async def test_another_share_for_the_same_slurm_job_is_a_conflict(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        await site.session(slurm_job_id="7", share=2)
        with pytest.raises(Conflict, match="different parameters"):
            await site.session(slurm_job_id="7", share=3)


async def test_a_token_of_a_session_that_is_being_closed_belongs_to_a_new_one(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        old = await site.session(slurm_job_id="7")
        ask = verbs.OpenSession(queue="development", slurm_job_id="7")
        _closed, grant = await asyncio.gather(
            site.service.close_session(ALICE, old.id), site.service.open_session(ALICE, ask)
        )
        assert site.service.identify_token(grant.token).session_id == grant.session.id != old.id


async def test_a_closed_sessions_token_proves_nothing(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        grant = await site.service.open_session(ALICE, verbs.OpenSession())
        await site.service.close_session(ALICE, grant.session.id)
        with pytest.raises(Unauthenticated):
            site.service.identify_token(grant.token)


async def test_closing_a_session_stops_everything_unfinished(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        session = await site.session()
        running = await site.submit(session, 30)
        await site.in_flight(running)
        held = await site.submit(session, 10)
        await site.service.hold_job(ALICE, str(held.id))
        pending = [await site.submit(session, 10) for _ in range(300)]
        await site.service.close_session(ALICE, session.id)
        ended = await site.ended(running, held, *pending)
        assert {(job.state, job.reason) for job in ended} == {(CANCELED, Reason.SESSION_CLOSED)}


async def test_closing_twice_at_once_keeps_the_first_closing_time(tmp_path: Path) -> None:
    clock = Clock()
    async with a_site(tmp_path, clock=clock) as site:
        session = await site.session()
        first = asyncio.create_task(site.service.close_session(ALICE, session.id))
        await asyncio.sleep(0)
        clock.forward(60)
        second = await site.service.close_session(ALICE, session.id)
        assert (await first).closed_at == second.closed_at


async def test_a_job_that_ends_while_its_session_closes_does_not_keep_the_others_alive(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        session = await site.session()
        first = await site.submit(session, 10)
        await site.in_flight(first)
        others = [await site.submit(session, 10) for _ in range(3)]
        await site.settle()
        site.qpu.finish()
        await site.service.close_session(ALICE, session.id)
        assert {job.state for job in await site.ended(*others)} == {CANCELED}


async def test_a_submission_that_loses_against_the_closing_of_its_session_is_refused(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        site.workers.gate.clear()
        submission = asyncio.create_task(site.submit(session, 10))
        await until(lambda: site.workers.asked == 1)
        await site.service.close_session(ALICE, session.id)
        site.workers.gate.set()
        with pytest.raises(Forbidden, match="has ended"):
            await submission
        assert not site.book.jobs


async def test_submissions_and_closing_at_once_leave_no_job_behind(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        session = await site.session()
        results = await asyncio.gather(
            *(site.submit(session, 10) for _ in range(5)),
            site.service.close_session(ALICE, session.id),
            *(site.submit(session, 10) for _ in range(5)),
            return_exceptions=True,
        )
        accepted = [job for job in results if isinstance(job, Job)]
        assert {job.state for job in await site.ended(*accepted)} <= {CANCELED}
        assert not site.book.orphaned()


async def test_an_idle_session_expires(tmp_path: Path) -> None:
    clock = Clock()
    async with a_site(tmp_path, clock=clock, policy=a_policy(session_idle_timeout=100.0)) as site:
        session = await site.session()
        clock.forward(101)
        site.context.touch()
        await until(lambda: not site.book.sessions)
        assert (await site.service.get_session(ALICE, session.id)).close_reason is CloseReason.IDLE


async def test_a_session_with_unfinished_jobs_is_not_idle(tmp_path: Path) -> None:
    clock = Clock()
    async with a_site(tmp_path, Qpu(), clock=clock, policy=a_policy(session_idle_timeout=100.0)) as site:
        job = await held_up(site)
        clock.forward(500)
        site.context.touch()
        await site.settle()
        assert job.session_id in site.book.sessions


async def test_a_session_that_is_too_old_ends_with_its_jobs(tmp_path: Path) -> None:
    clock = Clock()
    async with a_site(tmp_path, Qpu(), clock=clock, policy=a_policy(session_max_lifetime=1000.0)) as site:
        job = await held_up(site)
        clock.forward(1001)
        site.context.touch()
        job = await site.end(job)
        assert (job.state, job.reason) == (CANCELED, Reason.SESSION_EXPIRED)


async def test_a_session_that_is_used_while_another_expires_lives_on(tmp_path: Path) -> None:
    clock = Clock()
    async with a_site(tmp_path, clock=clock, policy=a_policy(session_idle_timeout=100.0)) as site:
        await site.session(BOB)
        used = await site.session()
        clock.forward(101)
        submission = asyncio.create_task(site.submit(used, 10))
        real = site.service.end_session

        async def after_the_submission(session: Session, reason: CloseReason) -> Session:
            await submission
            return await real(session, reason)

        site.reaper._sessions.end_session = after_the_submission  # type: ignore[method-assign]
        site.context.touch()
        await until(lambda: len(site.book.sessions) == 1)
        await site.settle()
        assert used.id in site.book.sessions


async def test_open_sessions_admin_leaves_it_to_root_and_the_slurm_hooks(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=a_policy(open_sessions=OpenSessions.ADMIN)) as site:
        with pytest.raises(Forbidden, match="OpenSessions=admin"):
            await site.session()
        hook = Identity(user_id=0, user="root", proof=Proof.MUNGE)
        grant = await site.service.open_session(hook, verbs.OpenSession(user_id=ALICE.user_id, slurm_job_id="9"))
        assert grant.session.user_id == ALICE.user_id


async def test_a_user_opens_no_session_for_another(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        with pytest.raises(Forbidden, match="only for himself"):
            await site.session(BOB, user_id=ALICE.user_id)


# -- others' objects
@pytest.mark.parametrize("verb", ["get_job", "cancel_job", "job_logs", "result", "hold_job", "release_job"])
async def test_anothers_job_looks_like_none(tmp_path: Path, verb: str) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        for ref in (str(job.id), job.uid):
            with pytest.raises(NotFound, match=f"job {ref} does not exist"):
                await getattr(site.service, verb)(BOB, ref)


async def test_anothers_session_looks_like_none(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        for verb in (site.service.get_session, site.service.close_session):
            with pytest.raises(NotFound):
                await verb(BOB, session.id)


async def test_lists_show_only_the_callers_own(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        await held_up(site)
        assert (await site.service.list_jobs(BOB, verbs.JobFilter(user_id=ALICE.user_id))).jobs == []
        assert await site.service.list_sessions(BOB, verbs.SessionFilter(user_id=ALICE.user_id)) == []


async def test_the_queue_hides_what_others_run(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        await site.submit(await site.session(), 10, name="secret project")
        (entry,) = await site.service.queue(BOB, "TWIN")
        assert (entry.job.name, entry.job.uid, entry.job.session_id, entry.job.sequence_hash) == (None, "", "", "")


async def test_a_guessed_uuid_is_no_reference(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        forged = job.uid[:-1] + ("0" if job.uid[-1] != "0" else "1")
        with pytest.raises(NotFound):
            await site.service.get_job(ALICE, forged)


# -- keys
async def test_the_same_key_and_body_give_the_same_jobs(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        first = await site.submit(session, 10, key="k")
        await site.end(first)
        assert (await site.submit(session, 10, key="k")).id == first.id


async def test_the_same_key_twenty_times_at_once_makes_one_job(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        session = await site.session()
        jobs = await asyncio.gather(*(site.submit(session, 10, key="k") for _ in range(20)))
        assert len({job.id for job in jobs}) == 1
        assert len(site.book.jobs) == 1


async def test_the_same_key_with_another_body_is_a_conflict(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        await site.submit(session, 10, key="k")
        with pytest.raises(Conflict, match="'k' came with another request"):
            await site.submit(session, 11, key="k")


async def test_the_same_key_with_another_body_at_once_is_a_conflict(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        results = await asyncio.gather(
            *(site.submit(session, shots, key="k") for shots in (10, 11)), return_exceptions=True
        )
        assert sorted(type(result).__name__ for result in results) == ["Conflict", "Job"]


async def test_a_key_belongs_to_its_user(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        mine = await site.submit(await site.session(), 10, key="k")
        his = await site.submit(await site.session(BOB), 10, who=BOB, key="k")
        assert mine.id != his.id


# -- waiting
async def test_a_wait_returns_at_the_change(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        waiting = asyncio.create_task(site.service.get_job(ALICE, str(job.id), 60.0))
        await asyncio.sleep(0)
        for number in range(3):
            await site.in_flight(slices=number + 1)
            assert not waiting.done()
            site.qpu.finish()
        async with asyncio.timeout(5):
            assert (await waiting).state is DONE


async def test_a_wait_without_a_change_returns_after_its_time(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        started = time.monotonic()
        assert (await site.service.get_job(ALICE, str(job.id), 0.05)).state is JobState.RUNNING
        assert time.monotonic() - started >= 0.05


async def test_a_stopping_daemon_releases_those_who_wait(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        waiting = asyncio.create_task(site.service.get_job(ALICE, str(job.id), 60.0))
        await asyncio.sleep(0)
        site.context.waiters.release_all()
        async with asyncio.timeout(5):
            await waiting


async def test_waiters_that_leave_are_forgotten(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        waits = [asyncio.create_task(site.service.get_job(ALICE, str(job.id), 60.0)) for _ in range(5)]
        await asyncio.sleep(0)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        assert not site.context.waiters._waiting


# -- limits
async def test_more_shots_than_the_queue_allows_are_refused_with_numbers(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=with_queue(a_policy(), "development", max_shots=1000)) as site:
        with pytest.raises(LimitExceeded, match=r"^5000 shots exceed MaxShots 1000 of queue development: submit 5"):
            await site.submit(await site.session(), 5000)


async def test_more_shots_than_the_device_allows_are_refused_with_numbers(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        with pytest.raises(Invalid, match=r"^2001 shots exceed max_runs 2000 of TWIN's device AnalogDevice$"):
            await site.submit(await site.session(), 2001)


async def test_more_jobs_than_the_queue_allows_are_refused_with_numbers(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=with_queue(a_policy(), "development", max_submit_jobs=2)) as site:
        session = await site.session()
        for _ in range(2):
            await site.submit(session, 10)
        with pytest.raises(LimitExceeded, match=r"^2 unfinished and 1 new jobs exceed MaxSubmitJobs 2"):
            await site.submit(session, 10)


async def test_max_submit_jobs_holds_for_submissions_at_once(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=with_queue(a_policy(), "development", max_submit_jobs=2)) as site:
        session = await site.session()
        results = await asyncio.gather(*(site.submit(session, 10) for _ in range(10)), return_exceptions=True)
        assert [isinstance(result, Job) for result in results].count(True) == 2
        assert len(site.book.jobs) == 2


async def test_a_name_or_key_with_a_nul_is_stored_or_refused(tmp_path: Path) -> None:
    bad = "a\x00b"
    async with a_site(tmp_path, Qpu()) as site:
        session = await site.session()
        with contextlib.suppress(QpudError):
            await site.submit(session, 10, name=bad)
        with contextlib.suppress(QpudError):
            await site.submit(session, 10, key=bad)


async def test_a_batch_is_accepted_whole_or_not_at_all(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        site.workers.bad[OTHER_SEQUENCE] = "the pulse is too strong"
        asks = [JobRequest(sequence=text, shots=1) for text in (SEQUENCE, OTHER_SEQUENCE)]
        with pytest.raises(Invalid, match=r"^job 2 of 2: the pulse is too strong$"):
            await site.service.submit(ALICE, session.id, asks)
        with pytest.raises(Invalid, match=r"^the pulse is too strong$"):
            await site.service.submit(ALICE, session.id, asks[1:])
        assert not site.book.jobs


async def test_an_empty_batch_is_refused(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        with pytest.raises(BadRequest):
            await site.service.submit(ALICE, (await site.session()).id, [])


# -- validation
async def test_a_flood_of_jobs_is_accepted_and_judged_later_with_the_same_sentences(tmp_path: Path) -> None:
    workers = FakeWorkers()
    workers.bad[OTHER_SEQUENCE] = "amplitude 99 exceeds the maximum 12.57 of channel rydberg_global"
    async with a_site(tmp_path, workers=workers, policy=a_policy(validation_wait=0.0)) as site:
        workers.gate.clear()
        session = await site.session()
        good = [await site.submit(session, 10) for _ in range(5)]
        bad = [await site.submit(session, 10, sequence=OTHER_SEQUENCE) for _ in range(5)]
        assert {(await site.job(job)).reason for job in (*good, *bad)} == {Reason.VALIDATING}
        workers.gate.set()
        assert {job.state for job in await site.ended(*good)} == {DONE}
        assert {(job.state, job.reason) for job in await site.ended(*bad)} == {(ERROR, Reason.INVALID)}
        assert (await site.result(bad[0])).message == workers.bad[OTHER_SEQUENCE]


async def test_a_job_is_checked_again_when_the_device_changed_since_its_submission(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        first = await held_up(site)
        good = await site.submit(await site.session(), 10)
        bad = await site.submit(await site.session(), 10, sequence=OTHER_SEQUENCE)
        site.workers.bad[OTHER_SEQUENCE] = "the laser is weaker today"
        site.context.specs["TWIN"] = msgspec.structs.replace(SPEC, hash="recalibrated")
        site.qpu.seconds = 0.0
        site.qpu.finish()
        first, good, bad = await site.ended(first, good, bad)
        assert (first.state, good.state, bad.state) == (DONE, DONE, ERROR)
        assert first.validated_spec == "recalibrated"
        assert (await site.result(first)).counts == every_shot_once(30)
        assert "weaker today" in (await site.result(bad)).message
    assert sums(tmp_path) == (40, 40, 40)


async def test_a_running_job_that_the_new_device_cannot_run_ends_with_the_shots_it_had(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        site.workers.bad[SEQUENCE] = "the laser is weaker today"
        site.context.specs["TWIN"] = msgspec.structs.replace(SPEC, hash="recalibrated")
        site.qpu.finish()
        job = await site.end(job)
        assert (job.state, job.shots_done, job.reason) == (ERROR, 10, Reason.INVALID)
        assert len((await site.result(job)).counts) == 10
    assert sums(tmp_path) == (10, 10, 10)


async def test_thousands_of_jobs_to_check_again_do_not_stop_the_loop(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        await held_up(site)
        session = await site.session()
        asks = [JobRequest(sequence=SEQUENCE, shots=1) for _ in range(1000)]
        await site.service.submit(ALICE, session.id, asks)
        site.workers.gate.clear()
        site.context.specs["TWIN"] = msgspec.structs.replace(SPEC, hash="recalibrated")
        site.qpu.finish()
        await until(lambda: site.book.current("TWIN") is None)
        await site.settle()
        assert 0 < len(site.book.unvalidated["TWIN"]) < 100
        site.qpu.seconds = 0.0
        site.workers.gate.set()
        await until(lambda: len(site.qpu.requests) > 200)


# -- the daemon
async def test_a_stuck_scheduler_is_not_healthy(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        assert site.service.health().alive
        site.context.heartbeat = lambda: 31.0
        health = site.service.health()
        assert (health.alive, health.message) == (False, "the scheduler's loop last turned 31 s ago")


async def test_the_heartbeat_goes_on_while_a_driver_takes_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qpud.scheduler.flight.HEARTBEAT_SECONDS", 0.01)
    async with a_site(tmp_path) as site:
        driver: Any = site.context.drivers["TWIN"]
        real, go = driver.start, asyncio.Event()

        async def start(request: Any) -> str:
            await go.wait()
            return str(await real(request))

        driver.start = start
        job = await site.submit(await site.session(), 10)
        runner = site.scheduler._runners["TWIN"]
        await until(lambda: site.book.flights["TWIN"].slice is not None)
        turned = runner.turned_at
        await until(lambda: runner.turned_at > turned + 0.03)
        go.set()
        assert (await site.end(job)).state is DONE


async def test_a_scheduler_task_that_ends_takes_the_others_down(tmp_path: Path) -> None:
    site = await _broken(tmp_path, asyncio.CancelledError())
    with pytest.raises(BaseExceptionGroup) as caught:
        await site.stop()
    assert "ended by itself" in repr(caught.value)
    await site.context.store.close()


async def _broken(path: Path, error: BaseException) -> Site:
    from tests.daemon.builders import a_life

    site = await a_life(path, Qpu())

    async def fail(_in_flight: Any) -> None:
        raise error

    site.scheduler._runners["TWIN"].run = fail  # type: ignore[method-assign]
    site.start()
    assert site.root is not None
    await asyncio.wait({site.root}, timeout=5)
    assert site.root.done()
    return site


async def test_a_garbled_cancel_outcome_still_ends_the_job(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        site.qpu.seconds = 99.0  # the QPU takes note of the cancel and does not hurry
        await site.service.cancel_job(ALICE, str(job.id))
        await until(lambda: bool(site.qpu.canceled))
        site.qpu.finish(0, state=OutcomeState.FAILED, message="stopped", transient=False)
        job = await site.end(job)
        assert (job.state, job.reason) == (CANCELED, Reason.USER)


# -- what goes wrong meanwhile
def full_disk(site: Site, *, after: int) -> Any:
    """Let all but the first writes fail; returns what makes room again."""
    store: Any = site.context.store
    real, left = store.write, [after]

    async def write(operation: Any, then: Any = None) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise StorageFull("nothing can be stored in StateSaveLocation now (full): nothing was accepted")
        return await real(operation, then)

    def make_room() -> None:
        store.write = real

    store.write = write
    return make_room


async def test_jobs_of_a_session_that_closed_on_a_full_disk_are_canceled_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qpud.service.reaper._RETRY_SECONDS", 0.01)
    async with a_site(tmp_path, Qpu()) as site:
        await site.service.drain(ROOT, "TWIN", "x")
        session = await site.session()
        jobs = [await site.submit(session, 10) for _ in range(5)]
        make_room = full_disk(site, after=1)
        with pytest.raises(StorageFull):
            await site.service.close_session(ALICE, session.id)
        make_room()
        assert {(job.state, job.reason) for job in await site.ended(*jobs)} == {(CANCELED, Reason.SESSION_CLOSED)}


async def test_a_slice_that_ends_on_a_full_disk_is_kept_and_stored_later(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        make_room = full_disk(site, after=0)
        site.qpu.finish()
        await until(lambda: "StateSaveLocation" in site.book.flights["TWIN"].message)
        with pytest.raises(StorageFull):
            await site.submit(await _session_of(site, job), 10)
        assert len(site.qpu.requests) == 1
        make_room()
        await site.in_flight(slices=2)
        assert site.book.flights["TWIN"].message == ""
        assert (await site.job(job)).shots_done == 10


async def _session_of(site: Site, job: Job) -> Session:
    return await site.service.get_session(ALICE, job.session_id)


async def test_jobs_of_a_queue_that_a_reload_removes_go_on_last(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        first = await held_up(site)
        prod = await site.submit(await site.session(queue="production"), 10)
        policy = site.context.policy
        queues = {name: queue for name, queue in policy.queues.items() if name != "production"}
        site.service._apply(msgspec.structs.replace(policy, queues=queues))
        site.qpu.finish()
        await site.in_flight(slices=2)
        assert site.qpu.requests[-1].job_id == first.id
        site.qpu.seconds = 0.0
        site.qpu.finish()
        assert [job.state for job in await site.ended(first, prod)] == [DONE, DONE]


async def test_a_reload_that_raises_a_tier_takes_effect_at_the_next_boundary(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        first = await held_up(site)
        other = await site.submit(await site.session(queue="test"), 10)
        policy = with_queue(site.context.policy, "development", priority_tier=70)
        site.service._apply(policy)
        site.qpu.finish()
        await site.in_flight(slices=2)
        assert site.qpu.requests[-1].job_id == first.id
        site.qpu.seconds = 0.0
        site.qpu.finish()
        await site.ended(first, other)


async def test_a_database_that_another_process_locks_stops_nothing_for_longer_than_the_lock(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await held_up(site)
        session = await _session_of(site, job)
        site.context.store._writer._connection.execute("PRAGMA busy_timeout = 20")
        with contextlib.closing(sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            site.qpu.finish()
            with pytest.raises(Unavailable, match="locked by another process"):
                await site.submit(session, 10)
            await until(lambda: "locked" in site.book.flights["TWIN"].message)
            other.execute("ROLLBACK")
        await site.in_flight(slices=2)
        assert (await site.job(job)).shots_done == 10


async def test_more_atoms_than_an_emulator_takes_are_refused_with_the_submission(tmp_path: Path) -> None:
    twin = msgspec.structs.replace(a_policy().resources["TWIN"], driver=DriverKind.EMULATOR, max_atoms=ATOMS - 1)
    async with a_site(tmp_path, policy=msgspec.structs.replace(a_policy(), resources={"TWIN": twin})) as site:
        session = await site.session()
        with pytest.raises(Invalid, match=rf"^{ATOMS} atoms exceed MaxAtoms {ATOMS - 1} of "):
            await site.submit(session, 10)
