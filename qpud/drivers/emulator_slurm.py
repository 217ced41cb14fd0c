"""The driver `emulator` with Launcher = slurm: the same slices, emulated by workers on the cluster's nodes.

One slice is in flight, as on every resource. What costs is the evolution, and that of the next jobs in line begins on
other workers ahead of their slices; they stay PENDING meanwhile, and their slices are then dealt at once. What was
emulated ahead for a job that is cancelled or overtaken is thrown away, and nobody is charged for it. Only time on a
worker is charged: neither the wait for Slurm nor what was lost with a node.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from qpud.core.resource import ResourcePolicy
from qpud.core.slices import OutcomeState
from qpud.core.verbs import WorkerView
from qpud.drivers.base import (
    Coming,
    DeviceSpec,
    Health,
    HealthState,
    Refused,
    SliceRequest,
    SlurmProtocol,
    WorkersProtocol,
)
from qpud.drivers.emulator import EmulatorDriver, Spent, Times
from qpud.drivers.pool import Pool
from qpud.drivers.workers import WorkerFault

log = logging.getLogger(__name__)

WINDOW = 2  # jobs in line to look at, for each worker


class SlurmEmulatorDriver(EmulatorDriver):
    """An emulator whose workers are Slurm jobs.

    Args:
        policy: Its section.
        workers: The access node's worker: device spec and verdicts.
        clock: Wall time.
        slurm: Starts the others.
    """

    def __init__(
        self, policy: ResourcePolicy, workers: WorkersProtocol, clock: Callable[[], float], slurm: SlurmProtocol
    ) -> None:
        self._pool = Pool(policy, workers, slurm, time.monotonic, self._drop)
        super().__init__(policy, self._pool, clock)
        self.ahead = WINDOW * policy.workers if policy.workers > 1 else 0
        self._coming: dict[int, Coming] = {}
        self._evolving: dict[int, asyncio.Task[None]] = {}
        self._unasked: set[int] = set()  # jobs emulated, or being so, that had no slice yet
        self._paid: set[int] = set()  # jobs whose emulation was charged

    async def open(self) -> None:
        """Begin to look after workers; none is started before one is wanted."""
        await super().open()
        await self._pool.open()

    async def close(self) -> None:
        """End all emulations of this resource and its workers."""
        await super().close()
        for job_id in list(self._evolving):
            self.release(job_id)
        await self._pool.close()

    async def health(self) -> Health:
        """Whether verdicts can be given and workers started; one that waits for nodes is up."""
        self._pool.check()
        health = await super().health()
        if health.state is HealthState.UP and (why := self._pool.failure):
            return Health(state=HealthState.DOWN, message=why)
        return health

    def release(self, job_id: int) -> None:
        """Drop the job's shots and whatever runs for it."""
        if task := self._evolving.pop(job_id, None):
            task.cancel()
        self._coming.pop(job_id, None)
        self._unasked.discard(job_id)
        self._paid.discard(job_id)
        super().release(job_id)

    # -- Foresighted
    def foresee(self, coming: Sequence[Coming]) -> None:
        """See Foresighted: at most Workers - 1 are emulated ahead at a time, the last worker is the slice's."""
        self._coming = {one.job_id: one for one in coming}
        for job_id in self._unasked - set(self._coming):
            self._drop(job_id)
        self._begin_ahead()

    @property
    def trouble(self) -> str:
        """See Foresighted."""
        return self._pool.failure

    def lacks(self, job_id: int) -> str:
        """See Foresighted."""
        return self._pool.lacks(job_id)

    def preparing(self, job_id: int) -> str:
        """See Foresighted."""
        work = self._pool.work(job_id)
        if work is None or work.berth is None or job_id not in self._evolving:
            return ""
        how = "is emulated" if work.ended is None else "was emulated"
        return f"it {how} on node {work.berth.node} by Slurm job {work.berth.slurm_job}"

    def crew(self) -> list[WorkerView]:
        """See Foresighted."""
        return self._pool.view

    # -- parts
    async def _require_worker(self) -> None:
        await self._pool.require()
        if why := self._pool.failure:
            raise Refused(why, transient=True)

    def _stopwatch(self, request: SliceRequest, /) -> Spent:
        job_id, began = request.job_id, time.monotonic()
        self._pool.first = job_id
        self._unasked.discard(job_id)

        def spent(state: OutcomeState) -> Times:
            return self._spent(job_id, began, state)

        return spent

    def _spent(self, job_id: int, slice_began: float, state: OutcomeState) -> Times:
        """A slice pays for its own time on a worker; the one that brings the first shots also for what was ahead."""
        now, work = time.monotonic(), self._pool.work(job_id)
        if work is None or work.began is None:
            return self._times(now, now, 0.0)
        computed = work.ended or now
        started = max(slice_began, computed if job_id in self._paid else work.began)
        ahead = 0.0
        if state is OutcomeState.DONE and job_id not in self._paid:
            self._paid.add(job_id)
            ahead = max(0.0, min(computed, slice_began) - work.began)
        return self._times(started, now, now - started + ahead)

    async def _emulated(self, request: SliceRequest, spec: DeviceSpec) -> dict[str, str]:
        job_id, task = request.job_id, self._evolving.get(request.job_id)
        if task is None or (task.done() and job_id not in self._evolved):
            coming = Coming(
                job_id=job_id,
                program=request.program,
                shots=request.job_shots,
                seed=request.seed,
                emulation=request.emulation,
            )
            task = self._begin(coming, spec)
        await task
        return self._evolved[job_id]

    def _begin(self, one: Coming, spec: DeviceSpec) -> asyncio.Task[None]:
        evolving = self._evolve(one.job_id, one.program, spec, shots=one.shots, seed=one.seed, asked=one.emulation)
        task = self._evolving[one.job_id] = asyncio.create_task(evolving, name=f"evolve-{one.job_id}")
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A failure ahead of the slice is nobody's yet: the slice will try again and be told."""
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, WorkerFault):
            log.error("driver fault ahead of a slice", exc_info=error, extra={"resource": self.name})
        self._begin_ahead()

    def _begin_ahead(self) -> None:
        spec = self._spec
        if spec is None or self._closed or self._pool.failure:
            return
        for one in self._coming.values():
            if sum(not self._evolving[job_id].done() for job_id in self._unasked) >= self._policy.workers - 1:
                return
            if self._is_untouched(one.job_id) and self._fits(one):
                self._begin(one, one.emulation.spec or spec if one.emulation else spec)
                self._unasked.add(one.job_id)

    def _is_untouched(self, job_id: int) -> bool:
        """Whether a job was not emulated yet, or only until its slice was cut."""
        task = self._evolving.get(job_id)
        return task is None or task.cancelled()

    def _fits(self, one: Coming) -> bool:
        try:
            self._check_atoms(one.program, one.emulation)
        except Refused:  # its slice will be told so
            return False
        return True

    def _drop(self, job_id: int) -> None:
        """Throw away what was emulated ahead."""
        if job_id in self._unasked:
            self.release(job_id)
