"""The Driver protocol: what the scheduler needs of a resource, and nothing else.

One slice is in flight per resource. The scheduler commits the slice row, calls `start`, then `wait`. A driver
keeps no durable state: after a crash of the daemon the scheduler asks `find(tag)`. Every driver passes
`tests/drivers/test_contract.py`.
"""

from __future__ import annotations

import enum
from asyncio.subprocess import Process
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from qpud.core.rehearsal import Emulator
from qpud.core.slices import Outcome
from qpud.core.slurm import WorkerJob
from qpud.core.verbs import WorkerView

if TYPE_CHECKING:
    from qpud.drivers.workers import Verdict

Clock = Callable[[], float]
"""Wall time in seconds since the epoch, UTC; `time.time` outside of tests."""


class Fault(Exception):
    """The driver could not do what was asked; `message` is one sentence for logs and users."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unreachable(Fault):
    """The resource did not answer: what it has or has not done is UNKNOWN. Never means "lost"."""


class Undecided(Unreachable):
    """The resource answers, and nobody but a person who looks there can tell whether it has the slice, or how that is.

    The slice stays UNKNOWN and is never started again by itself; canceling its job ends it.
    """


class Refused(Fault):
    """The resource answered and will not run this slice. Nothing ran.

    Args:
        message: The resource's reason.
        transient: True if the same slice may be accepted later (maintenance, calibration missing, busy).
    """

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class HealthState(enum.StrEnum):
    """Whether the resource can take work."""

    UP = "up"
    DOWN = "down"
    UNREACHABLE = "unreachable"


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A driver's word on its resource."""

    state: HealthState
    message: str = ""


class DeviceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The current device spec: Pulser's abstract representation as JSON text.

    `name` is the top-level "name" of the text; `hash` the sha256 hex of the text; `accepts_virtual` is true for
    emulators, which also run sequences written for virtual devices such as MockDevice.
    """

    name: str
    text: str
    hash: str
    max_runs: int | None = None
    accepts_virtual: bool = False


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: the text as submitted (Pulser's abstract representation, or an AHS program) and its variables."""

    sequence: str
    sequence_hash: str
    register_hash: str
    variables: dict[str, Any] = {}


class Emulation(msgspec.Struct, frozen=True, kw_only=True):
    """What a session asks of an emulator; other drivers never see it."""

    spec: DeviceSpec | None = None  # of the QPU whose place is taken, with its noise; None: the emulator's own
    like: str = ""  # the name of that QPU
    emulator: Emulator | None = None
    bond_dim: int | None = None


class SliceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One slice for the resource.

    `shots` from `first_shot` of the job's `job_shots`; emulators draw all `job_shots` once with `seed`, shuffle and
    deal, so that counts do not depend on where the slices fell, nor on a restart.
    """

    tag: str
    job_id: int
    batch_id: str
    program: Program
    shots: int
    first_shot: int
    job_shots: int
    seed: int
    slurm_job_id: str | None = None
    device_id: str | None = None  # the resource's id from the slice row, if known: `find` may adopt by it
    emulation: Emulation | None = None
    after_device_id: str | None = None  # the newest id known there before this slice: `find` may search from it


class Driver(Protocol):
    """A resource. Every method may be cancelled; none blocks the loop; every wait inside has a timeout."""

    name: str

    async def open(self) -> None:
        """Acquire what the driver needs. A resource that is away is not an error here: `health` tells."""

    async def close(self) -> None:
        """Give everything back; ends child processes. Work at a real QPU goes on: it is adopted at the next start."""

    async def spec(self) -> DeviceSpec:
        """The current device spec, cached by the driver.

        Raises:
            Unreachable: It was never fetched and the resource does not answer.
        """

    async def health(self) -> Health:
        """Whether the resource can take work now; answers from the resource, within seconds; never raises."""

    def shots_for(self, seconds: float) -> int:
        """How many shots take `seconds` of QPU time without set-up, >= 1, by the measured or configured rate."""

    async def start(self, request: SliceRequest) -> str:
        """Hand the slice to the resource and return the resource's id for it, without waiting for its end.

        Raises:
            Refused: The resource said no; nothing ran.
            Unreachable: No answer: it may or may not run; ask `find`.
        """

    async def wait(self, device_id: str, request: SliceRequest) -> Outcome:
        """Wait for the end of a slice that `start` or `find` named.

        Raises:
            Unreachable: The resource stopped answering; the slice is UNKNOWN, call again later.
        """

    async def find(self, request: SliceRequest) -> str | None:
        """The resource's id of the slice with this tag, or None if the resource certainly does not have it.

        Raises:
            Unreachable: The resource does not answer, so nobody knows.
        """

    async def cancel(self, device_id: str) -> None:
        """Ask the resource to stop the slice; `wait` then ends with what was obtained. Late or twice is harmless."""

    def release(self, job_id: int) -> None:
        """The job has ended: drop whatever state is kept for its further slices."""


class Coming(msgspec.Struct, frozen=True, kw_only=True):
    """A job that will be run soon, unless it is cancelled or overtaken."""

    job_id: int
    program: Program
    shots: int
    seed: int
    emulation: Emulation | None = None


class Foresighted(Protocol):
    """A driver with workers of its own, that prepares the jobs which come next; nothing of that is durable."""

    ahead: int
    """How many of the next jobs it wants to hear of."""

    @property
    def trouble(self) -> str:
        """Why it has no worker and gets none, in one sentence; "" otherwise. Costs nothing to ask."""

    def foresee(self, coming: Sequence[Coming]) -> None:
        """Prepare these jobs, best first, the one that has the resource before all; forget those not named."""

    def lacks(self, job_id: int) -> str:
        """What a job whose slice is in flight waits for, in words; "" if it is being worked on."""

    def preparing(self, job_id: int) -> str:
        """What is done, or was, for a job before its slice, in words; "" if nothing."""

    def crew(self) -> list[WorkerView]:
        """Its workers."""


def foresighted(driver: Driver | None) -> Foresighted | None:
    """The driver, if it has workers of its own."""
    # isinstance compares every member, 12 µs; a queue of a thousand jobs asks two thousand times
    return cast(Foresighted, driver) if hasattr(driver, "foresee") else None


class SlurmProtocol(Protocol):
    """What drivers ask of Slurm; `qpud.site.srun.Srun` is the real one, see there."""

    def name(self, resource: str, number: int) -> str:
        """The name of a Slurm job: this daemon, the resource, this life, a number."""

    async def start(self, name: str, options: list[str], command: list[str]) -> Process:
        """Run a command as a Slurm job of that name; the process is srun. Raises: OSError without srun."""

    async def jobs(self, resource: str) -> list[WorkerJob]:
        """The Slurm jobs of a resource that wait or run, of earlier lives too. Raises: SlurmAway."""

    async def cancel_left(self, resource: str, gone: Collection[str]) -> int:
        """Cancel the Slurm jobs that an earlier life left, and those named; returns how many. Raises: SlurmAway."""

    async def cancel_all(self, resource: str) -> int:
        """Cancel every Slurm job of a resource; returns how many. Raises: SlurmAway."""


class WorkersProtocol(Protocol):
    """What drivers ask of the worker process; `qpud.drivers.workers.Workers` is the real one, see there."""

    @property
    def python(self) -> Path:
        """The worker's interpreter."""

    @property
    def failure(self) -> str:
        """Why the worker does not answer now: slices are refused for later; "" while it does or is starting."""

    async def device_spec(self, device: str) -> DeviceSpec:
        """The abstract representation of a Pulser device by name, or of a file. Raises: WorkerFault."""

    async def validate(self, program: Program, shots: int, spec: DeviceSpec) -> Verdict:
        """Check a program against a spec. Raises: WorkerFault when the worker itself is broken."""

    async def build(self, program: Program, spec: DeviceSpec) -> str:
        """The sequence as a QPU takes it. Raises: WorkerFault."""

    async def evolve(
        self,
        job_id: int,
        program: Program,
        spec: DeviceSpec,
        *,
        shots: int,
        seed: int,
        options: dict[str, Any],
    ) -> dict[str, str]:
        """Emulate once and draw all shots, kept until `release`; returns provenance. Raises: WorkerFault."""

    async def deal(self, job_id: int, first_shot: int, shots: int) -> dict[str, int]:
        """Counts of some of the drawn shots. Raises: WorkerFault if they are gone (evolve again)."""

    def release(self, job_id: int) -> None:
        """Drop what is kept for the job; unknown ids are ignored."""
