"""What service and scheduler share: the parts of one running daemon, put together in daemon.py (and in tests)."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qpud.core.book import Book
from qpud.core.forecaster import Forecaster
from qpud.core.job import Job
from qpud.core.policy import Policy
from qpud.core.rehearsal import Rehearsal, Veils
from qpud.drivers.base import DeviceSpec, Driver
from qpud.drivers.validator import Validator
from qpud.site.slurm import Slurm
from qpud.site.slurmcontrol import SlurmControl
from qpud.store.store import Store
from qpud.telemetry.metrics import Metrics


class Waiters:
    """Clients that wait for a change of a job: each wait is a future, released by the next change."""

    def __init__(self) -> None:
        self.open = True  # False once the daemon stops: no new waits
        self._waiting: defaultdict[int, set[asyncio.Future[None]]] = defaultdict(set)

    async def wait(self, job_id: int, seconds: float) -> None:
        """Return at the next change of the job, or after `seconds`."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[job_id].add(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return
        finally:
            self._discard(job_id, future)

    def notify(self, job_id: int) -> None:
        """The job has changed."""
        for future in self._waiting.pop(job_id, ()):
            if not future.done():
                future.set_result(None)

    def release_all(self) -> None:
        """The daemon stops: nobody waits any more."""
        self.open = False
        for job_id in tuple(self._waiting):
            self.notify(job_id)

    def _discard(self, job_id: int, future: asyncio.Future[None]) -> None:
        if job_id in self._waiting:
            self._waiting[job_id].discard(future)
            if not self._waiting[job_id]:
                del self._waiting[job_id]


def new_uuid() -> str:
    """A random id for sessions and batches."""
    return str(uuid.uuid4())


@dataclass(kw_only=True)
class Context:
    """The parts of one daemon.

    Attributes:
        policy: In force; replaced whole by a reload.
        policy_path: The file it came from; None for `serve --dev`.
        specs: The current device spec of each resource that ever told one.
        wake: Tells the scheduler that a resource's queue, or the resource itself, changed.
        veils: Ended jobs that their sessions shall see ended later.
        touch: Tells the reaper that a session may expire earlier than it thinks.
        redate: Tells the calendar that reservations changed.
        reshow: Tells what shows resources in Slurm that one of them changed.
        expect: Tells the sweep that a session was opened, whose Slurm job will end.
        retain: Tells the purge that the policy may have changed.
        promise: Tells the releases that a held Slurm job waits for the ends of jobs: its number, its user, their ids.
        slurm: Asks Slurm about its jobs; None without SlurmLookup.
        slurm_control: Acts on Slurm; None without SlurmControl.
        slurm_troubles: What Slurm was told in vain, a sentence for each topic; empty if all is well.
        names: User name of a uid.
        forecaster: When jobs will start and end.
        groups: Names of the groups of a uid; may block, so it is called in a thread.
        clock: Wall time in seconds since the epoch, UTC.
        pulse: Monotonic seconds, for ages and time-outs.
    """

    policy: Policy
    policy_path: Path | None
    store: Store
    book: Book
    drivers: dict[str, Driver]
    validator: Validator
    metrics: Metrics
    clock: Callable[[], float]
    pulse: Callable[[], float]
    names: Callable[[int], str]
    next_job_id: int
    next_slice_id: int
    specs: dict[str, DeviceSpec] = field(default_factory=dict)
    waiters: Waiters = field(default_factory=Waiters)
    veils: Veils = field(default_factory=Veils)
    wake: Callable[[str], None] = lambda _resource: None
    touch: Callable[[], None] = lambda: None
    redate: Callable[[], None] = lambda: None
    reshow: Callable[[], None] = lambda: None
    expect: Callable[[], None] = lambda: None
    retain: Callable[[], None] = lambda: None
    promise: Callable[[int, int, Sequence[int]], None] = lambda _number, _user_id, _jobs: None
    slurm: Slurm | None = None
    slurm_control: SlurmControl | None = None
    slurm_troubles: dict[str, str] = field(default_factory=dict)
    groups: Callable[[int], tuple[str, ...]] = lambda _user_id: ()
    heartbeat: Callable[[], float] = lambda: 0.0
    urls: tuple[str, ...] = ()
    forecaster: Forecaster = field(init=False)

    def __post_init__(self) -> None:
        self.forecaster = Forecaster(self.book)

    def show_state(self, resource: str) -> None:
        """The state of a resource changed: count it, and let Slurm show it."""
        self.metrics.resource_state(resource, self.book.flights[resource].shown_state)
        self.reshow()

    def rehearsal_of(self, session_id: str) -> Rehearsal | None:
        """What the open session rehearses, if anything."""
        session = self.book.sessions.get(session_id)
        return None if session is None else session.rehearsal

    def spec_for(self, job: Job) -> DeviceSpec | None:
        """The device spec that the job has to fit: its resource's, or of the QPU that its session pretends."""
        asked = self.rehearsal_of(job.session_id)
        return self.specs.get(asked.like if asked is not None and asked.like else job.resource)

    def take_job_ids(self, number: int) -> int:
        """Reserve job ids; returns the first."""
        first = self.next_job_id
        self.next_job_id += number
        return first

    def take_slice_id(self) -> int:
        """Reserve a slice id."""
        self.next_slice_id += 1
        return self.next_slice_id - 1
