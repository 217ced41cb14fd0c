"""The simulated QPU keeps time, counts exactly, and is faulty on demand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from qpud.core.slices import Outcome, OutcomeState, merge_counts
from qpud.core.terms import Counts
from qpud.drivers.base import HealthState, Refused, Unreachable
from qpud.drivers.faults import Faults, Garbage
from qpud.drivers.simulated import SimulatedDriver
from tests.drivers.builders import ATOMS, ProductWorkers, a_slice, program, run, simulated


@asynccontextmanager
async def opened(workers: ProductWorkers | None = None, **changes: Any) -> AsyncIterator[SimulatedDriver]:
    driver = simulated(workers, **changes)
    await driver.open()
    try:
        async with asyncio.timeout(10):
            yield driver
    finally:
        await driver.close()


def total(outcome: Outcome) -> int:
    return sum(outcome.counts.values())


async def test_while_the_worker_cannot_be_started_a_slice_is_refused_for_later():
    workers = ProductWorkers()
    workers.failure = "the worker /opt/python cannot be run: permission denied"
    async with opened(workers) as driver:
        with pytest.raises(Refused, match="cannot be run: permission denied") as raised:
            await driver.start(a_slice())
    assert raised.value.transient


# -- time
async def test_a_slice_takes_setup_and_shots_in_qpu_time_divided_by_the_speed_up():
    async with opened(setup_seconds=2.0) as driver:
        began = time.monotonic()
        outcome = await run(driver, shots=100)  # 2 + 10 QPU seconds
        taken = time.monotonic() - began
    assert outcome.qpu_seconds == pytest.approx(12.0)
    assert outcome.setup_seconds == 2.0
    assert outcome.ended_at - outcome.started_at == pytest.approx(0.12)
    assert 0.12 <= taken < 0.17


async def test_the_same_register_needs_no_second_setup():
    async with opened(setup_seconds=2.0) as driver:
        await run(driver, "t1")
        again = await run(driver, "t2")
        other = await run(driver, "t3", program=program(register="register-b"))
    assert (again.setup_seconds, other.setup_seconds) == (0.0, 2.0)


async def test_back_to_back_slices_keep_the_qpu_busy():
    async with opened(shot_rate=1.0, speed_up=10.0) as driver:
        began, ideal = time.monotonic(), 0.0
        for number in range(10):
            outcome = await run(driver, f"t{number}", shots=1, job_id=number)
            ideal += outcome.ended_at - outcome.started_at
        taken = time.monotonic() - began
    assert ideal == pytest.approx(1.0)
    assert taken - ideal < 0.05  # 5 ms a slice, on a busy machine


async def test_a_slow_emulation_makes_the_slice_longer_and_its_provenance_says_so():
    async with opened(ProductWorkers(evolve_seconds=0.2)) as driver:
        outcome = await run(driver)
    assert outcome.ended_at - outcome.started_at >= 0.19
    assert outcome.qpu_seconds == pytest.approx(1.0)
    assert float(outcome.provenance["late_seconds"]) > 0.1


# -- counts
async def test_slices_of_one_job_are_dealt_from_one_emulation():
    workers = ProductWorkers()
    async with opened(workers) as driver:
        whole = await run(driver, "t0", shots=30, job_id=1)
        first = await run(driver, "t1", shots=10, first_shot=0, job_shots=30, job_id=2)
        rest = await run(driver, "t2", shots=20, first_shot=10, job_shots=30, job_id=2)
    assert merge_counts(first.counts, rest.counts) == whole.counts
    assert workers.evolved == [1, 2]


async def test_release_drops_the_emulation():
    workers = ProductWorkers()
    async with opened(workers) as driver:
        await run(driver)
        driver.release(1)
        driver.release(1)
        assert workers.kept == set()


async def test_a_lost_emulation_is_done_again():
    workers = ProductWorkers()
    async with opened(workers) as driver:
        first = await run(driver, "t1")
        workers.forget(1)
        again = await run(driver, "t2")
    assert first.counts == again.counts
    assert workers.evolved == [1, 1]


async def test_a_failing_emulation_fails_the_slice_with_its_reason():
    workers = ProductWorkers()
    workers.fault = "out of memory"
    async with opened(workers) as driver:
        outcome = await run(driver, shots=10_000)  # 10 s of simulated time are not waited for
    assert outcome.state is OutcomeState.FAILED
    assert outcome.message == "the emulation behind resource TWIN failed: out of memory"
    assert outcome.qpu_seconds == 0.0


async def test_after_a_failed_emulation_the_next_slice_tries_again():
    workers = ProductWorkers()
    workers.fault = "the worker is restarting"
    async with opened(workers) as driver:
        await run(driver, "t1")
        workers.fault = ""
        assert (await run(driver, "t2")).state is OutcomeState.DONE


@pytest.mark.parametrize(
    ("settings", "emulator"),
    [({}, "auto"), ({"counts": Counts.PRODUCT}, "product"), ({"max_atoms": ATOMS - 1}, "product")],
)
async def test_the_emulator_follows_counts_and_max_atoms(settings, emulator):
    workers = ProductWorkers()
    async with opened(workers, **settings) as driver:
        await run(driver)
    assert workers.emulators == [emulator]


async def test_counts_of_independent_atoms_are_never_passed_off_as_an_emulation():
    async with opened(max_atoms=ATOMS - 1) as driver:
        outcome = await run(driver)
    assert "4 exceed MaxAtoms 3" in outcome.provenance["counts"]


async def test_a_job_released_in_mid_slice_ends_the_slice():
    async with opened(ProductWorkers(evolve_seconds=30)) as driver:
        request = a_slice()
        device_id = await driver.start(request)
        await asyncio.sleep(0)
        driver.release(1)
        outcome = await driver.wait(device_id, request)
    assert outcome.state is OutcomeState.FAILED
    assert "was released" in outcome.message


# -- cancel
async def test_cancel_ends_at_the_shot_boundary_with_the_shots_obtained():
    async with opened(shot_rate=1.0, speed_up=50.0) as driver:  # a shot takes 20 ms
        request = a_slice(shots=1000)
        device_id = await driver.start(request)
        await asyncio.sleep(0.05)
        await driver.cancel(device_id)
        outcome = await driver.wait(device_id, request)
    assert outcome.state is OutcomeState.CANCELED
    assert 3 <= total(outcome) < 50
    assert outcome.qpu_seconds == total(outcome)
    assert outcome.message == f"cancelled after {total(outcome)} of 1000 shots"


async def test_cancel_during_setup_ends_at_once_without_shots():
    async with opened(setup_seconds=3000.0) as driver:
        request = a_slice()
        device_id = await driver.start(request)
        await driver.cancel(device_id)
        outcome = await driver.wait(device_id, request)
    assert (outcome.state, outcome.counts) == (OutcomeState.CANCELED, {})
    assert outcome.qpu_seconds < 100


# -- faults
async def test_a_qpu_that_is_down_says_so_and_refuses_for_now():
    async with opened() as driver:
        driver.inject(Faults(down=True))
        assert (await driver.health()).state is HealthState.DOWN
        with pytest.raises(Refused, match="TWIN is down") as refusal:
            await driver.start(a_slice())
    assert refusal.value.transient


async def test_a_refusal_carries_its_reason_and_lasts_as_told():
    async with opened() as driver:
        driver.inject(Faults(refuse="laser off", refuse_transient=False, times=1))
        with pytest.raises(Refused, match="laser off") as refusal:
            await driver.start(a_slice())
        assert not refusal.value.transient
        assert (await run(driver)).state is OutcomeState.DONE


async def test_a_hanging_slice_goes_on_when_the_fault_is_cleared():
    async with opened() as driver:
        driver.inject(Faults(hang=True))
        request = a_slice(shots=1)
        device_id = await driver.start(request)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await driver.wait(device_id, request)
        driver.inject(Faults())
        outcome = await driver.wait(device_id, request)
    assert (outcome.state, total(outcome)) == (OutcomeState.DONE, 1)


async def test_a_hanging_slice_can_be_cancelled():
    async with opened() as driver:
        driver.inject(Faults(hang=True))
        request = a_slice()
        device_id = await driver.start(request)
        await driver.cancel(device_id)
        assert (await driver.wait(device_id, request)).state is OutcomeState.CANCELED


@pytest.mark.parametrize(("lose", "left"), [(0.3, 7), (4, 6), (99, 0)])
async def test_lost_shots_are_missing_from_the_counts(lose, left):
    async with opened() as driver:
        driver.inject(Faults(lose_shots=lose))
        outcome = await run(driver)
    assert (outcome.state, total(outcome)) == (OutcomeState.DONE, left)


async def test_garbage_is_wrong_in_the_way_asked_for():
    async with opened() as driver:
        driver.inject(Faults(garbage=Garbage.TOO_MANY))
        too_many = await run(driver, "t1")
        driver.inject(Faults(garbage=Garbage.WRONG_LENGTH))
        wrong = await run(driver, "t2")
        driver.inject(Faults(garbage=Garbage.NOT_INTEGERS))
        fractions = await run(driver, "t3")
    assert total(too_many) == 20
    assert all(len(bits) == ATOMS + 1 for bits in wrong.counts)
    assert not any(isinstance(number, int) for number in fractions.counts.values())


async def test_a_lost_reply_to_start_is_found_again_by_tag():
    async with opened() as driver:
        driver.inject(Faults(lose_reply=True, times=1))
        request = a_slice()
        with pytest.raises(Unreachable):
            await driver.start(request)
        device_id = await driver.find(request)
        assert device_id is not None
        assert total(await driver.wait(device_id, request)) == request.shots


async def test_a_qpu_that_is_away_answers_nothing_and_goes_on_unseen():
    async with opened() as driver:
        request = a_slice()
        device_id = await driver.start(request)
        driver.inject(Faults(away=True))
        for call in (driver.wait(device_id, request), driver.find(request), driver.cancel(device_id)):
            with pytest.raises(Unreachable):
                await call
        assert (await driver.health()).state is HealthState.UNREACHABLE
        driver.inject(Faults())
        assert total(await driver.wait(device_id, request)) == request.shots


async def test_an_unknown_device_raises_unreachable_and_names_it():
    async with opened(device="NoSuchDevice") as driver:
        with pytest.raises(Unreachable, match="NoSuchDevice"):
            await driver.spec()


async def test_closing_in_mid_slice_ends_the_wait():
    async with opened() as driver:
        request = a_slice(shots=100_000)
        waiting = asyncio.create_task(driver.wait(await driver.start(request), request))
        await asyncio.sleep(0)
        await driver.close()
        outcome = await waiting
    assert (outcome.state, outcome.transient) == (OutcomeState.FAILED, True)
