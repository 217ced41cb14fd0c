"""The contract of base.Driver: one suite that every driver passes.

A new driver is one more rig here. Rigs marked `worker` run on the real worker process instead of ProductWorkers.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_asyncio

from qpud.core.resource import ResourcePolicy
from qpud.core.slices import OutcomeState, merge_counts
from qpud.core.terms import DriverKind, Launcher, QrmiType
from qpud.drivers.base import Driver, HealthState, Refused, SliceRequest, Undecided, Unreachable, WorkersProtocol
from qpud.drivers.qrmi import QrmiDriver
from qpud.drivers.registry import make_driver
from qpud.drivers.workers import Workers
from tests.drivers.builders import ProductWorkers, a_slice, cloud, private_file, qpu
from tests.drivers.nearby import NearbySlurm
from tests.drivers.qrmi_rig import fake_qrmi
from tests.drivers.stub_cloud import stub_cloud
from tests.drivers.stub_qpu import stub_qpu
from tests.worker.programs import sample

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).resolve().parents[2]
DEVICE = json.loads(sample("valid_n04.json").sequence)["device"]
SLOW = 100_000
"""Shots that take long enough, on QPUs, to be cancelled."""


def request(tag: str = "tag-1", shots: int = 20, **changes: Any) -> SliceRequest:
    return a_slice(tag, shots, **{"program": sample("valid_n04.json"), **changes})


def rig_of(kind: DriverKind, **settings: Any) -> Callable[[WorkersProtocol], AbstractAsyncContextManager[Driver]]:
    @asynccontextmanager
    async def rig(workers: WorkersProtocol) -> AsyncIterator[Driver]:
        yield make_driver(ResourcePolicy(name="R", driver=kind, **settings), workers, time.time)

    return rig


@asynccontextmanager
async def listing_qpu(workers: WorkersProtocol) -> AsyncIterator[Driver]:
    async with stub_qpu(shot_rate=2000.0) as stub:
        stub.specs = DEVICE
        stub.lists = True
        yield qpu(stub.url, workers)


@asynccontextmanager
async def plain_qpu(workers: WorkersProtocol) -> AsyncIterator[Driver]:
    async with stub_qpu(shot_rate=2000.0) as stub:
        stub.specs = DEVICE
        yield qpu(stub.url, workers)


@asynccontextmanager
async def slurm_emulator(workers: WorkersProtocol) -> AsyncIterator[Driver]:
    python = Path(os.environ.get("QPUD_WORKER_PYTHON", ROOT / ".venv" / "worker" / "bin" / "python"))
    policy = ResourcePolicy(
        name="R", driver=DriverKind.EMULATOR, launcher=Launcher.SLURM, workers=2, worker_python=python
    )
    yield make_driver(policy, workers, time.time, NearbySlurm())


def cloud_rig(**answers: Any) -> Callable[[WorkersProtocol], AbstractAsyncContextManager[Driver]]:
    """A device of the cloud; `answers` are how its stub behaves."""

    @asynccontextmanager
    async def rig(workers: WorkersProtocol) -> AsyncIterator[Driver]:
        with TemporaryDirectory() as folder:
            credentials = private_file(Path(folder) / "credentials", "username = me\npassword = secret\n")
            async with stub_cloud(shot_rate=2000.0) as stub:
                stub.specs = {"FRESNEL": json.dumps(DEVICE)}
                for name, value in answers.items():
                    setattr(stub, name, value)
                yield cloud(stub.url, workers, credentials_file=credentials)

    return rig


@asynccontextmanager
async def qrmi_resource(workers: WorkersProtocol) -> AsyncIterator[Driver]:
    async with fake_qrmi(json.dumps(DEVICE)) as fake:
        yield fake.driver(QrmiType.PASQAL_LOCAL, workers)


CLOUD = cloud_rig()
TERSE_CLOUD = cloud_rig(embeds_jobs=False, filters=False, stamps=False, page=1)
SIMULATED = rig_of(DriverKind.SIMULATED, shot_rate=20.0, speed_up=100.0, setup_seconds=0.5)
EMULATOR = rig_of(DriverKind.EMULATOR)
RIGS = [
    pytest.param((SIMULATED, "product"), id="simulated"),
    pytest.param((listing_qpu, "product"), id="pasqal-qpu"),
    pytest.param((plain_qpu, "product"), id="pasqal-qpu-without-a-list"),
    pytest.param((CLOUD, "product"), id="pasqal-cloud"),
    pytest.param((TERSE_CLOUD, "product"), id="pasqal-cloud-that-tells-little"),
    pytest.param((qrmi_resource, "product"), id="qrmi"),
    pytest.param((EMULATOR, "product"), id="emulator"),
    pytest.param((SIMULATED, "real"), id="simulated-on-worker", marks=pytest.mark.worker),
    pytest.param((listing_qpu, "real"), id="pasqal-qpu-on-worker", marks=pytest.mark.worker),
    pytest.param((CLOUD, "real"), id="pasqal-cloud-on-worker", marks=pytest.mark.worker),
    pytest.param((qrmi_resource, "real"), id="qrmi-on-worker", marks=pytest.mark.worker),
    pytest.param((EMULATOR, "real"), id="emulator-on-worker", marks=pytest.mark.worker),
    pytest.param((slurm_emulator, "real"), id="emulator-on-slurm-workers", marks=pytest.mark.worker),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real(worker_python: Any) -> AsyncIterator[Workers]:
    """One worker process for the whole file: it takes seconds to start."""
    workers = Workers(worker_python, validation_memory=2 << 30, validation_timeout=20)
    await workers.open()
    yield workers
    await workers.close()


@pytest.fixture
def product() -> ProductWorkers:
    return ProductWorkers()


@pytest.fixture(params=RIGS)
def unopened(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Driver]:
    rig, workers = request.param
    return rig(request.getfixturevalue(workers))


@pytest_asyncio.fixture(loop_scope="module")
async def driver(unopened: AbstractAsyncContextManager[Driver]) -> AsyncIterator[Driver]:
    async with asyncio.timeout(60), unopened as made:
        await made.open()
        yield made
        await made.close()


async def fly(driver: Driver, slice_: SliceRequest) -> dict[str, int]:
    outcome = await driver.wait(await driver.start(slice_), slice_)
    assert outcome.state is OutcomeState.DONE, outcome.message
    return outcome.counts


async def test_a_slice_yields_exactly_the_shots_asked_for(driver):
    assert sum((await fly(driver, request(shots=37))).values()) == 37


async def test_an_outcome_tells_its_times_and_where_it_comes_from(driver):
    asked = request()
    outcome = await driver.wait(await driver.start(asked), asked)
    assert 0 <= outcome.ended_at - outcome.started_at < 60
    assert outcome.qpu_seconds >= outcome.setup_seconds >= 0
    assert outcome.provenance["driver"]


async def test_two_slices_of_one_job_add_up(driver):
    first = await fly(driver, request("t1", shots=12, job_shots=30))
    rest = await fly(driver, request("t2", shots=18, first_shot=12, job_shots=30))
    assert sum(merge_counts(first, rest).values()) == 30


async def test_wait_may_be_asked_again_after_the_end(driver):
    asked = request()
    device_id = await driver.start(asked)
    assert (await driver.wait(device_id, asked)).counts == (await driver.wait(device_id, asked)).counts


async def test_a_started_slice_is_found_by_its_tag(driver):
    asked = request(shots=SLOW)
    device_id = await driver.start(asked)
    assert await driver.find(asked) == device_id


async def test_a_slice_that_has_ended_is_still_found(driver):
    asked = request()
    device_id = await driver.start(asked)
    await driver.wait(device_id, asked)
    assert await driver.find(asked) == device_id


async def test_a_tag_that_never_came_is_certainly_not_there(driver):
    await fly(driver, request("t1"))
    if isinstance(driver, QrmiDriver):  # qrmi cannot list: a tag of an earlier daemon's might be there
        with pytest.raises(Undecided, match="qrmi lists no tasks"):
            await driver.find(request("t2"))
    else:
        assert await driver.find(request("t2")) is None


async def test_cancel_ends_a_slice_with_what_was_obtained(driver):
    asked = request(shots=SLOW)
    device_id = await driver.start(asked)
    await driver.cancel(device_id)
    outcome = await driver.wait(device_id, asked)
    assert outcome.state in (OutcomeState.CANCELED, OutcomeState.DONE)
    assert sum(outcome.counts.values()) <= SLOW


async def test_cancelling_late_or_twice_is_harmless(driver):
    asked = request()
    device_id = await driver.start(asked)
    before = await driver.wait(device_id, asked)
    await driver.cancel(device_id)
    await driver.cancel(device_id)
    assert (await driver.wait(device_id, asked)).counts == before.counts


async def test_after_a_cancel_the_resource_takes_the_next_slice(driver):
    asked = request("t1", shots=SLOW)
    device_id = await driver.start(asked)
    await driver.cancel(device_id)
    await driver.wait(device_id, asked)
    driver.release(asked.job_id)
    assert sum((await fly(driver, request("t2", job_id=2))).values()) == 20


async def test_release_is_idempotent_and_knows_any_job(driver):
    await fly(driver, request())
    driver.release(1)
    driver.release(1)
    driver.release(4711)
    assert sum((await fly(driver, request("t2"))).values()) == 20


async def test_a_closed_driver_starts_nothing(driver):
    await driver.close()
    with pytest.raises((Refused, Unreachable)):
        await driver.start(request())


async def test_health_is_up_and_never_raises(driver):
    assert (await driver.health()).state is HealthState.UP
    await driver.close()
    assert (await driver.health()).state in HealthState


async def test_the_spec_is_stable_and_carries_its_hash(driver):
    spec = await driver.spec()
    assert spec == await driver.spec()
    assert (len(spec.hash), spec.name in spec.text) == (64, True)


async def test_there_is_always_a_shot_to_ask_for(driver):
    assert driver.shots_for(1e-9) == 1
    assert driver.shots_for(100.0) >= driver.shots_for(1.0)


async def test_cancelled_waits_leave_no_task_behind(driver):
    asked = request(shots=SLOW)
    device_id = await driver.start(asked)
    before = asyncio.all_tasks()
    waits = [asyncio.create_task(driver.wait(device_id, asked)) for _ in range(20)]
    await asyncio.sleep(0)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    extra = asyncio.all_tasks() - before  # the slice itself may just have begun, and connections to the stub
    assert len(extra) < 5


async def test_closing_leaves_no_task_and_no_open_file_behind(unopened):
    async with unopened as made:
        tasks, files = asyncio.all_tasks(), len(os.listdir("/proc/self/fd"))
        await made.open()
        await fly(made, request("t1"))
        await made.start(request("t2", shots=SLOW, job_id=2))
        await made.close()
        await asyncio.sleep(0.05)  # the other end of the connections notices
        assert not [task for task in asyncio.all_tasks() - tasks if "StubServer.serve" not in repr(task)]
        assert len(os.listdir("/proc/self/fd")) <= files
