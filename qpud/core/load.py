"""The load that a resource's users bring: work per second, measured by moving averages of what was submitted.

A forecast needs more than the mean: a queue that is passed by rare heavy jobs is less certain than one that is passed
by many light ones. So an arrival counts with its seconds and their square, as in a compound Poisson process.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from qpud.core.job import Job

MEMORY_SECONDS = 7200.0
"""Time constant of the averages. Longer: steadier; shorter: follows the hours of the day sooner."""
LEAST_AGE_SECONDS = 1800.0
"""Averages younger than this count as so old: the first job of a day is no load yet."""
GRAIN_SECONDS = 1.0
"""What comes within this counts as if it came at once: thousands may."""
LONGEST_PAUSE_SECONDS = 60.0
"""Jobs that a session submits with no longer pauses, and no other session between them, are one arrival: a scan."""


class Rates(NamedTuple):
    """A stream of work. `seconds` is a load: 1 keeps the resource busy."""

    number: float  # arrivals per second
    seconds: float  # of work per second
    squares: float  # s² of work per second

    @property
    def mean(self) -> float:
        """Seconds of an arrival."""
        return self.seconds / self.number if self.number else 0.0

    def plus(self, other: Rates, often: float = 1.0, part: float = 1.0) -> Rates:
        """Two streams together; the other one less often, and only a part of each arrival."""
        return Rates(
            self.number + often * other.number,
            self.seconds + often * part * other.seconds,
            self.squares + often * part * part * other.squares,
        )


QUIET = Rates(0.0, 0.0, 0.0)


class Stream:
    """The moving averages of one stream."""

    __slots__ = ("_at", "_number", "_seconds", "_since", "_squares")

    def __init__(self) -> None:
        self._since: float | None = None
        self._at = 0.0
        self._number = self._seconds = self._squares = 0.0

    def add(self, seconds: float, earlier: float, now: float) -> None:
        """Count work.

        Args:
            seconds: Of it.
            earlier: Seconds of the arrival that it belongs to; 0: it is a new one.
            now: Seconds since the epoch.
        """
        if self._since is None:
            self._since = self._at = now
        if now - self._at > GRAIN_SECONDS:
            self._fade(now)
        self._number += not earlier
        self._seconds += seconds
        self._squares += seconds * (seconds + 2 * earlier)

    def rates(self, now: float) -> Rates:
        """As they are now."""
        if self._since is None:
            return QUIET
        self._fade(now)
        age = max(now - self._since, LEAST_AGE_SECONDS)
        window = MEMORY_SECONDS * (1.0 - math.exp(-age / MEMORY_SECONDS))
        return Rates(self._number / window, self._seconds / window, self._squares / window)

    def _fade(self, now: float) -> None:
        if now <= self._at:
            return
        left = math.exp((self._at - now) / MEMORY_SECONDS)
        self._number *= left
        self._seconds *= left
        self._squares *= left
        self._at = now


class Load(Stream):
    """What the users of one tier submit to one resource, and how many users there are."""

    __slots__ = ("_arrival", "_last", "_seen", "_session")

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[int, float] = {}  # user → when he last began to submit, the latest last
        self._session = ""
        self._arrival = 0.0  # seconds of the last arrival
        self._last = 0.0

    def submitted(self, job: Job, seconds: float) -> None:
        """Count a job that will keep the resource for so many seconds."""
        now = job.submitted_at
        if job.session_id != self._session or now - self._last > LONGEST_PAUSE_SECONDS:
            self._session, self._arrival = job.session_id, 0.0
            self._seen.pop(job.user_id, None)  # the latest stand last
            self._seen[job.user_id] = now
        self.add(seconds, self._arrival, now)
        self._arrival += seconds
        self._last = now

    def users(self, now: float) -> int:
        """How many users have submitted lately."""
        for user, at in list(self._seen.items()):
            if now - at <= MEMORY_SECONDS:
                break
            del self._seen[user]
        return len(self._seen)
