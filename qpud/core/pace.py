"""How fast a resource is: its shot rate and what a change of register costs, learnt from the slices that ended."""

from __future__ import annotations

from qpud.core.resource import ResourcePolicy
from qpud.core.slices import Outcome

SMOOTHING = 0.3
"""Weight of the newest slice in the moving average (EWMA)."""


class Pace:
    """The measured pace of one resource.

    Attributes:
        shot_rate: Shots per QPU second.
        setup_seconds: QPU seconds of a change of register.
        spread: Relative scatter of the seconds per shot (EWMA of the absolute deviation), 0 to 1.
        wall: Seconds of the clock for each QPU second: 1 on a QPU, 1 ÷ SpeedUp on a simulated one.
    """

    __slots__ = ("_learnt_rate", "_learnt_setup", "setup_seconds", "shot_rate", "spread", "wall")

    def __init__(self, shot_rate: float = 1.0, setup_seconds: float = 0.0) -> None:
        self.shot_rate = shot_rate
        self.setup_seconds = setup_seconds
        self.spread = 0.0
        self.wall = 1.0
        self._learnt_rate = False
        self._learnt_setup = False

    @classmethod
    def of(cls, policy: ResourcePolicy) -> Pace:
        """The first guess: what the policy says of the resource."""
        pace = cls(policy.shot_rate, policy.setup_seconds)
        pace.wall = 1.0 / policy.speed_up
        return pace

    def seconds(self, shots: int, changes_register: bool) -> float:
        """Expected QPU seconds of so many shots, with or without a set-up before them."""
        return shots / self.shot_rate + (self.setup_seconds if changes_register else 0.0)

    def shots_in(self, seconds: float) -> int:
        """How many whole shots fit into so many QPU seconds, set-up excluded; maybe 0."""
        return max(0, int(seconds * self.shot_rate + 1e-9))

    def learn(self, outcome: Outcome) -> None:
        """Take an ended slice into account; the first one replaces the guess."""
        shots = outcome.shots
        seconds = outcome.qpu_seconds - outcome.setup_seconds
        if shots and seconds > 0:
            self._learn_rate(seconds / shots)
            self.wall += SMOOTHING * ((outcome.ended_at - outcome.started_at) / outcome.qpu_seconds - self.wall)
        if outcome.setup_seconds > 0:
            weight = SMOOTHING if self._learnt_setup else 1.0
            self.setup_seconds += weight * (outcome.setup_seconds - self.setup_seconds)
            self._learnt_setup = True

    def _learn_rate(self, seconds_per_shot: float) -> None:
        known = 1.0 / self.shot_rate
        if self._learnt_rate:
            off = min(1.0, abs(seconds_per_shot - known) / known)
            self.spread += SMOOTHING * (off - self.spread)
        weight = SMOOTHING if self._learnt_rate else 1.0
        self.shot_rate = 1.0 / (known + weight * (seconds_per_shot - known))
        self._learnt_rate = True
