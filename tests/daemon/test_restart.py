"""What a crash leaves behind, and how the next daemon goes on (DESIGN §6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from qpud.core.job import Job, JobState, Reason
from qpud.core.policy import Policy
from tests.daemon.builders import ALICE, CANCELED, DONE, ROOT, Site, a_life, a_policy, a_site, sums, until
from tests.daemon.qpu import Qpu
from tests.daemon.test_slices import every_shot_once


async def crashed_in_flight(path: Path, qpu: Qpu, shots: int = 30, policy: Policy | None = None) -> Site:
    """A daemon that died while the first slice of a job ran."""
    site = await a_life(path, qpu, policy=policy)
    site.start()
    job = await site.submit(await site.session(), shots)
    await site.in_flight(job)
    await site.settle()
    await site.crash(lose_queued=True)
    return site


async def the_job(site: Site) -> Job:
    """The only one, which may have ended already."""
    return await site.service.get_job(ROOT, "1")


async def test_a_slice_that_ended_while_the_daemon_was_away_is_adopted_and_the_job_goes_on(tmp_path: Path) -> None:
    qpu = Qpu()
    await crashed_in_flight(tmp_path, qpu)
    qpu.finish()
    qpu.seconds = 0.0
    async with a_site(tmp_path, qpu) as site:
        job = await site.end(await the_job(site))
        assert (await site.result(job)).counts == every_shot_once(30)
        assert len(qpu.requests) == 3
    assert sums(tmp_path) == (30, 30, 30)


async def test_a_slice_that_the_resource_forgot_is_run_again_and_the_job_goes_on(tmp_path: Path) -> None:
    qpu = Qpu()
    await crashed_in_flight(tmp_path, qpu)
    qpu.outcomes.clear()
    qpu.running, qpu.seconds = None, 0.0
    async with a_site(tmp_path, qpu) as site:
        job = await site.end(await the_job(site))
        assert (await site.result(job)).counts == every_shot_once(30)
        assert "run again" in await site.story(job)


async def test_production_overtakes_an_adopted_job(tmp_path: Path) -> None:
    qpu = Qpu()
    await crashed_in_flight(tmp_path, qpu)
    async with a_site(tmp_path, qpu) as site:
        dev = site.book.jobs[1]
        prod = await site.submit(await site.session(queue="production"), 10)
        await until(lambda: site.book.flights["TWIN"].state == "up")
        qpu.seconds = 0.0
        qpu.finish()
        dev, prod = await site.ended(dev, prod)
        assert [request.job_id for request in qpu.requests] == [dev.id, prod.id, dev.id, dev.id]


async def test_a_job_whose_session_was_closed_just_before_the_crash_ends_with_the_shots_it_had(tmp_path: Path) -> None:
    qpu = Qpu()
    await crashed_in_flight(tmp_path, qpu)
    close_session_behind_the_back(tmp_path)
    async with a_site(tmp_path, qpu) as site:
        job = await site.end(await the_job(site))
        assert (job.state, job.reason, job.shots_done) == (CANCELED, Reason.SESSION_CLOSED, 1)
        assert qpu.canceled == [qpu.requests[0].tag]
    assert sums(tmp_path) == (1, 1, 1)


def close_session_behind_the_back(path: Path) -> None:
    """What is stored when a daemon dies between closing a session and canceling its jobs."""
    import contextlib
    import sqlite3

    with contextlib.closing(sqlite3.connect(path / "state.sqlite")) as database, database:
        database.execute("DELETE FROM tokens")
        database.execute("UPDATE sessions SET closed_at = 9, close_reason = 'manual'")


async def test_a_job_asked_to_stop_before_the_crash_is_stopped_after_it(tmp_path: Path) -> None:
    qpu = Qpu()
    site = await a_life(tmp_path, qpu)
    site.start()
    job = await site.submit(await site.session(), 30)
    await site.in_flight(job)
    qpu.away = True
    await site.service.cancel_job(ALICE, str(job.id))
    await site.crash(lose_queued=True)
    qpu.away = False
    async with a_site(tmp_path, qpu) as site:
        job = await site.end(job)
        assert (job.state, job.shots_done) == (CANCELED, 1)
    assert sums(tmp_path) == (1, 1, 1)


async def test_a_drain_survives_the_restart(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        await site.service.drain(ROOT, "TWIN", "laser service")
        job = await site.submit(await site.session(), 10)
    async with a_site(tmp_path) as site:
        await site.settle()
        assert (await site.job(job)).reason is Reason.DRAINED
        await site.service.resume(ROOT, "TWIN")
        assert (await site.end(job)).state is DONE


async def test_pending_jobs_wait_for_the_first_device_spec_without_being_checked_again(tmp_path: Path) -> None:
    qpu = Qpu(seconds=0.0)
    async with a_site(tmp_path, qpu) as site:
        await site.service.drain(ROOT, "TWIN", "later")
        session = await site.session()
        jobs = [await site.submit(session, 10) for _ in range(3)]
    spec, qpu.spec = qpu.spec, None
    async with a_site(tmp_path, qpu) as site:
        await site.service.resume(ROOT, "TWIN")
        await site.settle()
        assert [(await site.job(job)).reason for job in jobs] != [Reason.VALIDATING] * 3
        site.context.specs["TWIN"] = spec
        site.context.wake("TWIN")
        assert [job.state for job in await site.ended(*jobs)] == [DONE] * 3
        assert site.workers.asked == 0


async def test_a_job_of_a_resource_that_left_the_policy_waits_and_can_be_canceled(tmp_path: Path) -> None:
    both = a_policy("TWIN", "OTHER")
    async with a_site(tmp_path, policy=both) as site:
        await site.service.drain(ROOT, "OTHER", "leaves")
        session = await site.session()
        kept = await site.submit(session, 10, resource="OTHER")
        dropped = await site.submit(session, 10, resource="OTHER")
    async with a_site(tmp_path) as site:
        assert (await site.job(kept)).reason is Reason.DOWN
        assert "not configured any more" in await site.story(kept)
        await site.service.cancel_job(ALICE, str(dropped.id))
        assert (await site.job(dropped)).state is CANCELED
    async with a_site(tmp_path, policy=both) as site:
        await site.service.resume(ROOT, "OTHER")
        assert (await site.end(kept)).state is DONE


async def test_the_queue_shows_jobs_of_a_resource_that_left_the_policy(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=a_policy("TWIN", "OTHER")) as site:
        await site.service.drain(ROOT, "OTHER", "leaves")
        kept = await site.submit(await site.session(), 10, resource="OTHER")
    async with a_site(tmp_path) as site:
        for asked in (None, "OTHER"):
            [entry] = await site.service.queue(ALICE, asked)
            assert (entry.job.id, entry.explanation) == (kept.id, "waits: resource OTHER is not configured any more")
        await site.service.cancel_job(ALICE, str(kept.id))
        assert await site.service.queue(ALICE, None) == []


async def test_a_slice_in_flight_at_a_resource_that_left_is_adopted_when_it_comes_back(tmp_path: Path) -> None:
    qpu, both = Qpu(), a_policy("OTHER", "TWIN")
    site = await a_life(tmp_path, qpu, policy=both)
    site.start()
    await until(lambda: set(site.context.specs) == {"OTHER", "TWIN"})
    job = await site.submit(await site.session(), 20, resource="OTHER")
    await until(lambda: qpu.running is not None)
    await site.settle()
    await site.crash(lose_queued=True)
    async with a_site(tmp_path, qpu) as site:
        answer = await site.service.cancel_job(ALICE, str(job.id))
        assert answer.job.state is JobState.RUNNING
    async with a_site(tmp_path, qpu, policy=both) as site:
        job = await site.end(job)
        assert (job.state, job.shots_done) == (CANCELED, 1)
    assert sums(tmp_path) == (1, 1, 1)


async def test_a_slice_row_of_a_job_that_has_ended_is_settled_once_and_does_not_stop_the_start(tmp_path: Path) -> None:
    import contextlib
    import sqlite3

    qpu = Qpu()
    await crashed_in_flight(tmp_path, qpu)
    with contextlib.closing(sqlite3.connect(tmp_path / "state.sqlite")) as database, database:
        database.execute("UPDATE jobs SET state = 'CANCELED', ended_at = 9")
    qpu.finish()
    qpu.seconds = 0.0
    async with a_site(tmp_path, qpu) as site:
        assert (await site.end(await site.submit(await site.session(), 10))).state is DONE
        assert (await site.context.store.load()).in_flight == []


@pytest.mark.parametrize("lose_queued", [True, False])
async def test_a_stop_in_mid_slice_loses_nothing(tmp_path: Path, lose_queued: bool) -> None:
    qpu = Qpu()
    await crashed_in_flight(tmp_path, qpu)
    for _ in range(3):
        site = await a_life(tmp_path, qpu)
        site.start()
        await site.settle()
        await site.crash(lose_queued=lose_queued)
    qpu.seconds = 0.0
    qpu.finish()
    async with a_site(tmp_path, qpu) as site:
        job = await site.end(await the_job(site))
        assert (await site.result(job)).counts == every_shot_once(30)
