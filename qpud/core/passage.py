"""How long work takes while more comes that goes before it.

What comes is a compound Poisson process: `load` seconds of work per second, `squares` the same with s². In its
Brownian limit the time until `work` is done is a first passage, which has an inverse Gaussian distribution: on average
work ÷ (1 - load), but half of all times are shorter than that, the more so the less work there is.
"""

from __future__ import annotations

import math

from qpud.core.load import MEMORY_SECONDS, Rates

CONFIDENCE = 0.9
"""The part of times that are not longer than `late`."""
DEVIATIONS = 1.2816
"""Standard deviations above the mean within which a normal variable stays in CONFIDENCE of all cases."""
LEVY = 0.4549
"""Square of the median of |x|, x standard normal: work² ÷ it and squares is the median passage without drift."""
LARGEST_LOAD = 0.95
"""Nobody is expected to bring more than this for long: work takes at most 20 times as long as alone."""
UNSEEN = -math.log(CONFIDENCE)
"""Arrivals to expect, at most, for CONFIDENCE of all cases to see none."""
HALF_UNSEEN = math.log(2.0)
"""Arrivals to expect, at most, for half of all cases to see none."""


def typical(work: float, number: float, load: float, squares: float) -> float:
    """The median, about: exact for little work and for much.

    Args:
        work: Seconds that wait now, >= 0.
        number: Arrivals per second.
        load: What comes, seconds per second.
        squares: s² per second.
    """
    if number * work <= HALF_UNSEEN:
        return work
    left = 1.0 - load if load < LARGEST_LOAD else 1.0 - LARGEST_LOAD
    drift = work * left + LEVY * squares
    return work * work / drift if drift < work else work


def late(work: float, number: float, load: float, squares: float) -> float:
    """A time that is not exceeded in CONFIDENCE of all cases, about.

    The time t by which (1 - load) t - work is DEVIATIONS of its standard deviations; their square is squares × t, and
    t² times the error of a load that was measured over MEMORY_SECONDS.

    Args:
        work: Seconds that wait now, >= 0.
        number: Arrivals per second.
        load: What comes, seconds per second.
        squares: s² per second.
    """
    if number * work <= UNSEEN:
        return work
    left = 1.0 - load if load < LARGEST_LOAD else 1.0 - LARGEST_LOAD
    noise = DEVIATIONS * DEVIATIONS * squares
    square = left * left - noise / (2.0 * MEMORY_SECONDS)
    if square < (1.0 - LARGEST_LOAD) ** 2:
        square = (1.0 - LARGEST_LOAD) ** 2
    linear = 2.0 * work * left + noise
    rest = linear * linear - 4.0 * square * work * work
    return (linear + math.sqrt(rest if rest > 0.0 else 0.0)) / (2.0 * square)


class Coming:
    """What comes before the jobs of one tier: from higher ones, and from others that share in this one.

    Args:
        above: From higher tiers.
        beside: In this one; nothing where nothing is shared.
    """

    __slots__ = ("_beside", "_load", "_mean", "_number", "_squares")

    def __init__(self, above: Rates, beside: Rates) -> None:
        self._number, self._load, self._squares = above
        self._beside = beside
        self._mean = beside.mean

    def times(self, middle: float, work: float, worst: float, own: float, most: float) -> tuple[float, float]:
        """Seconds until a job has its turn: typically, and at the latest.

        If all others of its tier have work all the time, `most` seconds pass for each of its own session; what is less
        than that now is left to those who will bring their part of the tier's load. Until the job's turn comes none of
        them is served more than its own session; on average a newcomer finds half of that left, in the mean square a
        third.

        Args:
            middle: Work of its tier before it.
            work: The same with that of higher tiers.
            worst: The same at its deadline.
            own: What of `middle` is its own session's.
            most: See above, >= 1.
        """
        number, load, squares, mean = self._number, self._load, self._squares, self._mean
        if own <= 0.0 or not mean:
            usual, latest = typical(work, number, load, squares), late(worst, number, load, squares)
            return usual, latest if latest > usual else usual
        more_number, more_load, more_squares = self._beside
        others = own * most - middle
        if others < 0.0:
            others = 0.0
        part, idle = own / mean, others / (own * most)
        half, third = (part / 2.0 if part < 2.0 else 1.0), (part * part / 3.0 if part * part < 3.0 else 1.0)
        usual = typical(
            work,
            number + idle * more_number,
            load + idle * half * more_load,
            squares + idle * third * more_squares,
        )
        latest = late(worst, number + more_number, load + math.sqrt(third) * more_load, squares + third * more_squares)
        usual = min(usual, typical(work + others, number, load, squares))
        latest = min(latest, late(worst + others, number, load, squares))
        return usual, latest if latest > usual else usual
