"""A slice that waits for a worker (Launcher = slurm) gives way to a higher tier at once, whatever its PreemptMode."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from qpud.core.job import Job
from qpud.core.policy import Policy
from qpud.core.terms import DriverKind, Launcher, PreemptMode
from qpud.drivers.base import DeviceSpec
from qpud.drivers.emulator_slurm import SlurmEmulatorDriver
from tests.daemon.builders import DONE, FakeWorkers, Site, a_policy, a_site, sums, until, with_queue
from tests.drivers.builders import device_spec
from tests.drivers.nearby import NearbySlurm
from tests.worker.programs import sample

QUICK = sample("valid_n04.json").sequence
MODES = [PreemptMode.OFF, PreemptMode.SLICE, PreemptMode.REQUEUE, PreemptMode.CANCEL]


class AccessNode(FakeWorkers):
    """Its device is that of the sequence."""

    async def device_spec(self, device: str) -> DeviceSpec:
        return device_spec(json.dumps(json.loads(QUICK)["device"]))


@asynccontextmanager
async def a_cluster_that_is_full(
    path: Path, policy: Policy, python: Path = Path("/nowhere/python")
) -> AsyncIterator[tuple[Site, NearbySlurm]]:
    slurm, workers = NearbySlurm(), AccessNode()
    slurm.gate.clear()
    settings = {"driver": DriverKind.EMULATOR, "launcher": Launcher.SLURM, "workers": 1, "worker_python": python}
    resource = msgspec.structs.replace(policy.resources["TWIN"], **settings)
    driver = SlurmEmulatorDriver(resource, workers, time.time, slurm)
    await driver.open()
    try:
        async with a_site(path, policy=policy, workers=workers, drivers={"TWIN": driver}) as site:
            yield site, slurm
    finally:
        slurm.gate.set()
        await driver.close()


async def waiting(site: Site, queue: str) -> Job:
    """A job of that queue whose slice is in flight and waits for a worker."""
    job = await site.submit(await site.session(queue=queue), 100, sequence=QUICK)
    await until(lambda: site.book.flights["TWIN"].job_id == job.id and site.book.flights["TWIN"].slice is not None)
    await until(lambda: "is to start" in site.context.drivers["TWIN"].lacks(job.id))  # type: ignore[attr-defined]
    return job


def with_mode(mode: PreemptMode, **changes: float) -> Policy:
    return with_queue(a_policy(), "development", preempt_mode=mode, preempt_exempt_time=3600.0, **changes)


@pytest.mark.parametrize("mode", MODES)
async def test_the_newcomer_takes_its_place_while_slurm_has_no_node(tmp_path: Path, mode: PreemptMode) -> None:
    async with a_cluster_that_is_full(tmp_path, with_mode(mode, grace_time=600.0)) as (site, slurm):
        low = await waiting(site, "development")
        high = await waiting(site, "production")
        assert "gave way while it waited for a worker" in await site.story(low)
        assert "preempted by" in await site.story(low)
        assert not (await site.job(low)).is_terminal
        assert (await site.result(low)).qpu_seconds == 0.0
        assert len(slurm.waiting) == 1  # the newcomer gets the worker that the other had asked for
        assert site.book.flights["TWIN"].job_id == high.id
    assert sums(tmp_path) == (0, 0, 0)


async def test_a_job_of_the_same_tier_waits_behind_it(tmp_path: Path) -> None:
    async with a_cluster_that_is_full(tmp_path, with_mode(PreemptMode.SLICE)) as (site, _):
        first = await waiting(site, "development")
        await site.submit(await site.session(), 100, sequence=QUICK)
        await site.settle()
        assert site.book.flights["TWIN"].job_id == first.id
        assert "gave way" not in await site.story(first)


@pytest.mark.worker
@pytest.mark.parametrize("mode", [PreemptMode.OFF, PreemptMode.CANCEL])
async def test_both_are_done_once_there_is_a_node_the_newcomer_first(
    tmp_path: Path, worker_python: Path, mode: PreemptMode
) -> None:
    async with a_cluster_that_is_full(tmp_path, with_mode(mode), worker_python) as (site, slurm):
        low = await waiting(site, "development")
        high = await waiting(site, "production")
        slurm.gate.set()
        await until(lambda: {low.id, high.id}.isdisjoint(site.book.jobs), 60.0)
        ended = [await site.job(job) for job in (high, low)]
        assert [job.state for job in ended] == [DONE, DONE]
        assert ended[0].ended_at < ended[1].ended_at  # type: ignore[operator]
        assert len(slurm.waiting) == 1
    assert sums(tmp_path) == (200, 200, 200)
