"""The driver `simulated`: a QPU that keeps a real QPU's time, divided by SpeedUp.

A slice takes SetupSeconds if its register is not the loaded one, then shots ÷ ShotRate, in QPU seconds. The worker
emulates the job once, while that time passes, and deals the shots of each slice; an emulation slower than the QPU
makes the slice longer, and its provenance says so. The simulated QPU lives and dies with the daemon: after a
restart it knows no slice. Faults on demand: faults.py.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

from qpud.core.errors import QpudError
from qpud.core.resource import ResourcePolicy
from qpud.core.sequence import inspect
from qpud.core.slices import Outcome, OutcomeState
from qpud.core.terms import Counts
from qpud.drivers.base import (
    Clock,
    DeviceSpec,
    Health,
    HealthState,
    Refused,
    SliceRequest,
    Unreachable,
    WorkersProtocol,
)
from qpud.drivers.faults import Faults
from qpud.drivers.simulated_slice import SimulatedSlice
from qpud.drivers.workers import WorkerFault

REMEMBERED = 64
"""Ended slices that `find` and `wait` still know; only the last one is ever asked for."""


class SimulatedDriver:
    """A simulated QPU.

    Args:
        policy: Its section of the policy: Device, ShotRate, SetupSeconds, SpeedUp, Counts, MaxAtoms.
        workers: Where device specs and counts come from.
        clock: Wall time for the time stamps; the pace itself follows the monotonic clock.
    """

    def __init__(self, policy: ResourcePolicy, workers: WorkersProtocol, clock: Clock) -> None:
        self.name = policy.name
        self._policy = policy
        self._workers = workers
        self._clock = clock
        self._faults = Faults()
        self._touchable: int | None = None  # slices the faults still touch; None: all
        self._register = ""  # hash of the register that is loaded
        self._spec: DeviceSpec | None = None
        self._open = False
        self._started = 0
        self._running: SimulatedSlice | None = None
        self._known: dict[str, SimulatedSlice] = {}  # by device id
        self._emulations: dict[int, asyncio.Task[dict[str, str]]] = {}  # by job id

    async def open(self) -> None:
        """Switch the simulated QPU on."""
        self._open = True

    async def close(self) -> None:
        """Switch it off; a slice in flight is lost with it, and will run again."""
        self._open = False
        run, self._running = self._running, None
        tasks: list[asyncio.Task[Any]] = list(self._emulations.values())
        if run is not None:
            message = f"resource {self.name} was closed while slice {run.request.tag} ran"
            run.abandon(run.failed(message, self._clock(), transient=True))
            tasks += run.tasks
        for job_id in list(self._emulations):
            self.release(job_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def spec(self) -> DeviceSpec:
        """The device spec of the policy's Device. Raises: Unreachable."""
        if self._spec is None:
            device = self._policy.device
            try:
                self._spec = await self._workers.device_spec(device)
            except WorkerFault as fault:
                raise Unreachable(f"resource {self.name}: no device spec {device}: {fault.message}") from fault
        return self._spec

    async def health(self) -> Health:
        """UP, unless a fault says otherwise or it is closed."""
        if self._faults.away:
            return Health(state=HealthState.UNREACHABLE, message=f"resource {self.name} does not answer")
        if self._faults.down or not self._open:
            return Health(state=HealthState.DOWN, message=f"resource {self.name} is down")
        return Health(state=HealthState.UP)

    def inject(self, faults: Faults) -> None:
        """Make the simulated QPU faulty from now on, or healthy again with `Faults()`.

        The slice in flight takes part: one that hangs goes on as soon as the fault is cleared.
        """
        self._faults, self._touchable = faults, faults.times
        if self._running is not None:
            self._running.faults = faults
            self._running.arm()

    def shots_for(self, seconds: float) -> int:
        """Shots in `seconds` of QPU time by ShotRate, at least 1."""
        return max(1, math.floor(seconds * self._policy.shot_rate + 1e-9))

    async def start(self, request: SliceRequest) -> str:
        """Start a slice; its time runs from here. Raises: Refused, Unreachable."""
        faults = self._faults_of_next_slice()
        if faults.away:
            raise Unreachable(f"resource {self.name} does not answer")
        self._refuse_if_told(faults)
        run = self._launch(request, faults)
        if faults.lose_reply:
            raise Unreachable(f"resource {self.name} did not answer to slice {request.tag}")
        return run.device_id

    async def wait(self, device_id: str, request: SliceRequest) -> Outcome:
        """Wait for the end of a slice. Raises: Unreachable."""
        run = self._known.get(device_id)
        if run is None:
            return self._unknown(device_id)
        self._answer_to_wait(request)
        outcome = await asyncio.shield(run.outcome)
        self._answer_to_wait(request)
        return outcome

    async def find(self, request: SliceRequest) -> str | None:
        """The id of the slice with this tag, if this process started it. Raises: Unreachable."""
        if self._faults.away:
            raise Unreachable(f"resource {self.name} does not answer")
        return next((run.device_id for run in self._known.values() if run.request.tag == request.tag), None)

    async def cancel(self, device_id: str) -> None:
        """End the slice after the shot in progress. Raises: Unreachable."""
        if self._faults.away:
            raise Unreachable(f"resource {self.name} does not answer")
        run = self._known.get(device_id)
        if run is not None:
            run.cut()

    def release(self, job_id: int) -> None:
        """Drop the job's emulation."""
        task = self._emulations.pop(job_id, None)
        if task is not None:
            task.cancel()
            self._workers.release(job_id)

    # -- start
    def _faults_of_next_slice(self) -> Faults:
        if self._touchable is None:
            return self._faults
        if self._touchable == 0:
            self._faults, self._touchable = Faults(), None
            return self._faults
        self._touchable -= 1
        return self._faults

    def _refuse_if_told(self, faults: Faults) -> None:
        if not self._open:
            raise Refused(f"resource {self.name} is closed", transient=True)
        if why := self._workers.failure:
            raise Refused(f"resource {self.name} cannot emulate: {why}", transient=True)
        if faults.down:
            raise Refused(f"resource {self.name} is down", transient=True)
        if faults.refuse:
            raise Refused(f"resource {self.name} refused: {faults.refuse}", transient=faults.refuse_transient)
        if self._running is not None:
            raise Refused(f"resource {self.name} is busy with slice {self._running.request.tag}", transient=True)

    def _launch(self, request: SliceRequest, faults: Faults) -> SimulatedSlice:
        self._started += 1
        new = request.program.register_hash != self._register
        self._register = request.program.register_hash
        setup = self._policy.setup_seconds if new else 0.0
        run = SimulatedSlice(f"{self.name}-{self._started}", request, faults, setup, self._policy, self._clock())
        self._running = self._known[run.device_id] = run
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        run.prepared = asyncio.create_task(self._prepare(run), name=f"counts of slice {request.tag}")
        run.prepared.add_done_callback(_look_at)
        run.tasks = [run.prepared, asyncio.create_task(self._run(run), name=f"slice {request.tag}")]
        run.arm()
        return run

    # -- a slice in flight
    async def _run(self, run: SimulatedSlice) -> None:
        """Carry the slice to its outcome; the counts are usually there before its time is over."""
        await run.over.wait()
        try:
            counts = await self._counts(run, run.shots_obtained())
            outcome = run.ended(counts, self._clock())
        except WorkerFault as fault:
            message = f"the emulation behind resource {self.name} failed: {fault.message}"
            outcome = run.failed(message, self._clock(), transient=fault.transient)
        if self._running is run:
            self._running = None
        run.prepared.cancel()
        run.settle(outcome)

    async def _counts(self, run: SimulatedSlice, shots: int) -> dict[str, int]:
        wanted = shots - run.faults.lost_of(shots)
        if wanted == 0:
            return {}
        await asyncio.wait({run.prepared})
        if run.prepared.cancelled():
            raise WorkerFault(f"job {run.request.job_id} was released before its slice {run.request.tag} ended")
        counts = run.prepared.result()
        if wanted != run.dealt:  # cut short, or a fault injected since
            counts = await self._workers.deal(run.request.job_id, run.request.first_shot, wanted)
        return run.faults.spoil(counts)

    async def _prepare(self, run: SimulatedSlice) -> dict[str, int]:
        """Emulate, and deal in advance: at the end of the slice nothing is left to wait for."""
        request = run.request
        run.dealt = request.shots - run.faults.lost_of(request.shots)
        try:
            run.provenance = await self._emulated(request)
            try:
                return await self._workers.deal(request.job_id, request.first_shot, run.dealt)
            except WorkerFault as fault:  # the job's process is gone: its draw is repeatable, so emulate again
                if not fault.transient:
                    raise
                self._emulations.pop(request.job_id, None)
                run.provenance = await self._emulated(request)
                return await self._workers.deal(request.job_id, request.first_shot, run.dealt)
        except WorkerFault:
            run.over.set()
            raise

    async def _emulated(self, request: SliceRequest) -> dict[str, str]:
        """Provenance of the job's emulation, done once per job."""
        task = self._emulations.get(request.job_id)
        if task is None:
            task = asyncio.create_task(self._evolve(request), name=f"emulation of job {request.job_id}")
            task.add_done_callback(_look_at)
            self._emulations[request.job_id] = task
        try:
            return await asyncio.shield(task)
        except WorkerFault:
            self._emulations.pop(request.job_id, None)
            raise

    async def _evolve(self, request: SliceRequest) -> dict[str, str]:
        try:
            spec = await self.spec()
        except Unreachable as fault:
            raise WorkerFault(fault.message) from fault
        emulator, reason = self._emulator(request)
        limits = {"memory": self._policy.max_memory, "seconds": self._policy.max_run_time}
        provenance = await self._workers.evolve(
            request.job_id,
            request.program,
            spec,
            shots=request.job_shots,
            seed=request.seed,
            options={**emulator, **limits},
        )
        return {**provenance, "driver": "simulated", "spec_hash": spec.hash, "counts": reason}

    def _emulator(self, request: SliceRequest) -> tuple[dict[str, str], str]:
        """The worker's option (by default it chooses by size), and words that tell where the counts come from."""
        if self._policy.counts is Counts.PRODUCT:
            return {"emulator": "product"}, "product state: independent atoms, no interaction"
        atoms, limit = _atoms_of(request.program.sequence), self._policy.max_atoms
        if atoms > limit:
            return {
                "emulator": "product"
            }, f"product state: independent atoms, no interaction, as {atoms} exceed MaxAtoms {limit}"
        return {}, "emulation"

    # -- answers
    def _answer_to_wait(self, request: SliceRequest) -> None:
        if self._faults.away or self._faults.lose_wait:
            raise Unreachable(f"resource {self.name} does not answer about slice {request.tag}")

    def _unknown(self, device_id: str) -> Outcome:
        now = self._clock()
        message = f"resource {self.name} knows no slice {device_id}; a simulated QPU forgets all when qpud restarts"
        return Outcome(
            state=OutcomeState.FAILED,
            counts={},
            started_at=now,
            ended_at=now,
            qpu_seconds=0.0,
            message=message,
            transient=True,
        )


def _look_at(task: asyncio.Task[Any]) -> None:
    """Retrieve the exception of an emulation that nobody waits for any more, so that asyncio does not complain."""
    if not task.cancelled():
        task.exception()


def _atoms_of(sequence: str) -> int:
    """Number of atoms; 0 if the program cannot be read, which the worker then says better."""
    try:
        return inspect(sequence).atoms
    except QpudError:
        return 0
