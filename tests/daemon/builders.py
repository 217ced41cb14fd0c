"""A daemon without HTTP and without processes: real store, service, scheduler and reaper in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from qpud.context import Context
from qpud.core import verbs
from qpud.core.errors import QpudError
from qpud.core.identity import Identity, Proof
from qpud.core.job import Job, JobState
from qpud.core.policy import DaemonPolicy, Policy, QueuePolicy
from qpud.core.resource import ResourcePolicy
from qpud.core.session import Session
from qpud.core.tally import day_start
from qpud.core.terms import DriverKind, PreemptMode
from qpud.core.verbs import JobRequest
from qpud.daemon import book_of
from qpud.drivers.base import DeviceSpec, Driver, Program
from qpud.drivers.validator import Validator
from qpud.drivers.workers import Verdict
from qpud.scheduler import Scheduler
from qpud.service import Service
from qpud.service.calendar import Calendar
from qpud.service.purge import Purge
from qpud.service.reaper import Reaper
from qpud.service.releases import Releases
from qpud.service.slurmcomments import SlurmComments
from qpud.service.slurmrecord import recorder
from qpud.service.slurmshow import SlurmShow
from qpud.service.sweep import Sweep
from qpud.site.slurm import Slurm
from qpud.site.slurmcontrol import SlurmControl
from qpud.store.ledger import charged_since
from qpud.store.store import Store
from qpud.telemetry.metrics import Metrics
from tests.daemon.qpu import ATOMS, Qpu, QpuDriver
from tests.drivers.builders import ProductWorkers, sequence

SEQUENCE = sequence(ATOMS)
DEADLINE = 60.0

ALICE = Identity(user_id=1001, user="alice", proof=Proof.PEER)
BOB = Identity(user_id=1002, user="bob", proof=Proof.PEER)
ROOT = Identity(user_id=0, user="root", proof=Proof.PEER, is_admin=True)


class Clock:
    """Wall time that tests may move forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self._ahead

    def forward(self, seconds: float) -> None:
        self._ahead += seconds


class FakeWorkers(ProductWorkers):
    """Workers whose verdicts the test decides; while `gate` is clear nobody gets one."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: dict[str, str] = {}  # sequence text → sentence
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0

    async def validate(self, program: Program, shots: int, spec: DeviceSpec) -> Verdict:
        self.asked += 1
        await self.gate.wait()
        sentence = self.bad.get(program.sequence, "")
        return Verdict(ok=not sentence, sentence=sentence, spec_hash=spec.hash)


def a_policy(*resources: str, **changes: Any) -> Policy:
    """Queues production (tier 100, OFF), test (50) and development (10, slices of 1 s); see also `with_queue`."""
    queues = (
        QueuePolicy(name="production", priority_tier=100, preempt_mode=PreemptMode.OFF, slice_seconds=1.0),
        QueuePolicy(name="test", priority_tier=50, slice_seconds=1.0),
        QueuePolicy(name="development", priority_tier=10, slice_seconds=1.0),
    )
    return Policy(
        daemon=DaemonPolicy(**changes),
        queues={queue.name: queue for queue in queues},
        resources={name: ResourcePolicy(name=name, driver=DriverKind.SIMULATED) for name in resources or ("TWIN",)},
    )


def with_queue(policy: Policy, name: str, **changes: Any) -> Policy:
    changed = msgspec.structs.replace(policy.queues[name], **changes)
    return msgspec.structs.replace(policy, queues={**policy.queues, name: changed})


class Site:
    """One life of a daemon."""

    def __init__(self, context: Context, qpu: Qpu, workers: FakeWorkers, clock: Clock) -> None:
        self.context = context
        self.qpu = qpu
        self.workers = workers
        self.clock = clock
        self.service = Service(context)
        self.scheduler = Scheduler(context)
        self.reaper = Reaper(context, self.service)
        self.calendar = Calendar(context, self.service)
        self.sweep = Sweep(context, self.service)
        self.releases = Releases(context, self.service, first_pause=0.2)
        self.purge = Purge(context, self.service)
        self.show = SlurmShow(context)
        self.comments = SlurmComments(context)
        self.root: asyncio.Task[None] | None = None

    @property
    def book(self) -> Any:
        return self.context.book

    async def run(self) -> None:
        """What the root TaskGroup of the daemon runs, without HTTP."""
        left = (await self.context.store.load()).in_flight
        with contextlib.suppress(QpudError):
            await self.service.stop_orphans()
        async with asyncio.TaskGroup() as root:
            root.create_task(self.scheduler.run(left))
            root.create_task(self.reaper.run())
            root.create_task(self.calendar.run())
            root.create_task(self.sweep.run())
            root.create_task(self.releases.run())
            root.create_task(self.purge.run())
            root.create_task(self.show.run())
            root.create_task(self.comments.run())

    def start(self) -> None:
        self.root = asyncio.create_task(self.run())

    async def stop(self) -> None:
        """Stop in order; a store that stays open would keep the process from ending."""
        try:
            await self._end_tasks()
        finally:
            await self.context.store.close()
            await self.context.validator.close()

    async def crash(self, *, lose_queued: bool) -> None:
        """Die here: nothing more runs, and what the writer had not begun is lost or, just before, was not."""
        writer = self.context.store._writer
        if lose_queued:
            with contextlib.suppress(queue.Empty):
                while True:
                    writer._inbox.get_nowait()
        await self._end_tasks()
        if lose_queued:  # what the dying tasks still asked for
            with contextlib.suppress(queue.Empty):
                while True:
                    writer._inbox.get_nowait()
        await self.context.store.close()
        await self.context.validator.close()

    async def _end_tasks(self) -> None:
        if self.root is not None:
            self.root.cancel()
            await asyncio.gather(self.root, return_exceptions=True)
            if not self.root.cancelled() and (error := self.root.exception()) is not None:
                raise error

    # -- what users do
    async def session(self, who: Identity = ALICE, queue: str = "development", **ask: Any) -> Session:
        return (await self.service.open_session(who, verbs.OpenSession(queue=queue, **ask))).session

    async def submit(
        self, session: Session, shots: int = 10, *, who: Identity = ALICE, key: str | None = None, **ask: Any
    ) -> Job:
        request = JobRequest(**{"sequence": SEQUENCE, "shots": shots, **ask})
        return (await self.service.submit(who, session.id, [request], key))[0]

    async def job(self, job: Job) -> Job:
        return await self.service.get_job(ROOT, str(job.id))

    async def ended(self, *jobs: Job) -> list[Job]:
        """Wait for the ends."""
        found = []
        async with asyncio.timeout(DEADLINE):
            for job in jobs:
                while not (now := await self.service.get_job(ROOT, str(job.id), 5.0)).is_terminal:
                    pass
                found.append(now)
        return found

    async def end(self, job: Job) -> Job:
        return (await self.ended(job))[0]

    async def in_flight(self, job: Job | None = None, slices: int | None = None) -> None:
        """Wait until a slice (of this job; the n-th at the QPU) runs."""
        await until(
            lambda: (
                self.qpu.running is not None
                and (job is None or self.qpu.requests[-1].job_id == job.id)
                and (slices is None or len(self.qpu.requests) == slices)
                and self.book.flights["TWIN"].slice is not None
            )
        )

    async def result(self, job: Job) -> verbs.Result:
        return await self.service.result(ROOT, str(job.id))

    async def story(self, job: Job) -> str:
        return "\n".join(line.text for line in await self.service.job_logs(ROOT, str(job.id)))

    async def settle(self) -> None:
        """Let everything that can happen now happen: the writer is idle and the loop has turned."""
        for _ in range(3):
            await self.context.store.write(lambda _transaction: None)
            for _ in range(10):
                await asyncio.sleep(0)


async def until(condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
    """Wait until something is true, with a deadline."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


