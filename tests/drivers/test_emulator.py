"""What is particular to the emulator: one evolution per job, the same shots after any accident, and real limits."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from qpud.core.resource import ResourcePolicy
from qpud.core.slices import OutcomeState, merge_counts
from qpud.core.terms import DriverKind
from qpud.drivers.base import HealthState, Refused, Unreachable
from qpud.drivers.emulator import EmulatorDriver
from qpud.drivers.workers import Workers
from tests.drivers.builders import ProductWorkers, a_slice, program, run
from tests.worker.programs import sample


def emulator(workers: Any, **changes: Any) -> EmulatorDriver:
    policy = ResourcePolicy(**{"name": "EMU", "driver": DriverKind.EMULATOR, **changes})
    return EmulatorDriver(policy, workers, time.time)


@asynccontextmanager
async def opened(workers: Any, **changes: Any) -> AsyncIterator[EmulatorDriver]:
    driver = emulator(workers, **changes)
    await driver.open()
    try:
        async with asyncio.timeout(60):
            yield driver
    finally:
        await driver.close()


async def in_slices(driver: EmulatorDriver, *sizes: int, job: int = 1, **changes: Any) -> dict[str, int]:
    """The merged counts of a job whose shots fall into slices of these sizes."""
    merged: dict[str, int] = {}
    for number, shots in enumerate(sizes):
        place = {"first_shot": sum(sizes[:number]), "job_shots": sum(sizes), "job_id": job}
        outcome = await run(driver, f"{job}-{number}", shots=shots, **place, **changes)
        assert outcome.state is OutcomeState.DONE, outcome.message
        merged = merge_counts(merged, outcome.counts)
    return merged


async def test_a_job_of_many_slices_evolves_once() -> None:
    workers = ProductWorkers()
    async with opened(workers) as driver:
        await in_slices(driver, 5, 5, 5, 5)
    assert workers.evolved == [1]


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_a_clock_that_is_set_meanwhile_is_not_charged(jump: float) -> None:
    async with opened(ProductWorkers(evolve_seconds=0.1)) as driver:
        device_id = await driver.start(a_slice())
        driver._clock = lambda: time.time() + jump
        outcome = await driver.wait(device_id, a_slice())
    assert 0.1 <= outcome.qpu_seconds < 60.0
    assert outcome.ended_at > outcome.started_at


async def test_counts_do_not_depend_on_where_slices_fall() -> None:
    async with opened(ProductWorkers()) as driver:
        assert await in_slices(driver, 1, 60, 39, job=1) == await in_slices(driver, 100, job=2)


async def test_a_lost_child_is_evolved_again_and_deals_the_same_shots() -> None:
    workers = ProductWorkers()
    async with opened(workers) as driver:
        whole = await in_slices(driver, 100, job=2)
        first = await run(driver, "a", shots=50, job_shots=100)
        workers.forget(1)
        second = await run(driver, "b", shots=50, first_shot=50, job_shots=100)
    assert merge_counts(first.counts, second.counts) == whole


async def test_a_released_job_is_dropped_by_the_worker() -> None:
    workers = ProductWorkers()
    async with opened(workers) as driver:
        await run(driver)
        driver.release(1)
        assert workers.kept == set()


async def test_closing_drops_every_job() -> None:
    workers = ProductWorkers()
    async with opened(workers) as driver:
        await run(driver)
    assert workers.kept == set()


async def test_more_atoms_than_max_atoms_are_refused_with_both_numbers() -> None:
    async with opened(ProductWorkers(), max_atoms=5) as driver:
        with pytest.raises(Refused, match="6 atoms exceed MaxAtoms 5 of emulator EMU") as raised:
            await driver.start(a_slice(program=program(6)))
    assert not raised.value.transient


async def test_a_worker_fault_fails_the_slice_for_another_try() -> None:
    workers = ProductWorkers()
    workers.fault = "the worker process died"
    async with opened(workers) as driver:
        outcome = await run(driver)
    assert (outcome.state, outcome.message, outcome.transient) == (
        OutcomeState.FAILED,
        "the worker process died",
        True,
    )


async def test_a_cancelled_slice_ends_canceled_without_counts() -> None:
    async with opened(ProductWorkers(evolve_seconds=30)) as driver:
        request = a_slice()
        device_id = await driver.start(request)
        await driver.cancel(device_id)
        outcome = await driver.wait(device_id, request)
    assert (outcome.state, outcome.counts) == (OutcomeState.CANCELED, {})


async def test_a_cancel_after_the_end_changes_nothing() -> None:
    async with opened(ProductWorkers()) as driver:
        request = a_slice()
        device_id = await driver.start(request)
        done = await driver.wait(device_id, request)
        await driver.cancel(device_id)
        assert await driver.wait(device_id, request) == done


async def test_giving_up_waiting_does_not_end_the_slice() -> None:
    async with opened(ProductWorkers(evolve_seconds=0.2)) as driver:
        request = a_slice()
        device_id = await driver.start(request)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(driver.wait(device_id, request), 0.02)
        assert (await driver.wait(device_id, request)).state is OutcomeState.DONE


async def test_a_new_life_of_the_daemon_knows_no_slice() -> None:
    workers = ProductWorkers()
    async with opened(workers) as before, opened(workers) as after:
        await before.start(a_slice())
        assert await after.find(a_slice()) is None


async def test_the_charge_is_the_wall_time_used() -> None:
    async with opened(ProductWorkers(evolve_seconds=0.1)) as driver:
        outcome = await run(driver)
    assert outcome.qpu_seconds == pytest.approx(outcome.ended_at - outcome.started_at, abs=1e-5)
    assert 0.1 <= outcome.qpu_seconds < 5


async def test_virtual_devices_are_accepted() -> None:
    async with opened(ProductWorkers()) as driver:
        assert (await driver.spec()).accepts_virtual


async def test_a_worker_without_the_device_is_down_and_has_no_spec() -> None:
    async with opened(ProductWorkers(), device="Fresnel9") as driver:
        assert (await driver.health()).state is HealthState.DOWN
        with pytest.raises(Unreachable, match="emulator EMU: no device Fresnel9"):
            await driver.spec()


# With the real worker


N10 = sample("valid_n10.json")


@asynccontextmanager
async def real(worker_python: Path, **changes: Any) -> AsyncIterator[tuple[EmulatorDriver, Workers]]:
    workers = Workers(worker_python, validation_memory=2 << 30, validation_timeout=10)
    await workers.open()
    try:
        async with opened(workers, **changes) as driver:
            yield driver, workers
    finally:
        await workers.close()


@pytest.mark.worker
async def test_a_killed_worker_does_not_change_what_a_job_gets(worker_python: Path) -> None:
    async with real(worker_python) as (driver, workers):
        whole = await in_slices(driver, 100, job=2, program=N10)
        first = await run(driver, "a", shots=40, job_shots=100, program=N10)
        os.kill(workers.pid or 0, signal.SIGKILL)
        second = await run(driver, "b", shots=60, first_shot=40, job_shots=100, program=N10)
        if second.transient:  # the death was noticed while this slice was asked for
            await workers.ready.wait()
            second = await run(driver, "b", shots=60, first_shot=40, job_shots=100, program=N10)
    assert merge_counts(first.counts, second.counts) == whole


@pytest.mark.worker
async def test_cancelling_frees_the_worker_within_a_second(worker_python: Path) -> None:
    async with real(worker_python) as (driver, workers):
        request = a_slice(program=sample("valid_n20.json"), shots=10)  # a minute at least
        device_id = await driver.start(request)
        async with asyncio.timeout(30):
            while workers.progress(1) is None:
                await asyncio.sleep(0.01)
        asked = time.monotonic()
        await driver.cancel(device_id)
        outcome = await driver.wait(device_id, request)
        await run(driver, "next", job_id=2, shots=10, program=N10)
        assert time.monotonic() - asked < 2
    assert outcome.state is OutcomeState.CANCELED


@pytest.mark.worker
async def test_max_run_time_fails_the_job_for_good(worker_python: Path) -> None:
    async with real(worker_python, max_run_time=0.5) as (driver, _):
        outcome = await run(driver, program=sample("valid_n20.json"))
    assert (outcome.state, outcome.transient) == (OutcomeState.FAILED, False)
    assert "MaxRunTime 0.5 s" in outcome.message


@pytest.mark.worker
async def test_max_memory_fails_the_job_for_good(worker_python: Path) -> None:
    async with real(worker_python, max_memory=64 << 20) as (driver, _):
        outcome = await run(driver, program=N10, job_shots=100_000_000)
    assert (outcome.state, outcome.transient) == (OutcomeState.FAILED, False)
    assert "MaxMemory 64 MiB" in outcome.message


async def test_while_the_worker_cannot_be_started_a_slice_is_refused_for_later() -> None:
    workers = ProductWorkers()
    workers.failure = "the worker /opt/python cannot be run: permission denied"
    async with opened(workers) as driver:
        with pytest.raises(Refused, match="cannot be run: permission denied") as raised:
            await driver.start(a_slice())
    assert raised.value.transient
