"""The emulator with Launcher = slurm, on a Slurm that fits on this machine: who pays what, and what a loss costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from qpud.core.resource import ResourcePolicy
from qpud.core.slices import Outcome, OutcomeState, merge_counts
from qpud.core.terms import DriverKind, Launcher
from qpud.drivers.base import Coming, DeviceSpec, HealthState, Refused, SliceRequest
from qpud.drivers.emulator_slurm import SlurmEmulatorDriver
from tests.drivers.builders import ProductWorkers, a_slice, device_spec, program
from tests.drivers.nearby import NearbySlurm
from tests.worker.programs import sample

worker = pytest.mark.worker
QUICK = sample("valid_n04.json")


class AccessNode(ProductWorkers):
    """The access node's worker, as far as it is asked: the device spec."""

    async def device_spec(self, device: str) -> DeviceSpec:
        return device_spec(json.dumps(json.loads(QUICK.sequence)["device"]))


@asynccontextmanager
async def opened(
    slurm: NearbySlurm, python: Path = Path("/nowhere/python"), **changes: Any
) -> AsyncIterator[SlurmEmulatorDriver]:
    settings: dict[str, Any] = {"name": "EMU", "workers": 1, "worker_python": python, **changes}
    policy = ResourcePolicy(driver=DriverKind.EMULATOR, launcher=Launcher.SLURM, **settings)
    driver = SlurmEmulatorDriver(policy, AccessNode(), time.time, slurm)
    await driver.open()
    try:
        async with asyncio.timeout(120):
            yield driver
    finally:
        await driver.close()


def a_request(tag: str = "a", **changes: Any) -> SliceRequest:
    return a_slice(tag, **{"program": QUICK, **changes})


async def fly(driver: SlurmEmulatorDriver, request: SliceRequest) -> Outcome:
    return await driver.wait(await driver.start(request), request)


def coming(*job_ids: int) -> list[Coming]:
    return [Coming(job_id=job_id, program=QUICK, shots=10, seed=7) for job_id in job_ids]


async def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


def emulated(driver: SlurmEmulatorDriver, job_id: int) -> bool:
    return "was emulated" in driver.preparing(job_id)


async def test_what_slurm_refuses_is_one_sentence_and_nothing_has_run() -> None:
    slurm = NearbySlurm()
    slurm.refuses = "Unable to allocate resources: Invalid partition name specified"
    async with opened(slurm) as driver:
        with pytest.raises(
            Refused, match="no worker starts for EMU: Unable to allocate resources: Invalid"
        ) as refusal:
            await driver.start(a_request())
        assert refusal.value.transient
        health = await driver.health()
        assert (health.state, health.message) == (HealthState.DOWN, refusal.value.message)


