"""The driver `emulator`: sequences evolve once in a child of the worker, and slices are dealt from the drawn shots.

Nothing outlives the daemon: after a restart `find` says None and the slice runs again, with the same seed and hence
the same shots.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from qpud.core.errors import QpudError
from qpud.core.resource import ResourcePolicy
from qpud.core.sequence import inspect
from qpud.core.slices import Outcome, OutcomeState
from qpud.drivers.base import (
    DeviceSpec,
    Emulation,
    Health,
    HealthState,
    Program,
    Refused,
    SliceRequest,
    Unreachable,
    WorkersProtocol,
)
from qpud.drivers.workers import WorkerFault

DEVICE = "AnalogDevice"  # where the policy names none
DEALT_PER_SECOND = 1000.0  # assumed: once evolved, 50 shots take under 1 ms (facts/EMULATORS.md §5)
HEALTH_SECONDS = 3.0


class Times(NamedTuple):
    """When a slice was worked on, and what that costs; seconds, since the epoch where they are dates."""

    started_at: float
    ended_at: float
    qpu_seconds: float


Spent = Callable[[OutcomeState], Times]
"""What a slice has cost until now, if it ends in that state."""


class _Run:
    """A slice under way; `outcome` is set when it has ended, also when it was cancelled."""

    def __init__(self, request: SliceRequest, task: asyncio.Task[Outcome], canceled: Callable[[], Outcome]) -> None:
        self.request = request
        self.task = task
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._canceled = canceled
        task.add_done_callback(self._end)

    @property
    def ended_badly(self) -> bool:
        """Whether it is over and obtained nothing: the same tag may then be started again."""
        return self.outcome.done() and self.outcome.result().state is not OutcomeState.DONE

    def _end(self, task: asyncio.Task[Outcome]) -> None:
        if task.cancelled():
            self.outcome.set_result(self._canceled())
        elif error := task.exception():
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())


class EmulatorDriver:
    """An emulator on the access node.

    Args:
        policy: Its section; MaxAtoms, MaxMemory and MaxRunTime bound a job.
        workers: The worker process, shared by all drivers.
        clock: Wall time.
    """

    def __init__(self, policy: ResourcePolicy, workers: WorkersProtocol, clock: Callable[[], float]) -> None:
        self.name = policy.name
        self._policy = policy
        self._workers = workers
        self._clock = clock
        self._spec: DeviceSpec | None = None
        self._runs: dict[str, _Run] = {}  # by tag, which is the device id too
        self._evolved: dict[int, dict[str, str]] = {}  # job → provenance
        self._closed = False

    async def open(self) -> None:
        """Nothing to acquire: the worker is the daemon's."""
        self._closed = False

    async def close(self) -> None:
        """End all emulations of this resource."""
        self._closed = True
        for job_id in {run.request.job_id for run in self._runs.values()} | set(self._evolved):
            self.release(job_id)

    async def spec(self) -> DeviceSpec:
        """The configured device's spec; virtual devices are accepted besides.

        Raises:
            Unreachable: The worker does not answer.
        """
        if self._spec is None:
            try:
                found = await self._workers.device_spec(self._policy.device or DEVICE)
            except WorkerFault as fault:
                raise Unreachable(f"emulator {self.name}: {fault.message}") from fault
            self._spec = msgspec.structs.replace(found, accepts_virtual=True)
        return self._spec

    async def health(self) -> Health:
        """Whether the worker answers; one that is starting or busy is up."""
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                await self._workers.device_spec(self._policy.device or DEVICE)
        except WorkerFault as fault:
            return Health(state=HealthState.DOWN, message=fault.message)
        except TimeoutError:
            return Health(state=HealthState.UP, message="the worker is starting or busy")
        return Health(state=HealthState.UP)

    def shots_for(self, seconds: float) -> int:
        """Shots dealt in `seconds` once the sequence is evolved, which is paid once per job."""
        return max(1, int(seconds * DEALT_PER_SECOND))

    async def start(self, request: SliceRequest) -> str:
        """Begin to emulate, or to deal if the job is emulated; the id is the tag.

        Raises:
            Refused: More atoms than MaxAtoms, no readable program, a worker that cannot be started, or closed.
            Unreachable: The worker does not answer.
        """
        if self._closed:
            raise Refused(f"emulator {self.name} is closed", transient=True)
        if why := self._workers.failure:
            raise Refused(why, transient=True)
        self._check_atoms(request.program, request.emulation)
        spec = await self._spec_of(request)
        await self._require_worker()
        if request.tag not in self._runs or self._runs[request.tag].ended_badly:
            self._forget_ended(request.job_id)
            spent = self._stopwatch(request)
            task = asyncio.create_task(self._run(request, spec, spent), name=f"emulate-{request.tag}")
            self._runs[request.tag] = _Run(request, task, _canceled(spent))
        return request.tag

    async def wait(self, device_id: str, request: SliceRequest) -> Outcome:
        """Wait for the end of a slice; one that is not known has failed and may be started again."""
        if (run := self._runs.get(device_id)) is None:
            now = self._clock()
            gone = f"emulator {self.name} knows no slice {request.tag}"
            return _failed(gone, transient=True, times=Times(now, now, 0.0))
        return await asyncio.shield(run.outcome)

    async def find(self, request: SliceRequest) -> str | None:
        """The id of a slice of this life of the daemon; emulations do not outlive it."""
        return request.tag if request.tag in self._runs else None

    async def cancel(self, device_id: str) -> None:
        """Kill the emulation; late or twice is harmless."""
        if run := self._runs.get(device_id):
            run.task.cancel()

    def release(self, job_id: int) -> None:
        """Drop the job's shots and whatever runs for it."""
        for run in [run for run in self._runs.values() if run.request.job_id == job_id]:
            run.task.cancel()
            del self._runs[run.request.tag]
        self._evolved.pop(job_id, None)
        self._workers.release(job_id)

    async def _spec_of(self, request: SliceRequest) -> DeviceSpec:
        """The spec that the job was checked against."""
        asked = request.emulation
        if asked is None or not asked.like:
            return await self.spec()
        if asked.spec is None:
            raise Refused(f"{asked.like} has not told its device spec yet", transient=True)
        return asked.spec

    def _check_atoms(self, program: Program, asked: Emulation | None) -> None:
        """Mocks take any number of atoms."""
        if asked is not None and asked.emulator is not None and asked.emulator.is_mock:
            return
        try:
            facts = inspect(program.sequence)
        except QpudError as error:
            raise Refused(error.message, transient=False) from None
        mapping = program.variables.get("qubits")
        atoms = len(mapping) if facts.mappable and isinstance(mapping, Mapping) else facts.atoms
        if atoms > (most := self._policy.max_atoms):
            raise Refused(f"{atoms} atoms exceed MaxAtoms {most} of emulator {self.name}", transient=False)

    def _forget_ended(self, job_id: int) -> None:
        for tag in [tag for tag, run in self._runs.items() if run.request.job_id == job_id and run.task.done()]:
            del self._runs[tag]

    async def _require_worker(self) -> None:
        """Raises: Refused, if there is no worker. The access node's is there, or `failure` says why it is not."""

    def _stopwatch(self, _request: SliceRequest, /) -> Spent:
        """Start to measure a slice: here all its time is work."""
        began = time.monotonic()

        def spent(_state: OutcomeState) -> Times:
            ended = time.monotonic()
            return self._times(began, ended, ended - began)

        return spent

    def _times(self, began: float, now: float, qpu_seconds: float) -> Times:
        """Wall times of what ends now, by monotonic ones: the wall clock may have been set meanwhile."""
        wall = self._clock()
        return Times(wall - (now - began), wall, qpu_seconds)

    async def _run(self, request: SliceRequest, spec: DeviceSpec, spent: Spent) -> Outcome:
        try:
            provenance = await self._emulated(request, spec)
            counts = await self._deal(request, spec)
        except WorkerFault as fault:
            self._evolved.pop(request.job_id, None)
            return _failed(fault.message, transient=fault.transient, times=spent(OutcomeState.FAILED))
        times = spent(OutcomeState.DONE)
        return Outcome(state=OutcomeState.DONE, counts=counts, provenance=provenance, **times._asdict())

    async def _deal(self, request: SliceRequest, spec: DeviceSpec) -> dict[str, int]:
        try:
            return await self._workers.deal(request.job_id, request.first_shot, request.shots)
        except WorkerFault as fault:
            if not fault.transient:
                raise
        del self._evolved[request.job_id]  # the child is gone: the same seed draws the same shots again
        await self._emulated(request, spec)
        return await self._workers.deal(request.job_id, request.first_shot, request.shots)

    async def _emulated(self, request: SliceRequest, spec: DeviceSpec) -> dict[str, str]:
        """Evolve the job unless that is done; returns the provenance."""
        if request.job_id not in self._evolved:
            asked = request.emulation
            await self._evolve(
                request.job_id, request.program, spec, shots=request.job_shots, seed=request.seed, asked=asked
            )
        return self._evolved[request.job_id]

    async def _evolve(
        self,
        job_id: int,
        program: Program,
        spec: DeviceSpec,
        *,
        shots: int,
        seed: int,
        asked: Emulation | None = None,
    ) -> None:
        options = self._options(asked)
        provenance = await self._workers.evolve(job_id, program, spec, shots=shots, seed=seed, options=options)
        self._evolved[job_id] = {"driver": "emulator", **provenance, **_pretended(asked)}

    def _options(self, asked: Emulation | None) -> dict[str, Any]:
        limits: dict[str, Any] = {"memory": self._policy.max_memory, "seconds": self._policy.max_run_time}
        if asked is None:
            return limits
        wishes = {"emulator": asked.emulator, "bond_dim": asked.bond_dim, "noise": True if asked.like else None}
        return {**limits, **{name: value for name, value in wishes.items() if value is not None}}


def _pretended(asked: Emulation | None) -> dict[str, str]:
    return {"like": asked.like} if asked is not None and asked.like else {}


def _canceled(spent: Spent) -> Callable[[], Outcome]:
    def canceled() -> Outcome:
        times = spent(OutcomeState.CANCELED)
        return Outcome(state=OutcomeState.CANCELED, counts={}, message="the emulation was stopped", **times._asdict())

    return canceled


def _failed(message: str, *, transient: bool, times: Times) -> Outcome:
    return Outcome(state=OutcomeState.FAILED, counts={}, message=message, transient=transient, **times._asdict())
