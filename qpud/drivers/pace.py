"""When to ask a QPU whether a slice has ended: fitted to its measured shot rate. Pure functions of time."""

from __future__ import annotations

import math

GROWTH = 1.5
"""Factor between two pauses while the end is not in sight: the end is noticed at most a third of the way late."""
SMOOTHING = 0.3
"""Weight of the newest slice in the moving average of seconds per shot (EWMA)."""
EAGERNESS = 0.9
"""Without time stamps, a slice found finished at the first look took at most the time waited: aim earlier."""


class Pace:
    """The shot rate of one QPU, and the pauses between polls.

    Args:
        shot_rate: First guess, shots per second.
        poll_min: Shortest pause after the expected end, seconds.
        poll_max: Longest pause ever, seconds.
    """

    def __init__(self, shot_rate: float, poll_min: float, poll_max: float) -> None:
        self._seconds_per_shot = 1.0 / shot_rate
        self._poll_min = poll_min
        self._poll_max = max(poll_min, poll_max)
        self.measured = False

    @property
    def shot_rate(self) -> float:
        """Shots per second: the first guess until a slice has finished."""
        return 1.0 / self._seconds_per_shot

    def shots_for(self, seconds: float) -> int:
        """Shots in so many seconds, at least 1."""
        return max(1, math.floor(seconds / self._seconds_per_shot + 1e-9))

    def expected(self, shots: int) -> float:
        """Seconds that so many shots should take."""
        return shots * self._seconds_per_shot

    def learn(self, shots: int, seconds: float) -> None:
        """Take a finished slice into account; the first one replaces the guess.

        Args:
            shots: Obtained, >= 1; fewer are ignored.
            seconds: Taken, > 0; others are ignored.
        """
        if shots < 1 or seconds <= 0:
            return
        weight = SMOOTHING if self.measured else 1.0
        self._seconds_per_shot += weight * (seconds / shots - self._seconds_per_shot)
        self.measured = True

    def pause(self, shots: int, elapsed: float) -> float | None:
        """Seconds until the expected end, at most poll_max; None if the rate is not known or the end is past."""
        remaining = self.expected(shots) - elapsed
        return min(remaining, self._poll_max) if self.measured and remaining > 0 else None

    def grown(self, previous: float) -> float:
        """The pause after `previous` in a geometric series between poll_min and poll_max."""
        return min(max(previous * GROWTH, self._poll_min), self._poll_max)


class Rhythm:
    """The polls of one slice: one near the expected end if the rate is known; else, and after it, ever longer pauses.

    Args:
        pace: Of its QPU.
        shots: Of the slice.
    """

    def __init__(self, pace: Pace, shots: int) -> None:
        self._pace = pace
        self._shots = shots
        self._grown = 0.0
        self._hurried = False

    def next(self, elapsed: float) -> float:
        """Seconds until the next poll, `elapsed` seconds after the slice's start."""
        planned = None if self._hurried else self._pace.pause(self._shots, elapsed)
        if planned is not None:
            return planned
        self._grown = self._pace.grown(self._grown)
        return self._grown

    def hurry(self) -> None:
        """The slice was cancelled: its expected end counts no more."""
        self._hurried, self._grown = True, 0.0