async def test_a_bug_among_the_workers_ends_the_daemon_by_its_next_look_at_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else jobs would wait for ever on a resource that looks well."""
    monkeypatch.setattr("qpud.drivers.pool.Pool._hand_out", lambda _pool: 1 / 0)
    async with opened(NearbySlurm()) as driver:
        await until(lambda: driver.trouble != "")
        with pytest.raises(ZeroDivisionError):
            await driver.health()


async def test_a_refused_worker_is_tried_again_without_a_slice() -> None:
    slurm = NearbySlurm()
    slurm.refuses = "Invalid account"
    async with opened(slurm) as driver:
        with pytest.raises(Refused):
            await driver.start(a_request())
        await until(lambda: len(slurm.processes) > 1)


async def test_more_atoms_than_maxatoms_start_no_worker() -> None:
    slurm = NearbySlurm()
    async with opened(slurm, max_atoms=3) as driver:
        with pytest.raises(Refused, match="MaxAtoms 3"):
            await driver.start(a_slice(program=program(4)))
        driver.foresee(coming(1, 2))
    assert not slurm.processes


async def test_nothing_is_started_before_a_slice_wants_it() -> None:
    slurm = NearbySlurm()
    async with opened(slurm) as driver:
        assert (await driver.health()).state is HealthState.UP
        assert driver.crew() == []
    assert not slurm.waiting


async def test_a_slice_that_waits_for_slurm_says_so_and_costs_nothing_when_it_is_cancelled() -> None:
    slurm = NearbySlurm()
    slurm.gate.clear()
    async with opened(slurm) as driver:
        request = a_request()
        device_id = await driver.start(request)
        await until(lambda: driver.lacks(1) == "Slurm job 1 is to start a worker, PENDING (Resources)")
        await driver.cancel(device_id)
        outcome = await driver.wait(device_id, request)
    assert (outcome.state, outcome.qpu_seconds) == (OutcomeState.CANCELED, 0.0)


async def test_while_a_slice_waits_for_slurm_nobody_looks_for_idle_workers_again_and_again() -> None:
    slurm = NearbySlurm()
    slurm.gate.clear()
    async with opened(slurm, worker_idle_time=0.01) as driver:
        await driver.start(a_request())
        await until(lambda: "PENDING" in driver.lacks(1))
        assert driver._pool._calm(asyncio.get_running_loop().time() + 0.02) > 1.0


async def test_closing_cancels_what_slurm_may_still_have() -> None:
    slurm = NearbySlurm()
    async with opened(slurm):
        pass
    assert slurm.cancelled == ["EMU"]


@worker
async def test_a_slice_pays_for_its_time_on_a_worker_and_not_for_the_start_of_one(worker_python: Path) -> None:
    async with opened(NearbySlurm(), worker_python) as driver:
        began = time.time()
        outcome = await fly(driver, a_request())
        assert outcome.state is OutcomeState.DONE
        assert outcome.qpu_seconds == pytest.approx(outcome.ended_at - outcome.started_at, abs=1e-5)
        assert outcome.started_at - began > 0.3  # Pulser was imported in between
        assert (outcome.provenance["slurm_job_id"], outcome.provenance["node"]) == ("1", "here")


@worker
async def test_what_was_emulated_ahead_is_dealt_at_once_and_paid_by_the_first_slice(worker_python: Path) -> None:
    async with opened(NearbySlurm(), worker_python, workers=2) as driver:
        await driver.spec()
        driver.foresee(coming(1))
        await until(lambda: emulated(driver, 1))
        first = await fly(driver, a_request("a", shots=4, job_shots=10))
        second = await fly(driver, a_request("b", shots=6, first_shot=4, job_shots=10))
        assert first.qpu_seconds > first.ended_at - first.started_at
        assert second.qpu_seconds == pytest.approx(second.ended_at - second.started_at, abs=1e-5)
        assert sum(merge_counts(first.counts, second.counts).values()) == 10


@worker
async def test_jobs_that_are_no_longer_next_are_forgotten(worker_python: Path) -> None:
    async with opened(NearbySlurm(), worker_python, workers=3) as driver:
        await driver.spec()
        driver.foresee(coming(1, 2))
        await until(lambda: emulated(driver, 1) and emulated(driver, 2))
        driver.foresee(coming(2))
        assert driver.preparing(1) == ""
        assert emulated(driver, 2)


@worker
async def test_no_more_are_emulated_ahead_than_leave_a_worker_for_the_slice(worker_python: Path) -> None:
    slurm = NearbySlurm()
    async with opened(slurm, worker_python, workers=2) as driver:
        await driver.spec()
        driver.foresee(coming(1, 2, 3))
        await until(lambda: emulated(driver, 1) and emulated(driver, 2) and emulated(driver, 3))
        assert len(slurm.processes) == 1


@worker
async def test_shots_lost_with_their_worker_are_drawn_again_the_same_and_charged_once(worker_python: Path) -> None:
    slurm = NearbySlurm()
    async with opened(slurm, worker_python) as driver:
        whole = await fly(driver, a_request("w", shots=100, job_shots=100, job_id=2))
        first = await fly(driver, a_request("a", shots=50, job_shots=100))
        for process in slurm.alive:
            process.kill()
        second = await fly(driver, a_request("b", shots=50, first_shot=50, job_shots=100))
        assert second.state is OutcomeState.DONE
        assert merge_counts(first.counts, second.counts) == whole.counts
        assert second.qpu_seconds < 0.2  # dealing alone: the second emulation is nobody's
        assert len(slurm.processes) == 2


@worker
async def test_an_idle_worker_ends_and_the_next_slice_starts_another(worker_python: Path) -> None:
    slurm = NearbySlurm()
    async with opened(slurm, worker_python, worker_idle_time=0.5) as driver:
        assert (await fly(driver, a_request("a"))).state is OutcomeState.DONE
        await until(lambda: driver.crew() == [] and not slurm.alive)
        assert (await fly(driver, a_request("b", job_id=2))).state is OutcomeState.DONE


@worker
async def test_the_slurm_job_of_a_worker_that_ended_while_slurm_was_away_is_cancelled_afterwards(
    worker_python: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("qpud.drivers.pool.CLEAN_SECONDS", 0.05)
    slurm = NearbySlurm()
    async with opened(slurm, worker_python, worker_idle_time=0.5) as driver:
        assert (await fly(driver, a_request("a"))).state is OutcomeState.DONE
        slurm.away = True
        await until(lambda: slurm.refused >= 3)
        assert driver.crew() == [] and slurm.cancelled == []
        slurm.away = False
        await until(lambda: slurm.cancelled == ["qpud-EMU-1"])
    assert caplog.text.count("Slurm cannot be asked for left workers") == 1


@worker
async def test_a_slice_takes_a_worker_from_a_job_ahead_of_its_turn_when_slurm_has_no_other(
    worker_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qpud.drivers.pool.SHORTAGE_SECONDS", 0.2)
    slurm = NearbySlurm()
    async with opened(slurm, worker_python, workers=2) as driver:
        await driver.spec()
        long = Coming(job_id=5, program=sample("valid_n20.json"), shots=10, seed=1)
        driver.foresee([long])
        await until(lambda: "is emulated" in driver.preparing(5))
        slurm.gate.clear()
        outcome = await fly(driver, a_request("a"))
        assert outcome.state is OutcomeState.DONE
        assert len(slurm.processes) == 1


@worker
async def test_an_interpreter_without_pulser_is_told(worker_python: Path) -> None:
    async with opened(NearbySlurm(), Path("/usr/bin/python3")) as driver:
        with contextlib.suppress(Refused):  # or it is found out while the slice waits
            await driver.start(a_request())
        await until(lambda: "cannot import the package pulser" in driver.trouble)
