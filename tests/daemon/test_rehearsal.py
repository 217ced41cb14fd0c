"""Faults, seeds and delays that a session asks for, against the running scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qpud.core import verbs
from qpud.core.errors import BadRequest, Conflict, Invalid, NotFound
from qpud.core.faults import parse
from qpud.core.job import JobState, Reason
from qpud.core.policy import Policy
from qpud.core.rehearsal import Emulator, Rehearsal
from qpud.core.resource import ResourcePolicy
from qpud.core.session import Session
from qpud.core.terms import DriverKind, QrmiType
from qpud.core.verbs import JobRequest
from qpud.drivers.base import DeviceSpec, Driver
from qpud.drivers.emulator import EmulatorDriver
from qpud.scheduler import monitor
from qpud.service.rehearsals import check_session
from tests.daemon.builders import (
    ALICE,
    BOB,
    DONE,
    ERROR,
    ROOT,
    SEQUENCE,
    FakeWorkers,
    Site,
    a_policy,
    a_site,
    until,
)
from tests.daemon.qpu import SPEC, Qpu, QpuDriver
from tests.daemon.test_slices import every_shot_once
from tests.drivers.builders import device_spec, sequence


async def faulty(site: Site, fault: str, **more: Any) -> Session:
    return await site.session(rehearsal=Rehearsal(faults=parse(fault), **more))


def with_emulator(driver: DriverKind = DriverKind.EMULATOR) -> Policy:
    """TWIN, and EMU with another driver."""
    policy = a_policy()
    emulator = ResourcePolicy(name="EMU", driver=driver, max_atoms=4)
    return msgspec.structs.replace(policy, resources={**policy.resources, "EMU": emulator})


async def test_a_job_is_preempted_so_often_and_loses_no_shot(tmp_path: Path):
    async with a_site(tmp_path) as site:
        job = await site.end(await site.submit(await faulty(site, "preempt:3"), 40))
        result, story = await site.result(job), await site.story(job)
    assert job.state is DONE
    assert [one.shots_done for one in result.slices] == [10, 10, 10, 10]
    assert result.counts == every_shot_once(40)
    told = "preempted (injected: preemption 2 of 3) after 20 of 40 shots; no shot is lost"
    assert told in story
    assert story.count("injected: preemption") == 3


async def test_others_go_first_when_a_fault_preempts(tmp_path: Path):
    qpu = Qpu()
    async with a_site(tmp_path, qpu) as site:
        mine = await site.submit(await faulty(site, "preempt:1"), 10)
        await site.in_flight(mine)
        other = await site.submit(await site.session(BOB), 5, who=BOB)
        qpu.finish()
        await site.in_flight(other)
        qpu.finish()
        await site.in_flight(mine)
        qpu.finish()
        await site.ended(mine, other)
        story = await site.story(other)
    assert "injected" not in story


async def test_lost_shots_are_run_again_until_there_are_all(tmp_path: Path):
    async with a_site(tmp_path) as site:
        job = await site.end(await site.submit(await faulty(site, "lose-shots:30%"), 30))
        result, story = await site.result(job), await site.story(job)
    assert job.state is DONE
    assert sum(result.counts.values()) == 30
    assert result.counts == every_shot_once(30)
    assert any(one.shots_done < one.shots for one in result.slices)
    assert "shots were lost (injected: lose-shots) and are run again" in story


async def test_an_injected_error_says_that_it_is_one_and_runs_nothing(tmp_path: Path):
    qpu = Qpu(seconds=0.0)
    async with a_site(tmp_path, qpu) as site:
        job = await site.end(await site.submit(await faulty(site, "error:1"), 10))
        result = await site.result(job)
    assert job.state is ERROR
    assert result.message == "injected fault: the session asked for error:1, nothing is wrong with TWIN"
    assert qpu.requests == []
    assert result.qpu_seconds == 0


async def test_an_error_comes_after_the_preemptions(tmp_path: Path):
    async with a_site(tmp_path) as site:
        job = await site.end(await site.submit(await faulty(site, "preempt:2,error:1"), 30))
        result = await site.result(job)
    assert (job.state, job.shots_done) == (ERROR, 20)
    assert sum(result.counts.values()) == 20


async def test_the_same_seed_brings_the_same_errors_again(tmp_path: Path):
    async def states(site: Site) -> list[JobState]:
        session = await faulty(site, "error:0.5", seed=3)
        jobs = [await site.submit(session, 2) for _ in range(8)]
        return [job.state for job in await site.ended(*jobs)]

    async with a_site(tmp_path) as site:
        first, second = await states(site), await states(site)
    assert first == second
    assert {DONE, ERROR} == set(first)


async def test_the_nth_job_of_a_session_with_a_seed_draws_the_same_shots(tmp_path: Path):
    async def seeds(site: Site, seed: int) -> list[int | None]:
        session = await site.session(rehearsal=Rehearsal(seed=seed))
        jobs = [await site.submit(session, 2) for _ in range(3)]
        return [(await site.result(job)).seed for job in await site.ended(*jobs)]

    async with a_site(tmp_path) as site:
        first, again, other = await seeds(site, 5), await seeds(site, 5), await seeds(site, 6)
    assert first == again
    assert len({*first, *other}) == 6


async def test_a_session_with_a_seed_goes_on_counting_after_a_restart(tmp_path: Path):
    async with a_site(tmp_path) as site:
        session = await site.session(rehearsal=Rehearsal(seed=5))
        first = [(await site.result(await site.end(await site.submit(session, 2)))).seed for _ in range(2)]
    async with a_site(tmp_path) as site:
        third = (await site.result(await site.end(await site.submit(session, 2)))).seed
    assert third not in first


async def test_a_request_that_comes_twice_at_once_takes_numbers_once(tmp_path: Path):
    async def seeds(site: Site, disturb: bool) -> list[int | None]:
        session = await site.session(rehearsal=Rehearsal(seed=5))
        one = [site.submit(session, 2, key=f"first {disturb}") for _ in range(3 if disturb else 1)]
        same = [await site.end(job) for job in await asyncio.gather(*one)]
        assert len({job.id for job in same}) == 1
        if disturb:
            batch = verbs.OpenBatch(jobs=(JobRequest(sequence=SEQUENCE, shots=2),) * 2)
            batches = [site.service.open_batch(ALICE, session.id, batch, "second True") for _ in range(2)]
            second = (await asyncio.gather(*batches))[0].jobs
        else:
            second = [await site.submit(session, 2) for _ in range(2)]
        return [(await site.result(job)).seed for job in await site.ended(same[0], *second)]

    async with a_site(tmp_path) as site:
        assert await seeds(site, disturb=True) == await seeds(site, disturb=False)


async def test_a_job_may_bring_its_own_seed(tmp_path: Path):
    async with a_site(tmp_path) as site:
        job = await site.submit(await site.session(), 2, seed=42)
        assert (await site.result(job)).seed == 42


async def test_a_delayed_result_comes_later_and_the_resource_is_free_meanwhile(tmp_path: Path):
    async with a_site(tmp_path) as site:
        mine = await site.submit(await faulty(site, "delay:60s"), 5)
        other = await site.submit(await site.session(BOB), 5, who=BOB)
        assert (await site.end(other)).state is DONE
        await until(lambda: mine.id not in site.book.jobs)
        seen, result = await site.job(mine), await site.result(mine)
        assert (seen.state, seen.ended_at, result.counts) == (JobState.RUNNING, None, {})
        assert (await site.service.results_text(ALICE, str(mine.id)))[1] is None
        assert (await site.story(mine)).endswith("for the times of a QPU, or for a delay (injected)")
        assert (await site.service.cancel_job(ALICE, str(mine.id))).job.state is not JobState.CANCELED
        site.clock.forward(60)
        assert (await site.job(mine)).state is DONE
        assert sum((await site.result(mine)).counts.values()) == 5


async def test_who_waits_for_a_delayed_result_is_woken_when_it_is_there(tmp_path: Path):
    async with a_site(tmp_path) as site:
        job = await site.submit(await faulty(site, "delay:50ms"), 5)
        async with asyncio.timeout(30):
            assert (await site.service.result(ALICE, str(job.id), 25.0)).job.state is DONE


async def test_faults_are_refused_on_a_qpu(tmp_path: Path):
    async with a_site(tmp_path, policy=with_emulator(DriverKind.PASQAL_QPU)) as site:
        session = await faulty(site, "preempt:1")
        with pytest.raises(Invalid) as wrong:
            await site.submit(session, 5, resource="EMU")
        assert (await site.end(await site.submit(session, 5, resource="TWIN"))).state is DONE
    sentence = "faults are injected on emulators and simulated QPUs only: EMU is neither (driver pasqal-qpu)"
    assert wrong.value.message == sentence


async def test_an_emulators_options_are_refused_elsewhere_when_the_session_opens(tmp_path: Path):
    async with a_site(tmp_path) as site:
        with pytest.raises(Invalid) as wrong:
            await site.session(rehearsal=Rehearsal(emulator=Emulator.PRODUCT), for_resource="TWIN")
    assert wrong.value.message.endswith("are for resources with driver emulator: TWIN has driver simulated")


async def test_like_names_a_qpu(tmp_path: Path):
    async with a_site(tmp_path, policy=with_emulator()) as site:
        with pytest.raises(NotFound) as unknown:
            await site.session(rehearsal=Rehearsal(like="FRESNEL"))
        with pytest.raises(Invalid) as emulator:
            await site.session(rehearsal=Rehearsal(like="EMU"))
    assert unknown.value.message == "resource 'FRESNEL' does not exist: like is one of TWIN"
    assert emulator.value.message == "EMU is an emulator: like names a QPU, one of TWIN"


def test_like_names_a_qpu_that_takes_pulsers_programs():
    ibm = ResourcePolicy(name="IBM", driver=DriverKind.QRMI, qrmi_type=QrmiType.IBM_QUANTUM_SYSTEM)
    policy = msgspec.structs.replace(with_emulator(), resources={**with_emulator().resources, "IBM": ibm})
    with pytest.raises(Invalid, match="IBM takes no Pulser sequences: like names a QPU that does, one of TWIN"):
        check_session(policy, Rehearsal(like="IBM"))


async def test_a_second_session_of_a_slurm_job_rehearses_the_same(tmp_path: Path):
    async with a_site(tmp_path) as site:
        first = await site.session(slurm_job_id="7", rehearsal=Rehearsal(seed=1))
        await site.session(slurm_job_id="7", rehearsal=Rehearsal(seed=1))
        with pytest.raises(Conflict) as wrong:
            await site.session(slurm_job_id="7", rehearsal=Rehearsal(seed=2))
    sentence = f"session {first.id} of Slurm job 7 is open with another rehearsal: close it first"
    assert wrong.value.message == sentence


async def test_a_rehearsal_survives_a_restart(tmp_path: Path):
    async with a_site(tmp_path) as site:
        session = await faulty(site, "preempt:1", seed=9)
    async with a_site(tmp_path) as site:
        assert (await site.service.get_session(ROOT, session.id)).rehearsal == session.rehearsal
        job = await site.end(await site.submit(session, 10))
        assert len((await site.result(job)).slices) == 2


# -- what is on record
async def test_the_text_of_a_device_spec_is_kept_once(tmp_path: Path):
    async with a_site(tmp_path) as site:
        job = await site.end(await site.submit(await site.session(), 5))
        bundle = await site.service.bundle(ALICE, str(job.id))
    assert bundle.spec == (SPEC.name, SPEC.text)
    async with a_site(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "state.sqlite")) as database:
        assert database.execute("SELECT hash, resource FROM specs").fetchall() == [(SPEC.hash, "TWIN")]


async def test_a_bundle_holds_all_but_whose_it_was(tmp_path: Path):
    async with a_site(tmp_path) as site:
        session = await faulty(site, "preempt:1", seed=5)
        job = await site.end(await site.submit(session, 10, name="scan", tags=("paper",)))
        bundle = await site.service.bundle(ALICE, str(job.id))
    assert bundle.sequence == SEQUENCE
    assert [sum(one["counts"].values()) for one in bundle.slices] == [5, 5]
    assert bundle.rehearsal["faults"] == "preempt:1"
    assert bundle.result.tags == ("paper",)
    assert session.id not in "\n".join(line.text for line in bundle.story)


async def test_a_job_that_has_not_ended_cannot_be_bundled(tmp_path: Path):
    qpu = Qpu()
    async with a_site(tmp_path, qpu) as site:
        job = await site.submit(await site.session(), 5)
        await site.in_flight(job)
        with pytest.raises(Conflict) as wrong:
            await site.service.bundle(ALICE, str(job.id))
    assert wrong.value.message == f"job {job.id} is RUNNING: only a job that has ended can be bundled"


async def test_others_see_neither_bundle_nor_profile(tmp_path: Path):
    async with a_site(tmp_path) as site:
        session = await site.session()
        job = await site.end(await site.submit(session, 5))
        for asking in (
            site.service.bundle(BOB, str(job.id)),
            site.service.profile(BOB, (str(job.id),), None),
            site.service.profile(BOB, (), session.id),
        ):
            with pytest.raises(NotFound):
                await asking


async def test_a_profile_tells_where_the_time_of_a_session_went(tmp_path: Path):
    async with a_site(tmp_path, Qpu(seconds=0.05)) as site:
        site.qpu.now = site.clock
        session = await site.session()
        jobs = await site.ended(*[await site.submit(session, 5) for _ in range(2)])
        found = await site.service.profile(ALICE, (), session.id)
        one = await site.service.profile(ALICE, (str(jobs[0].id),), None)
    assert [job.id for job in found.jobs] == [job.id for job in jobs]
    assert {span.job for span in found.spans if span.phase == "shots"} == {job.id for job in jobs}
    assert found.totals["validation"] > 0
    assert found.totals["classical"] > 0
    assert [job.id for job in one.jobs] == [jobs[0].id]


async def test_a_profile_is_of_jobs_or_of_a_session(tmp_path: Path):
    async with a_site(tmp_path) as site:
        for jobs, session in (((), None), (("1",), "s")):
            with pytest.raises(BadRequest):
                await site.service.profile(ALICE, jobs, session)


# -- in the place of a QPU
def another_spec() -> DeviceSpec:
    return device_spec(json.dumps({"version": "1", "name": "Fresnel", "max_runs": 50, "is_virtual": False}))


@contextlib.asynccontextmanager
async def a_site_with_an_emulator(
    path: Path, *, is_told: bool = True, validation_wait: float = 1.0
) -> AsyncIterator[tuple[Site, Qpu]]:
    """TWIN, a QPU whose spec allows 50 runs, if it tells it, and EMU."""
    twin, workers = Qpu(seconds=0.0), FakeWorkers()
    twin.spec = another_spec() if is_told else None
    policy = with_emulator()
    daemon = msgspec.structs.replace(policy.daemon, validation_wait=validation_wait)
    policy = msgspec.structs.replace(policy, daemon=daemon)
    emulator = EmulatorDriver(policy.resources["EMU"], workers, time.time)
    drivers: dict[str, Driver] = {"TWIN": QpuDriver("TWIN", twin), "EMU": emulator}
    async with a_site(path, twin, policy=policy, workers=workers, drivers=drivers) as site:
        yield site, twin


async def test_a_job_like_a_qpu_is_checked_against_its_spec(tmp_path: Path):
    async with a_site_with_an_emulator(tmp_path) as (site, twin):
        plain, like = await site.session(), await site.session(rehearsal=Rehearsal(like="TWIN"))
        await site.submit(plain, 60, resource="EMU", sequence=sequence(4))
        with pytest.raises(Invalid) as wrong:
            await site.submit(like, 60, resource="EMU", sequence=sequence(4))
        with pytest.raises(Invalid) as at_the_qpu:
            await site.submit(plain, 60, resource="TWIN", sequence=sequence(4))
        job = await site.end(await site.submit(like, 50, resource="EMU", sequence=sequence(4)))
        result = await site.result(job)
        assert twin.requests == []
    assert wrong.value.message == at_the_qpu.value.message == "60 shots exceed max_runs 50 of TWIN's device Fresnel"
    assert job.state is DONE
    assert result.spec_hash == another_spec().hash
    assert result.provenance["like"] == "TWIN"


async def test_the_spec_in_such_a_session_is_the_qpus(tmp_path: Path):
    async with a_site_with_an_emulator(tmp_path) as (site, _):
        like = await site.session(rehearsal=Rehearsal(like="TWIN"))
        plain = await site.session()
        assert (await site.service.spec("EMU", like.id)).name == "Fresnel"
        assert not (await site.service.spec("EMU", like.id)).accepts_virtual
        assert (await site.service.spec("EMU", plain.id)).name == "AnalogDevice"
        assert (await site.service.spec("EMU")).accepts_virtual


async def test_a_new_spec_of_the_qpu_has_the_waiting_jobs_checked_again(tmp_path: Path):
    async with a_site_with_an_emulator(tmp_path) as (site, twin):
        like = await site.session(rehearsal=Rehearsal(like="TWIN"))
        job = await site.submit(like, 5, resource="EMU", sequence=sequence(4))
        await site.end(job)
        newer = device_spec(json.dumps({"version": "1", "name": "Fresnel 2", "max_runs": 50, "is_virtual": False}))
        site.context.specs["TWIN"] = newer
        second = await site.end(await site.submit(like, 5, resource="EMU", sequence=sequence(4)))
        assert (await site.result(second)).spec_hash == newer.hash
        assert twin.requests == []


async def test_a_job_like_a_qpu_that_has_not_told_its_device_waits_for_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(monitor, "WORRIED_SECONDS", 0.01)
    async with a_site_with_an_emulator(tmp_path, is_told=False, validation_wait=0.0) as (site, twin):
        like, plain = await site.session(rehearsal=Rehearsal(like="TWIN")), await site.session()
        await until(lambda: "EMU" in site.context.specs)
        waiting = await site.submit(like, 5, resource="EMU", sequence=sequence(4))
        other = await site.end(await site.submit(plain, 5, resource="EMU", sequence=sequence(4)))
        before = await site.job(waiting)
        twin.spec = another_spec()
        after = await site.end(waiting)
    assert (other.state, before.reason, after.state) == (DONE, Reason.VALIDATING, DONE)


async def test_results_come_in_the_time_of_the_qpu_and_the_emulator_is_free(tmp_path: Path):
    async with a_site_with_an_emulator(tmp_path) as (site, _):
        like = await site.session(rehearsal=Rehearsal(like="TWIN", speed_up=1.0))
        jobs = [await site.submit(like, 40, resource="EMU", sequence=sequence(4)) for _ in range(2)]
        await until(lambda: not site.book.jobs)
        assert [(await site.job(job)).state for job in jobs] == [JobState.RUNNING] * 2
        site.clock.forward(45)  # one shot a second: the first job takes 40 s, the second one 40 s more
        assert [(await site.job(job)).state for job in jobs] == [DONE, JobState.RUNNING]
        site.clock.forward(40)
        assert (await site.job(jobs[1])).state is DONE


async def test_a_mock_takes_registers_that_are_too_large_to_emulate(tmp_path: Path):
    async with a_site_with_an_emulator(tmp_path) as (site, _):
        mock = await site.session(rehearsal=Rehearsal(emulator=Emulator.PRODUCT))
        with pytest.raises(Invalid) as wrong:
            await site.submit(await site.session(), 5, resource="EMU", sequence=sequence(100))
        job = await site.end(await site.submit(mock, 5, resource="EMU", sequence=sequence(100)))
        assert site.workers.emulators == [Emulator.PRODUCT]
    assert wrong.value.message == "100 atoms exceed MaxAtoms 4 of EMU"
    assert job.state is DONE
