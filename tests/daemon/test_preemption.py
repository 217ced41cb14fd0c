"""What a higher tier may do to a slice in flight, and to whom the time is charged."""

from __future__ import annotations

from pathlib import Path

import pytest

from qpud.core.job import JobState, Reason
from qpud.core.policy import Policy
from qpud.core.terms import PreemptMode
from tests.daemon.builders import BOB, DONE, ROOT, Site, a_policy, a_site, sums, until, with_queue
from tests.daemon.qpu import Qpu
from tests.daemon.test_slices import every_shot_once, order


def cutting(mode: PreemptMode, **changes: object) -> Policy:
    return with_queue(a_policy(), "development", preempt_mode=mode, **changes)


async def overtaken(site: Site, shots: int = 10) -> tuple[int, int]:
    """A development job whose slice is in flight when a production job comes; their ids."""
    dev = await site.submit(await site.session(), shots)
    await site.in_flight(dev)
    prod = await site.submit(await site.session(BOB, queue="production"), 10, who=BOB)
    return dev.id, prod.id


async def test_requeue_cancels_the_slice_in_flight_and_no_shot_is_lost(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=cutting(PreemptMode.REQUEUE)) as site:
        dev, prod = await overtaken(site)
        await until(lambda: len(site.qpu.canceled) == 1)
        for number in (2, 3):
            await site.in_flight(slices=number)
            site.qpu.finish()
        first = await site.end(await site.service.get_job(ROOT, str(dev)))
        assert order(site) == [dev, prod, dev]
        assert first.state is DONE
        assert (await site.result(first)).counts == every_shot_once(10)
        assert "cut with 1 of 10 shots" in await site.story(first)
    assert sums(tmp_path) == (20, 20, 20)


async def test_slice_mode_leaves_the_slice_in_flight_alone(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=cutting(PreemptMode.SLICE)) as site:
        await overtaken(site)
        await site.settle()
        assert site.qpu.canceled == []


async def test_a_slice_in_its_grace_time_is_not_cut_before_it_is_over(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=cutting(PreemptMode.REQUEUE, grace_time=3600.0)) as site:
        await overtaken(site)
        await site.settle()
        assert site.qpu.canceled == []
        site.clock.forward(3601.0)
        site.context.wake("TWIN")
        await until(lambda: len(site.qpu.canceled) == 1)


async def test_a_grace_time_ends_by_itself(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=cutting(PreemptMode.REQUEUE, grace_time=0.05)) as site:
        await overtaken(site)
        await until(lambda: len(site.qpu.canceled) == 1)


async def test_cancel_ends_the_job_and_says_for_whom(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=cutting(PreemptMode.CANCEL)) as site:
        dev, prod = await overtaken(site)
        await site.in_flight(slices=2)
        site.qpu.finish()
        ended = await site.service.get_job(ROOT, str(dev))
        assert (ended.state, ended.reason, ended.shots_done) == (JobState.CANCELED, Reason.PREEMPTION, 1)
        assert "PreemptMode=CANCEL" in (await site.result(ended)).message
        assert (await site.end(await site.service.get_job(ROOT, str(prod)))).state is DONE
    assert sums(tmp_path) == (11, 11, 11)


@pytest.mark.parametrize("scheduler", ["fifo", "priority", "exclusive"])
async def test_the_comparison_schedulers_run_jobs_whole(tmp_path: Path, scheduler: str) -> None:
    async with a_site(tmp_path, policy=a_policy(scheduler_type=scheduler)) as site:
        job = await site.end(await site.submit(await site.session(), 37))
        assert job.state is DONE
        assert [request.shots for request in site.qpu.requests] == [37]


async def test_exclusive_goes_on_when_the_session_that_has_the_resource_ends(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=a_policy(scheduler_type="exclusive")) as site:
        mine = await site.session()
        await site.end(await site.submit(mine, 10))
        other = await site.submit(await site.session(BOB), 10, who=BOB)
        await site.settle()
        assert other.id in site.book.jobs
        await site.service.close_session(ROOT, mine.id)
        assert (await site.end(other)).state is DONE
