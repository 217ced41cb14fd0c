"""Faults, seeds and delays that a session asks for, against the running scheduler."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qpud.core.errors import Conflict, Invalid, NotFound
from qpud.core.faults import parse
from qpud.core.job import JobState
from qpud.core.policy import DriverKind, Policy, ResourcePolicy
from qpud.core.rehearsal import Emulator, Rehearsal
from qpud.core.session import Session
from tests.daemon.builders import ALICE, BOB, DONE, ERROR, ROOT, Site, a_policy, a_site, until
from tests.daemon.qpu import Qpu
from tests.daemon.test_slices import every_shot_once


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


async def test_a_second_session_of_a_slurm_job_rehearses_the_same(tmp_path: Path):
    async with a_site(tmp_path) as site:
        await site.session(slurm_job_id="7", rehearsal=Rehearsal(seed=1))
        await site.session(slurm_job_id="7", rehearsal=Rehearsal(seed=1))
        with pytest.raises(Conflict):
            await site.session(slurm_job_id="7", rehearsal=Rehearsal(seed=2))


async def test_a_rehearsal_survives_a_restart(tmp_path: Path):
    async with a_site(tmp_path) as site:
        session = await faulty(site, "preempt:1", seed=9)
    async with a_site(tmp_path) as site:
        assert (await site.service.get_session(ROOT, session.id)).rehearsal == session.rehearsal
        job = await site.end(await site.submit(session, 10))
        assert len((await site.result(job)).slices) == 2
