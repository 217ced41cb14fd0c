"""Finding a slice after a lost reply or a restart: None only with a proof."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from qpud.core.slices import OutcomeState
from qpud.drivers.base import Refused, Undecided, Unreachable
from qpud.drivers.pasqal_qpu import PasqalQpuDriver
from tests.drivers.builders import a_slice, qpu
from tests.drivers.stub_qpu import StubQpu, stub_qpu


@asynccontextmanager
async def opened(stub: StubQpu, **changes: Any) -> AsyncIterator[PasqalQpuDriver]:
    """A driver of a daemon that has just started: it knows nothing of the jobs at the QPU."""
    driver = qpu(stub.url, **changes)
    await driver.open()
    try:
        async with asyncio.timeout(20):
            yield driver
    finally:
        await driver.close()


async def post(stub: StubQpu, *tags: str) -> None:
    """Jobs of an earlier life of the daemon."""
    for tag in tags:
        async with opened(stub) as driver:
            request = a_slice(tag)
            await driver.wait(await driver.start(request), request)


@pytest.mark.parametrize("lists", [True, False])
async def test_a_slice_of_an_earlier_daemon_is_found_by_its_tag_and_adopted(lists):
    async with stub_qpu() as stub:
        stub.lists = lists
        await post(stub, "t1", "t2", "t3")
        async with opened(stub) as driver:
            device_id = await driver.find(a_slice("t2"))
            assert device_id == "1"
            assert (await driver.wait(device_id, a_slice("t2"))).state is OutcomeState.DONE


@pytest.mark.parametrize("lists", [True, False])
async def test_a_slice_that_never_arrived_is_certainly_not_there(lists):
    async with stub_qpu() as stub:
        stub.lists = lists
        await post(stub, "t1", "t2", "t3")
        async with opened(stub) as driver:
            assert await driver.find(a_slice("t4")) is None


@pytest.mark.parametrize("lists", [True, False])
async def test_an_unused_qpu_has_no_slice(lists):
    async with stub_qpu() as stub, opened(stub) as driver:
        stub.lists = lists
        assert await driver.find(a_slice()) is None


async def test_a_slice_is_found_at_the_end_of_a_long_history_with_few_requests():
    async with stub_qpu(shot_rate=1e6) as stub:
        await post(stub, "first")
        stub.jobs += [stub.jobs[0]] * 999
        stub.jobs = [type(job)(uid, job.body, 0.0, job.created) for uid, job in enumerate(stub.jobs)]
        await post(stub, "last")
        stub.requests.clear()
        async with opened(stub) as driver:
            assert await driver.find(a_slice("last")) == "1000"
    assert stub.polls() < 120


async def test_the_search_starts_after_the_newest_id_of_an_earlier_daemon():
    async with stub_qpu() as stub:
        stub.first_uid = 51_234  # nothing at 0 to 7
        await post(stub, "t1", "t2")
        async with opened(stub) as driver:
            assert await driver.find(a_slice("t2", after_device_id="51234")) == "51235"
            assert await driver.find(a_slice("t9", after_device_id="51234")) is None


async def test_an_id_of_the_slice_row_is_enough_if_its_context_agrees():
    async with stub_qpu() as stub:
        stub.uid_of = lambda number: f"job-{number}"
        await post(stub, "t1")
        async with opened(stub) as driver:
            assert await driver.find(a_slice("t1", device_id="job-0")) == "job-0"


async def test_an_id_that_the_qpu_gave_to_another_job_is_not_adopted():
    async with stub_qpu() as stub:
        await post(stub, "t1")
        async with opened(stub) as driver:
            assert await driver.find(a_slice("t2", device_id="0")) is None


async def test_a_qpu_that_answers_for_any_id_proves_nothing_and_is_not_asked_for_ever():
    async with stub_qpu() as stub, opened(stub) as driver:
        await post(stub, "t1")

        def same(*_asked: Any) -> tuple[int, Any]:
            return 200, {"code": 200, "data": stub.view(stub.jobs[0]), "status": "success"}

        stub.route = same
        with pytest.raises(Undecided, match="it answers for any job id"):
            await driver.find(a_slice("t2"))
    assert stub.polls() < 60


@pytest.mark.parametrize("form", ["job-{}", "9" * 4999 + "{}"])
async def test_ids_that_are_not_numbers_prove_nothing(form):
    async with stub_qpu() as stub:
        stub.uid_of = form.format
        async with opened(stub) as driver:
            request = a_slice("t1")
            await driver.wait(await driver.start(request), request)
            stub.fault("POST", "/jobs", when="after")
            with pytest.raises(Unreachable):
                await driver.start(a_slice("t2"))
            with pytest.raises(
                Undecided, match=r"not numbers .such as (job-0|9{40}).: look there .* t2, end it, and cancel the job"
            ):
                await driver.find(a_slice("t2"))


async def test_jobs_without_context_prove_nothing():
    async with stub_qpu() as stub:
        await post(stub, "t1")
        stub.keep_context = False
        async with opened(stub) as driver:
            with pytest.raises(Undecided, match="carry no context"):
                await driver.find(a_slice("t2"))


async def test_a_list_that_ignores_the_filter_proves_nothing_by_itself():
    async with stub_qpu() as stub:
        await post(stub, "t1", "t2")
        stub.lists = True
        stub._list = lambda query: (200, {"code": 200, "data": [stub.view(stub.jobs[0])]})  # the first page
        async with opened(stub) as driver:
            assert await driver.find(a_slice("t2")) == "1"


async def test_a_qpu_that_does_not_answer_proves_nothing():
    async with stub_qpu() as stub, opened(stub) as driver:
        stub.fault("GET", "", times=3)
        with pytest.raises(Unreachable):
            await driver.find(a_slice())


async def test_an_api_that_knows_nothing_at_all_proves_nothing():
    async with stub_qpu() as stub, opened(stub) as driver:
        stub.fault("GET", "", times=20, reply=(404, '{"detail": "Not Found"}'))
        with pytest.raises(Unreachable, match="nobody can tell") as caught:
            await driver.find(a_slice())
    assert not isinstance(caught.value, Undecided)  # it may answer later: a cancel must not end what may run there


async def test_a_found_job_is_not_overrun_by_the_next_start():
    async with stub_qpu(shot_rate=1.0) as stub:
        async with opened(stub) as earlier:
            await earlier.start(a_slice("t1"))
        async with opened(stub) as driver:
            assert await driver.find(a_slice("t1")) == "0"
            with pytest.raises(Refused, match="slice t1"):
                await driver.start(a_slice("t2"))
    assert stub.overrun == 0
