"""How a session rehearses on an emulator what shall run on a QPU: its faults, its seed, and whose place it takes.

`Veils` covers results that a session wants later than they are there: by a delay, or with the timing of a QPU. The
resource is free meanwhile and others notice nothing; a restart of the daemon lifts all veils.
"""

from __future__ import annotations

import enum

import msgspec

from qpud.core.errors import Invalid
from qpud.core.faults import FaultPlan
from qpud.core.job import Job, JobState, Reason

LARGEST_SEED = 2**31 - 1
MOST_BOND_DIM = 1024
MOST_SPEED_UP = 1e6
_COVERED = 1024  # jobs whose veil is kept although nobody looks


class Emulator(enum.StrEnum):
    """What computes the counts; the last two are mocks, which leave out the physics."""

    QUTIP = "qutip"
    SV = "sv"
    MPS = "mps"
    PRODUCT = "product"  # independent atoms
    RANDOM = "random"  # a fair coin for each atom

    @property
    def is_mock(self) -> bool:
        """Whether the counts know nothing of the interaction between atoms."""
        return self in (Emulator.PRODUCT, Emulator.RANDOM)


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a session asks for its tests; `Rehearsal()` asks for nothing."""

    faults: FaultPlan = FaultPlan()
    seed: int | None = None  # of its jobs: the n-th job of every session with this seed draws the same shots
    like: str = ""  # the QPU whose device spec, noise and times an emulator takes
    speed_up: float | None = None  # how much faster than that QPU results come; None: as soon as they are there
    emulator: Emulator | None = None  # None: by size
    bond_dim: int | None = None  # of the tensor network, instead of 128

    @property
    def needs_emulator(self) -> bool:
        """Whether only a resource with driver emulator can do it."""
        return bool(self.like) or self.emulator is not None or self.bond_dim is not None

    def check(self) -> None:
        """Check what needs no policy. Raises: Invalid."""
        if self.seed is not None and not 0 <= self.seed <= LARGEST_SEED:
            raise Invalid(f"seed {self.seed} is outside 0 … {LARGEST_SEED}")
        if self.speed_up is not None and not 0 < self.speed_up <= MOST_SPEED_UP:
            raise Invalid(f"speed-up {self.speed_up:g} is outside 0 … {MOST_SPEED_UP:.0f}, 0 excluded")
        if self.speed_up is not None and not self.like:
            raise Invalid("a speed-up is relative to a QPU: name it with like")
        if self.bond_dim is not None and not 1 <= self.bond_dim <= MOST_BOND_DIM:
            raise Invalid(f"bond dimension {self.bond_dim} is outside 1 … {MOST_BOND_DIM}")
        if self.bond_dim is not None and self.emulator not in (None, Emulator.MPS):
            raise Invalid(f"a bond dimension is for the emulator mps, not for {self.emulator}")


def rehearsal(
    *,
    faults: FaultPlan,
    seed: int | None,
    like: str,
    speed_up: float | None,
    emulator: Emulator | None,
    bond_dim: int | None,
) -> Rehearsal | None:
    """What was asked, checked; None if nothing was. Raises: Invalid."""
    asked = Rehearsal(
        faults=faults,
        seed=seed,
        like=like,
        speed_up=speed_up,
        emulator=Emulator.MPS if bond_dim is not None and emulator is None else emulator,
        bond_dim=bond_dim,
    )
    asked.check()
    return None if asked == Rehearsal() else asked


class Veils:
    """Ended jobs that their owner shall see ended later."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}  # job → seconds since the epoch
        self._free: dict[str, tuple[float, str]] = {}  # session → when the QPU it pretends is free, register on it

    def cover(self, job: Job, asked: Rehearsal, now: float, setup_seconds: float, shot_rate: float) -> None:
        """Cover a job that has just ended, if its session wants it later.

        Args:
            job: It.
            asked: Of its session.
            now: Seconds since the epoch.
            setup_seconds: Of the QPU that the session pretends.
            shot_rate: Its shots per second.
        """
        if job.state is JobState.CANCELED:
            return
        until = now
        if asked.speed_up is not None:
            until = max(until, self._qpu_end(job, asked.speed_up, setup_seconds, shot_rate))
        until += asked.faults.delay
        if until > now:
            self._drop_past(now)
            self._until[job.id] = until

    def of(self, job_id: int, now: float) -> float | None:
        """Seconds since the epoch until which a job is covered; None if it is not."""
        until = self._until.get(job_id)
        if until is not None and until <= now:
            del self._until[job_id]
            return None
        return until

    def end_session(self, session_id: str) -> None:
        """Its jobs need no order any more."""
        self._free.pop(session_id, None)

    def _qpu_end(self, job: Job, speed_up: float, setup_seconds: float, shot_rate: float) -> float:
        free_at, register = self._free.get(job.session_id, (0.0, ""))
        setup = setup_seconds if register != job.register_hash else 0.0
        began = max(free_at, job.started_at or job.submitted_at)
        end = began + (setup + job.shots_done / shot_rate) / speed_up
        self._free[job.session_id] = (end, job.register_hash)
        return end

    def _drop_past(self, now: float) -> None:
        if len(self._until) >= _COVERED:
            self._until = {job_id: until for job_id, until in self._until.items() if until > now}


def veiled(job: Job) -> Job:
    """A job as it looks while its end is covered."""
    return msgspec.structs.replace(job, state=JobState.RUNNING, ended_at=None, reason=Reason.NONE)