async def a_life(
    path: Path,
    qpu: Qpu,
    *,
    policy: Policy | None = None,
    workers: FakeWorkers | None = None,
    clock: Clock | None = None,
    drivers: dict[str, Driver] | None = None,
    slurm: Slurm | None = None,
    slurm_conf: Path | None = None,
) -> Site:
    """A daemon on this database, not running yet; with `slurm_conf` it acts on that cluster."""
    policy = policy or a_policy()
    store = await Store.open(path / "state.sqlite")
    snapshot = await store.load()
    workers = workers or FakeWorkers()
    clock = clock or Clock()
    metrics = Metrics(tuple(policy.resources), tuple(policy.queues))
    record = recorder(store, metrics, clock)
    context = Context(
        policy=policy,
        policy_path=None,
        store=store,
        book=book_of(policy, snapshot),
        drivers=drivers or {name: QpuDriver(name, qpu) for name in policy.resources},
        validator=Validator(workers, time.monotonic, lambda _verdict, _seconds: None),
        metrics=metrics,
        clock=clock,
        pulse=time.monotonic,
        slurm=slurm,
        slurm_control=SlurmControl(slurm_conf, time.monotonic, record) if slurm_conf else None,
        names=lambda uid: f"user{uid}",
        next_job_id=snapshot.last_job_id + 1,
        next_slice_id=snapshot.last_slice_id + 1,
    )
    context.book.tally.restore(await charged_since(store, day_start(clock())), clock())
    return Site(context, qpu, workers, clock)


@asynccontextmanager
async def a_site(path: Path, qpu: Qpu | None = None, **parts: Any) -> AsyncIterator[Site]:
    """A running daemon."""
    site = await a_life(path, qpu or Qpu(seconds=0.0), **parts)
    site.start()
    try:
        if site.qpu.spec is not None:
            await until(lambda: set(site.context.specs) == set(site.context.drivers))
        yield site
    finally:
        await site.stop()


def sums(path: Path) -> tuple[int, int, int]:
    """Shots in the ledger, in the slices and in the jobs: always the same number."""
    with contextlib.closing(sqlite3.connect(path / "state.sqlite")) as database:
        return tuple(
            database.execute(f"SELECT coalesce(sum({column}), 0) FROM {table}").fetchone()[0]
            for table, column in (("ledger", "shots"), ("slices", "shots_done"), ("jobs", "shots_done"))
        )  # type: ignore[return-value]


DONE, CANCELED, ERROR = JobState.DONE, JobState.CANCELED, JobState.ERROR
