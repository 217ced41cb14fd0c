"""The daemon on a simulated QPU, in a hurry, decides what `qpud simulate` decides: jobs, shots and their order."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qpud.core.job import Job
from qpud.core.policy import Policy
from qpud.core.resource import ResourcePolicy
from qpud.core.session import Session
from qpud.core.terms import DriverKind, PreemptMode
from qpud.drivers.simulated import SimulatedDriver
from qpud.simulate.engine import Simulation
from qpud.simulate.machine import Machine
from qpud.simulate.trace import Batch, Classical, SessionTrace, Shots, read
from tests.daemon.builders import ALICE, FakeWorkers, Site, a_policy, a_site, with_queue
from tests.daemon.qpu import Qpu
from tests.drivers.builders import sequence

SPEED_UPS = (40.0, 20.0, 8.0)  # a pause of the machine weighs less the slower the site's clock is
ATOMS = {"a": 4, "b": 5, "c": 6}  # each register is of another size, so that it is another one
MIXED = """
{"id": "long", "at": 0.0, "user": "alice", "queue": "development", "hint": "qc-heavy", "steps": [{"shots": 90, "register": "a"}]}
{"id": "wide", "at": 1.5, "user": "bob", "queue": "development", "share": 3, "steps": [{"batch": [{"shots": 14, "register": "b"}, {"shots": 9, "register": "a"}, {"shots": 7, "register": "b"}]}]}
{"id": "many", "at": 3.3, "user": "carol", "queue": "development", "hint": "cc-heavy", "nodes": 50, "repeat": 5, "steps": [{"shots": 2, "register": "c"}, {"classical": 6.4}]}
{"id": "few", "at": 4.1, "user": "dave", "queue": "development", "hint": "cc-heavy", "nodes": 2, "repeat": 3, "steps": [{"shots": 3, "register": "c"}, {"classical": 9.7}]}
{"id": "urgent", "at": 27.6, "user": "erin", "queue": "production", "repeat": 2, "steps": [{"shots": 11, "register": "b"}, {"classical": 13.2}]}
{"id": "middle", "at": 40.9, "user": "frank", "queue": "test", "steps": [{"shots": 25, "register": "a"}]}
"""  # noqa: E501  one session a line
Decision = tuple[str, int, int]  # session, which of its jobs, shots


class Recording(Simulation):
    """Notes each slice as it starts: session, job id, shots."""

    def __init__(self, policy: Policy, trace: list[SessionTrace]) -> None:
        super().__init__(policy, trace)
        self.started: list[Decision] = []

    def _start(self, machine: Machine, job: Job, shots: int) -> None:
        self.started.append((job.session_id, job.id, shots))
        super()._start(machine, job, shots)


def numbered(started: list[Decision]) -> list[Decision]:
    """Job ids replaced by their place among the jobs of their session."""
    return [
        (session, sorted({job for other, job, _ in started if other == session}).index(job_id), shots)
        for session, job_id, shots in started
    ]


def the_policy(speed_up: float, scheduler: str = "share", **development: Any) -> Policy:
    """A QPU of one shot a second and 2 s of set-up."""
    policy = with_queue(a_policy(scheduler_type=scheduler), "development", slice_seconds=10.0, **development)
    for name in ("test", "production"):
        policy = with_queue(policy, name, slice_seconds=10.0)
    twin = ResourcePolicy(
        name="TWIN", driver=DriverKind.SIMULATED, shot_rate=1.0, setup_seconds=2.0, speed_up=speed_up
    )
    return msgspec.structs.replace(policy, resources={"TWIN": twin})


async def played(policy: Policy, trace: list[SessionTrace], folder: Path) -> list[Decision]:
    """Let real clients follow the trace, as fast as the QPU is sped up."""
    workers, speed_up = FakeWorkers(), policy.resources["TWIN"].speed_up
    driver = SimulatedDriver(policy.resources["TWIN"], workers, time.time)
    await driver.open()
    qpu = Qpu()
    async with a_site(folder, qpu, policy=policy, workers=workers, drivers={"TWIN": driver}) as site:
        started, names = watched(site), dict[str, str]()
        async with asyncio.timeout(120), asyncio.TaskGroup() as clients:
            for line in trace:
                clients.create_task(follow(site, line, names, speed_up))
    await driver.close()
    return [(names[session], job_id, shots) for session, job_id, shots in started]


def watched(site: Site) -> list[Decision]:
    """Session, job and shots of each slice, as it is handed to the driver."""
    started: list[Decision] = []
    driver = site.context.drivers["TWIN"]
    start = driver.start

    async def noting(request: Any) -> str:
        job = site.book.jobs[request.job_id]
        started.append((job.session_id, job.id, request.shots))
        return await start(request)

    driver.start = noting  # type: ignore[method-assign]
    return started


async def follow(site: Site, line: SessionTrace, names: dict[str, str], speed_up: float) -> None:
    await asyncio.sleep(line.at / speed_up)
    session = await site.session(
        queue=line.queue, share=line.share, hint=line.hint, nodes=line.nodes, slurm_job_id=line.id
    )
    names[session.id] = line.id
    for step in line.steps * line.repeat:
        if isinstance(step, Classical):
            await asyncio.sleep(step.seconds / speed_up)
        else:
            await run(site, session, step)
    await site.service.close_session(ALICE, session.id)


async def run(site: Site, session: Session, step: Batch) -> None:
    jobs = [await site.submit(session, one.shots, sequence=sequence(ATOMS[one.register or "a"])) for one in step.jobs]
    for job in jobs:
        while not (await site.service.get_job(ALICE, str(job.id), 60.0)).is_terminal:
            pass


@pytest.mark.parametrize("scheduler", ["share", "priority", "fifo", "exclusive"])
async def test_the_daemon_decides_what_the_simulator_decides(tmp_path: Path, scheduler: str) -> None:
    for speed_up in SPEED_UPS:
        policy, trace = the_policy(speed_up, scheduler), read(MIXED.splitlines(), "trace")
        expected, live = numbered(simulated(policy, trace)), numbered(await played(policy, trace, fresh(tmp_path)))
        if live == expected:
            break
    assert live == expected


async def test_slices_are_cut_for_the_same_jobs(tmp_path: Path) -> None:
    """At which shot depends on the milliseconds of the machine."""
    for speed_up in SPEED_UPS:
        policy, trace = the_policy(speed_up, preempt_mode=PreemptMode.REQUEUE), read(MIXED.splitlines(), "trace")
        live, expected = await played(policy, trace, fresh(tmp_path)), turns_of(simulated(policy, trace))
        if turns_of(live) == expected:
            break
    assert turns_of(live) == expected
    assert sum(shots for _, _, shots in live) > sum(job.shots for line in trace for job in jobs_of(line))


def simulated(policy: Policy, trace: list[SessionTrace]) -> list[Decision]:
    simulation = Recording(policy, trace)
    simulation.run()
    return simulation.started


def fresh(folder: Path) -> Path:
    """A folder of its own for each site."""
    new = folder / str(len(list(folder.iterdir())))
    new.mkdir()
    return new


def turns_of(started: list[Decision]) -> list[tuple[str, int]]:
    """Whose turn it was, however many slices it had in a row."""
    return [key for key, _ in itertools.groupby((session, job) for session, job, _ in numbered(started))]


def jobs_of(line: SessionTrace) -> list[Shots]:
    return [job for step in line.steps * line.repeat if isinstance(step, Batch) for job in step.jobs]
