"""From virtual time to work: how much a group of contenders that share has had when one of them had its part.

Sharing in the limit of short slices (generalised processor sharing, Parekh & Gallager 1993): each contender with
work is served at its weight ÷ the sum of the weights of those with work. In virtual time, which runs by work ÷ that
sum, each one's progress is a straight line; the work of the whole group is the sum of these lines. It is walked
through once, and then every question is a bisection.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable


class Curve:
    """Work of a group by virtual time: a broken line that rises from 0.

    Args:
        members: (weight, virtual time from which it is served, virtual time at which its work is done) of each.
    """

    __slots__ = ("_at", "_slopes", "_work")

    def __init__(self, members: Iterable[tuple[float, float, float]] = ()) -> None:
        bends: list[tuple[float, float]] = []
        for weight, begin, end in members:
            bends += ((begin, weight), (end, -weight))
        bends.sort()
        self._at: list[float] = []
        self._work: list[float] = []
        self._slopes: list[float] = []
        work = slope = last = 0.0
        for at, change in bends:
            work += slope * (at - last)
            slope = max(0.0, slope + change)
            last = at
            self._at.append(at)
            self._work.append(work)
            self._slopes.append(slope)

    def __call__(self, virtual: float) -> float:
        """Work of all until a virtual time."""
        number = bisect_right(self._at, virtual) - 1
        if number < 0:
            return 0.0
        return self._work[number] + self._slopes[number] * (virtual - self._at[number])


class Place:
    """Where a contender stands in its group, and its group among others.

    Args:
        weight: Its own.
        begin: Virtual time, now being 0, from which it is served; negative: it is owed something.
        seconds: Its work.
        curve: Of its group.
        above: Where its group stands; None at the top.
    """

    __slots__ = ("above", "begin", "curve", "end", "weight")

    def __init__(self, weight: float, begin: float, seconds: float, curve: Curve, above: Place | None) -> None:
        self.weight = weight
        self.begin = begin
        self.end = begin + seconds / weight
        self.curve = curve
        self.above = above

    def elapsed(self, seconds: float) -> float:
        """Work of everybody by the time that so many seconds of its own are done; they may be more than it has now."""
        virtual = self.begin + seconds / self.weight
        work = self.curve(virtual)
        if virtual > self.end:
            work += self.weight * (virtual - self.end)
        return work if self.above is None else self.above.elapsed(work)
