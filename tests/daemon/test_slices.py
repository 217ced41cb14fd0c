"""Slices: production overtakes at a boundary, counts add up exactly, and faults of the QPU cost nobody a shot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qpud.core.job import Reason
from qpud.core.slices import OutcomeState
from qpud.drivers.base import Refused
from tests.daemon.builders import DONE, ERROR, Site, a_policy, a_site, sums, until, with_queue
from tests.daemon.qpu import Qpu, bits


def every_shot_once(shots: int) -> dict[str, int]:
    return {bits(shot): 1 for shot in range(shots)}


def order(site: Site) -> list[int]:
    return [request.job_id for request in site.qpu.requests]


async def test_a_job_of_n_shots_yields_exactly_n(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        job = await site.end(await site.submit(await site.session(), 37))
        assert job.state is DONE
        assert (await site.result(job)).counts == every_shot_once(37)
        assert [request.shots for request in site.qpu.requests] == [10, 10, 10, 7]
    assert sums(tmp_path) == (37, 37, 37)


async def test_production_overtakes_development_at_a_slice_boundary(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        dev = await site.submit(await site.session(), 30)
        await site.in_flight(dev)
        prod = await site.submit(await site.session(queue="production"), 20)
        for number in range(4):
            await site.in_flight(slices=number + 1)
            site.qpu.finish()
        dev, prod = await site.ended(dev, prod)
        assert order(site) == [dev.id, prod.id, dev.id, dev.id]  # nobody may interrupt production: one long slice
        assert (await site.result(dev)).counts == every_shot_once(30)
        assert "preempted by" in await site.story(dev)


async def test_a_job_of_the_same_tier_does_not_interrupt(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        session = await site.session()
        first = await site.submit(session, 20)
        await site.in_flight(first)
        second = await site.submit(session, 10)
        for number in range(3):
            await site.in_flight(slices=number + 1)
            site.qpu.finish()
        await site.ended(first, second)
        assert order(site) == [first.id, first.id, second.id]


async def test_preempt_mode_off_keeps_the_resource_to_the_last_shot(tmp_path: Path) -> None:
    policy = with_queue(a_policy(), "production", priority_tier=500)
    policy = with_queue(policy, "test", priority_tier=1000)
    async with a_site(tmp_path, Qpu(), policy=policy) as site:
        keeps = await site.submit(await site.session(queue="production"), 60)  # longer than a long slice
        await site.in_flight(keeps)
        higher = await site.submit(await site.session(queue="test"), 10)
        for number in range(3):
            await site.in_flight(slices=number + 1)
            site.qpu.finish()
        await site.ended(keeps, higher)
        assert order(site) == [keeps.id, keeps.id, higher.id]


async def test_lost_shots_are_run_again(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await site.submit(await site.session(), 10)
        await site.in_flight(job)
        site.qpu.finish(4)
        await site.in_flight(slices=2)
        site.qpu.finish()
        job = await site.end(job)
        assert (await site.result(job)).counts == every_shot_once(10)
    assert sums(tmp_path) == (10, 10, 10)


@pytest.mark.parametrize(
    "garbage",
    [
        {"0" * 13: 10},
        {"0" * 12: 11},
        {"0" * 12: 0.5},
        {"0" * 12: -1},
        {"0" * 11 + "2": 1},
        {"": 1},
        {7: 1},
        [1, 2],
        None,
    ],
    ids=["atoms", "too-many", "halves", "negative", "no-bits", "empty", "number-key", "list", "none"],
)
async def test_garbage_counts_are_dropped_and_the_shots_run_again(tmp_path: Path, garbage: Any) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await site.submit(await site.session(), 10)
        await site.in_flight(job)
        request = site.qpu.requests[-1]
        outcome = site.qpu.outcomes[request.tag]
        site.qpu.running = None
        outcome.set_result(_outcome(garbage))
        await site.in_flight(slices=2)
        site.qpu.finish()
        job = await site.end(job)
        assert (await site.result(job)).counts == every_shot_once(10)
        assert "impossible counts" in await site.story(job)


def _outcome(counts: Any) -> Any:
    from qpud.core.slices import Outcome

    return Outcome(state=OutcomeState.DONE, counts=counts, started_at=1.0, ended_at=2.0, qpu_seconds=1.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
async def test_impossible_times_of_a_driver_do_not_stop_the_daemon(tmp_path: Path, bad: float) -> None:
    import msgspec

    async with a_site(tmp_path, Qpu()) as site:
        job = await site.submit(await site.session(), 1)
        await site.in_flight(job)
        site.qpu.running = None
        outcome = msgspec.structs.replace(_outcome({bits(0): 1}), qpu_seconds=bad, setup_seconds=bad)
        site.qpu.outcomes[site.qpu.requests[-1].tag].set_result(outcome)
        assert (await site.end(job)).state is DONE
        assert (await site.result(job)).qpu_seconds == 0.0


async def test_three_fruitless_slices_end_the_job_with_the_reason(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        job = await site.submit(await site.session(), 10)
        for number in range(3):
            await site.in_flight(slices=number + 1)
            site.qpu.finish(0, state=OutcomeState.FAILED, message="laser unlocked", transient=True)
        job = await site.end(job)
        assert (job.state, job.reason) == (ERROR, Reason.FAULT)
        assert "laser unlocked" in (await site.result(job)).message


async def test_a_refusal_for_good_ends_the_job_with_the_resources_words(tmp_path: Path) -> None:
    qpu = Qpu()
    qpu.refusals.append(Refused("the register does not fit", transient=False))
    async with a_site(tmp_path, qpu) as site:
        job = await site.end(await site.submit(await site.session(), 10))
        assert job.state is ERROR
        assert (await site.result(job)).message == "the register does not fit"
    assert sums(tmp_path) == (0, 0, 0)


async def test_a_refusal_for_now_is_tried_again_after_a_pause(tmp_path: Path) -> None:
    qpu = Qpu(seconds=0.0)
    qpu.refusals.append(Refused("calibrating", transient=True))
    async with a_site(tmp_path, qpu) as site:
        job = await site.submit(await site.session(), 10)
        await until(lambda: site.book.flights["TWIN"].state == "down")
        assert (await site.job(job)).reason is Reason.DOWN
        job = await site.end(job)
        assert (await site.result(job)).counts == every_shot_once(10)


async def test_a_lost_reply_is_found_by_its_tag_and_not_started_again(tmp_path: Path) -> None:
    qpu = Qpu(seconds=0.0)
    qpu.lose_replies = 1
    async with a_site(tmp_path, qpu) as site:
        job = await site.end(await site.submit(await site.session(), 10))
        assert (await site.result(job)).counts == every_shot_once(10)
        assert len(qpu.requests) == 1


async def test_a_qpu_that_does_not_answer_is_waited_for_and_nothing_else_starts(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        session = await site.session()
        job = await site.submit(session, 10)
        await site.in_flight(job)
        site.qpu.away = True
        site.qpu.finish()
        await until(lambda: site.book.flights["TWIN"].state == "unreachable")
        other = await site.submit(await site.session(queue="production"), 10)
        assert (await site.job(job)).reason is Reason.UNKNOWN
        await site.settle()
        site.qpu.away = False
        site.qpu.seconds = 0.0
        job, other = await site.ended(job, other)
        assert (await site.result(job)).counts == every_shot_once(10)
        assert order(site) == [job.id, other.id]
    assert sums(tmp_path) == (20, 20, 20)


async def test_a_failing_driver_method_is_a_fault_of_the_slice_not_of_the_daemon(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(seconds=0.0)) as site:
        driver: Any = site.context.drivers["TWIN"]
        real, calls = driver.wait, []

        async def wait(device_id: str, request: Any) -> Any:
            calls.append(device_id)
            if len(calls) == 1:
                raise RuntimeError("a bug")
            return await real(device_id, request)

        driver.wait = wait
        job = await site.end(await site.submit(await site.session(), 10))
        assert job.state is DONE
        assert "RuntimeError: a bug" in await site.story(job)


async def test_a_cancel_that_raises_does_not_lose_the_slice_in_flight(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        driver: Any = site.context.drivers["TWIN"]
        asked: list[str] = []

        async def cancel(device_id: str) -> None:
            asked.append(device_id)
            raise RuntimeError("a bug")

        driver.cancel = cancel
        job = await site.submit(await site.session(), 10)
        await site.in_flight(job)
        await site.service.cancel_job(_alice(), str(job.id))
        await until(lambda: bool(asked))
        site.qpu.finish(3, state=OutcomeState.CANCELED)
        job = await site.end(job)
        assert job.shots_done == 3
    assert sums(tmp_path) == (3, 3, 3)


def _alice() -> Any:
    from tests.daemon.builders import ALICE

    return ALICE


async def test_a_driver_that_cancels_itself_does_not_silence_the_runner(tmp_path: Path) -> None:
    import asyncio

    async with a_site(tmp_path, Qpu(seconds=0.0)) as site:
        driver: Any = site.context.drivers["TWIN"]
        real, calls = driver.wait, []

        async def wait(device_id: str, request: Any) -> Any:
            calls.append(device_id)
            if len(calls) == 1:
                raise asyncio.CancelledError
            return await real(device_id, request)

        driver.wait = wait
        job = await site.end(await site.submit(await site.session(), 10))
        assert job.state is DONE
