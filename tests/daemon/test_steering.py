"""down, cancel by filter and change of queue, against the running scheduler."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from qpud.core.errors import BadRequest, Conflict, Forbidden, Invalid, LimitExceeded
from qpud.core.job import Job, JobState, Reason
from qpud.core.verbs import Cancellations, JobSelection
from tests.daemon.builders import ALICE, BOB, CANCELED, DONE, ROOT, Site, a_policy, a_site, sums, until, with_queue
from tests.daemon.qpu import Qpu, bits


def every_shot_once(shots: int) -> dict[str, int]:
    return {bits(shot): 1 for shot in range(shots)}


def audit(path: Path) -> list[tuple[str, str, str, str]]:
    with contextlib.closing(sqlite3.connect(path / "state.sqlite")) as database:
        return database.execute("SELECT user, action, object, detail FROM audit ORDER BY id").fetchall()


# -- down
async def test_down_cuts_the_slice_in_flight_and_starts_nothing(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await site.submit(await site.session(), 10)
        await site.in_flight(job)
        view = await site.service.down(ROOT, "TWIN", "vacuum is gone")
        assert (view.state, view.drained_reason) == ("down", "vacuum is gone")
        await until(lambda: site.book.flights["TWIN"].job_id is None)
        await site.settle()
        assert len(site.qpu.requests) == 1
        now = await site.job(job)
        assert (now.state, now.reason, now.shots_done) == (JobState.RUNNING, Reason.DOWN, 1)
        assert "TWIN is down (vacuum is gone)" in await site.story(job)


async def test_after_a_resume_the_shots_that_are_left_run(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await site.submit(await site.session(), 10)
        await site.in_flight(job)
        await site.service.down(ROOT, "TWIN", "vacuum is gone")
        await until(lambda: site.book.flights["TWIN"].job_id is None)
        assert (await site.service.resume(ROOT, "TWIN")).state == "up"
        await site.in_flight(slices=2)
        site.qpu.finish()
        assert (await site.end(job)).state is DONE
        assert (await site.result(job)).counts == every_shot_once(10)
    assert sums(tmp_path) == (10, 10, 10)


async def test_slices_that_down_cuts_never_end_a_job(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await site.submit(await site.session(), 10)
        for number in range(5):
            await site.in_flight(slices=number + 1)
            await site.service.down(ROOT, "TWIN", "again")
            await until(lambda: site.book.flights["TWIN"].job_id is None)
            await site.service.resume(ROOT, "TWIN")
        await site.in_flight(slices=6)
        assert (await site.job(job)).state is JobState.RUNNING


async def test_down_survives_a_restart(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        await site.service.down(ROOT, "TWIN", "vacuum is gone")
        job = await site.submit(await site.session(), 10)
    async with a_site(tmp_path, Qpu()) as site:
        await site.settle()
        assert site.qpu.requests == []
        assert (await site.service.resources())[0].state == "down"
        assert (await site.job(job)).reason is Reason.DOWN
        await site.service.resume(ROOT, "TWIN")
        await site.in_flight(job)


async def test_a_slice_that_a_restart_finds_in_flight_is_cut_where_the_resource_is_down(tmp_path: Path) -> None:
    qpu = Qpu()
    async with a_site(tmp_path, qpu) as site:
        job = await site.submit(await site.session(), 10)
        await site.in_flight(job)
        site.context.book.flights["TWIN"].is_down = False
        await site.stop()
    with contextlib.closing(sqlite3.connect(tmp_path / "state.sqlite")) as database, database:
        database.execute("INSERT INTO drains VALUES ('TWIN', 'vacuum', 'root', 0, 1)")
    async with a_site(tmp_path, qpu) as site:
        await until(lambda: qpu.canceled != [])


async def test_a_drain_after_down_lets_slices_end_again(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        await site.service.down(ROOT, "TWIN", "vacuum is gone")
        assert (await site.service.drain(ROOT, "TWIN", "pumping")).state == "drained"


async def test_only_administrators_take_a_resource_down(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        with pytest.raises(Forbidden, match="user alice may not take TWIN down"):
            await site.service.down(ALICE, "TWIN", "x")
        with pytest.raises(BadRequest, match="a down of TWIN needs a reason"):
            await site.service.down(ROOT, "TWIN", " ")


# -- cancel by filter
async def some_jobs(site: Site) -> dict[str, Job]:
    """Alice's job runs, another waits, one of hers is in production; bob's waits."""
    alice, prod, bob = await site.session(), await site.session(queue="production"), await site.session(BOB)
    runs = await site.submit(alice, 10, name="a")
    await site.in_flight(runs)
    return {
        "runs": runs,
        "waits": await site.submit(alice, 10, name="b"),
        "prod": await site.submit(prod, 10, name="a"),
        "bob": await site.submit(bob, 10, who=BOB, name="a"),
    }


@pytest.mark.parametrize(
    ("who", "which", "hit"),
    [
        (ALICE, {"user_id": 1001}, {"runs", "waits", "prod"}),
        (ALICE, {"queue": "development"}, {"runs", "waits"}),
        (ALICE, {"name": "a"}, {"runs", "prod"}),
        (ALICE, {"state": JobState.PENDING}, {"waits", "prod"}),
        (ALICE, {"resource": "TWIN", "queue": "production"}, {"prod"}),
        (ALICE, {"batch_id": "none"}, set()),
        (ROOT, {"name": "a"}, {"runs", "prod", "bob"}),
        (ROOT, {"user_id": 1002}, {"bob"}),
        (ROOT, {"resource": "TWIN"}, {"runs", "waits", "prod", "bob"}),
    ],
)
async def test_a_filter_selects_own_jobs_or_everybodys_for_administrators(
    tmp_path: Path, who: Any, which: Any, hit: set[str]
) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        jobs = await some_jobs(site)
        dry = await site.service.cancel_jobs(who, JobSelection(**which), is_dry=True)
        assert {one.job.id for one in dry.jobs} == {jobs[name].id for name in hit}
        assert all(not job.is_terminal for job in site.book.jobs.values())
        done = await site.service.cancel_jobs(who, JobSelection(**which))
        assert {one.job.id for one in done.jobs} == {jobs[name].id for name in hit}
        ended = await site.ended(*(jobs[name] for name in hit))
        assert all(job.state is CANCELED for job in ended)


async def test_a_cancel_of_many_tells_the_truth_in_numbers(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        await some_jobs(site)
        done = await site.service.cancel_jobs(ROOT, JobSelection(resource="TWIN"))
        assert done == Cancellations(matched=4, canceled=3, stopping=1, ended=0, jobs=done.jobs)


async def test_a_session_selects_its_jobs(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        jobs = await some_jobs(site)
        done = await site.service.cancel_jobs(ALICE, JobSelection(session_id=jobs["prod"].session_id))
        assert [one.job.id for one in done.jobs] == [jobs["prod"].id]


async def test_anothers_session_selects_nothing(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        jobs = await some_jobs(site)
        assert (await site.service.cancel_jobs(BOB, JobSelection(session_id=jobs["prod"].session_id))).matched == 0


async def test_a_filter_that_says_nothing_is_refused(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        with pytest.raises(BadRequest, match="needs a filter"):
            await site.service.cancel_jobs(ROOT, JobSelection())
        with pytest.raises(BadRequest, match="jobs in state DONE have ended"):
            await site.service.cancel_jobs(ROOT, JobSelection(state=JobState.DONE))


async def test_anothers_jobs_are_not_mistaken_for_ones_own(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        await some_jobs(site)
        with pytest.raises(Forbidden, match="user alice may cancel his own jobs only"):
            await site.service.cancel_jobs(ALICE, JobSelection(user_id=1002))


# -- change of queue
async def test_a_pending_job_changes_its_queue_and_its_place(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        session = await site.session()
        first = await site.submit(session, 10)
        await site.in_flight(first)
        behind, moved = await site.submit(session, 10), await site.submit(session, 10)
        assert (await site.service.change_queue(ROOT, str(moved.id), "production")).queue == "production"
        site.qpu.finish()
        await site.in_flight(moved)
        assert (await site.job(behind)).state is JobState.PENDING
        assert "moved from queue development to queue production by root" in await site.story(moved)
    row = ("root", "queue", f"job {moved.id}", "moved from queue development to queue production by root")
    assert audit(tmp_path) == [row]


async def test_a_running_job_goes_on_in_its_new_queue(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await site.submit(await site.session(), 20)
        await site.in_flight(job)
        await site.service.change_queue(ROOT, str(job.id), "production")
        for number in range(2):
            await site.in_flight(slices=number + 1)
            site.qpu.finish()
        job = await site.end(job)
        assert (job.state, job.queue) == (DONE, "production")
        assert site.book.depths[("TWIN", "development", JobState.RUNNING)] == 0
        assert site.book.depths[("TWIN", "production", JobState.RUNNING)] == 0
    assert sums(tmp_path) == (20, 20, 20)


async def test_the_new_queue_survives_a_restart(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        await site.service.drain(ROOT, "TWIN", "x")
        job = await site.submit(await site.session(), 20)
        await site.service.change_queue(ROOT, str(job.id), "production")
    async with a_site(tmp_path, Qpu()) as site:
        assert (await site.job(job)).queue == "production"


async def test_the_limits_of_the_new_queue_hold(tmp_path: Path) -> None:
    policy = with_queue(a_policy(), "production", max_shots=10, max_submit_jobs=1)
    async with a_site(tmp_path, Qpu(), policy=policy) as site:
        session = await site.session()
        long, short, other = [await site.submit(session, shots) for shots in (20, 10, 10)]
        with pytest.raises(LimitExceeded, match="20 shots exceed MaxShots 10 of queue production"):
            await site.service.change_queue(ROOT, str(long.id), "production")
        await site.service.change_queue(ROOT, str(short.id), "production")
        with pytest.raises(LimitExceeded, match="MaxSubmitJobs 1 of queue production"):
            await site.service.change_queue(ROOT, str(other.id), "production")


async def test_an_override_passes_over_limits_and_is_on_record(tmp_path: Path) -> None:
    policy = with_queue(a_policy(), "production", max_shots=10, allow_accounts=("ops",))
    async with a_site(tmp_path, Qpu(), policy=policy) as site:
        job = await site.submit(await site.session(), 20)
        with pytest.raises(Forbidden, match="a session without account may not use queue production"):
            await site.service.change_queue(ROOT, str(job.id), "production")
        await site.service.change_queue(ROOT, str(job.id), "production", override=True)
    assert audit(tmp_path)[0][3].endswith("by root, past its limits")


async def test_only_administrators_change_queues(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await site.submit(await site.session(), 20)
        with pytest.raises(Forbidden, match="user alice may not change the queue of job 1"):
            await site.service.change_queue(ALICE, str(job.id), "production")


async def test_a_queue_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await site.submit(await site.session(), 20)
        with pytest.raises(Invalid, match="queue 'prodution' does not exist: there are production, test"):
            await site.service.change_queue(ROOT, str(job.id), "prodution")


async def test_a_job_that_has_ended_keeps_its_queue(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        job = await site.end(await site.submit(await site.session(), 10))
        with pytest.raises(Conflict, match=f"job {job.id} is DONE and cannot change its queue"):
            await site.service.change_queue(ROOT, str(job.id), "production")
