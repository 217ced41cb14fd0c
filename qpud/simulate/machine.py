"""A QPU in virtual time: the same arithmetic as `drivers/simulated.py`, without a clock to wait for."""

from __future__ import annotations

import math

from qpud.core.job import Job
from qpud.core.resource import ResourcePolicy
from qpud.core.slices import Outcome, OutcomeState, Slice

_DUST = 1e-9  # of sums of floats, in shots


class Machine:
    """One resource. Times are seconds on the trace's clock.

    Args:
        policy: ShotRate and SetupSeconds.

    Attributes:
        flying: The slice in flight, or None.
        ends_at: When it ends.
        setup: Seconds of it that are set-up.
    """

    __slots__ = (
        "_cut_to",
        "_rate",
        "_register",
        "_setup_seconds",
        "ends_at",
        "flying",
        "name",
        "setup",
        "started_at",
    )

    def __init__(self, policy: ResourcePolicy) -> None:
        self.name = policy.name
        self.flying: Slice | None = None
        self.ends_at = math.inf
        self.started_at = 0.0
        self.setup = 0.0
        self._cut_to: int | None = None  # shots after which a cut slice ends
        self._register = ""
        self._rate = policy.shot_rate
        self._setup_seconds = policy.setup_seconds

    def shots_for(self, seconds: float) -> int:
        """Shots in so many seconds without set-up, at least 1."""
        return max(1, math.floor(seconds * self._rate + _DUST))

    def start(self, one: Slice, job: Job, now: float) -> None:
        """Begin a slice; a register that is not the loaded one is loaded first."""
        self.setup = 0.0 if job.register_hash == self._register else self._setup_seconds
        self._register = job.register_hash
        self.flying, self.started_at, self._cut_to = one, now, None
        self.ends_at = now + self.setup + one.shots / self._rate

    @property
    def is_cut(self) -> bool:
        """Whether the slice in flight, or the last one, was told to end early."""
        return self._cut_to is not None

    def cut(self, now: float) -> None:
        """End after the shot in progress; at once during set-up."""
        if self.flying is None or self._cut_to is not None:
            return
        made = (now - self.started_at - self.setup) * self._rate
        self._cut_to = max(0, min(self.flying.shots, math.ceil(made - _DUST)))
        length = self.setup + self._cut_to / self._rate
        self.ends_at = max(now, self.started_at + length) if self._cut_to else now

    def land(self) -> tuple[Slice, Outcome]:
        """The slice that ended, and what it brought."""
        one = self.flying
        assert one is not None  # noqa: S101  the engine lands what flies
        shots = one.shots if self._cut_to is None else self._cut_to
        seconds = self.ends_at - self.started_at
        self.flying = None
        return one, Outcome(
            state=OutcomeState.DONE if shots == one.shots else OutcomeState.CANCELED,
            counts={"0": shots} if shots else {},
            started_at=self.started_at,
            ended_at=self.ends_at,
            qpu_seconds=seconds,
            setup_seconds=min(self.setup, seconds),
        )
