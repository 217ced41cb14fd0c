"""Faults that a session asks for, so that its owner can test how his program takes them. Pure functions of the seed.

    preempt:K      the job is preempted after each of its first K slices
    lose-shots:P   each slice loses about P of its shots, which are run again
    delay:D        each result comes D later; the resource is free meanwhile
    error:P        a job ends in ERROR with probability P

What is drawn depends on the job's seed and the slice's number only: the same seed gives the same faults again.
"""

from __future__ import annotations

import difflib
import math
import random
import re
from collections.abc import Callable

import msgspec

from qpud.core.errors import Invalid

MOST_PREEMPTIONS = 100
MOST_LOST = 0.9  # of a slice: the rest must come to an end
LONGEST_DELAY_SECONDS = 3600.0
_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which faults are injected; `FaultPlan()` has none."""

    preempt: int = 0  # times
    lose_shots: float = 0.0  # fraction of a slice, 0 … 0.9
    delay: float = 0.0  # seconds
    error: float = 0.0  # probability, 0 … 1

    @property
    def text(self) -> str:
        """As it is written: "preempt:3,lose-shots:5%,delay:2s,error:0.1"."""
        parts = (
            f"preempt:{self.preempt}" if self.preempt else "",
            f"lose-shots:{self.lose_shots * 100:g}%" if self.lose_shots else "",
            f"delay:{self.delay:g}s" if self.delay else "",
            f"error:{self.error:g}" if self.error else "",
        )
        return ",".join(part for part in parts if part)

    def shots_of(self, number: int, asked: int, left: int) -> int:
        """Shots of slice `number` of at most `asked`: short enough for the preemptions that are still to come."""
        to_come = self.preempt - number
        return asked if to_come <= 0 else min(asked, max(1, left // (to_come + 1)))

    def lost_of(self, seed: int, number: int, shots: int) -> int:
        """How many of a slice's shots are lost; at least one is kept, so that the job comes to its end."""
        lost = math.floor(self.lose_shots * shots + _draw(seed, f"lose {number}")) if self.lose_shots else 0
        return min(lost, shots - 1)

    def preempts(self, number: int) -> bool:
        """Whether the job is preempted after slice `number`, if shots are left."""
        return number < self.preempt

    def strikes(self, seed: int, number: int, *, is_last: bool) -> bool:
        """Whether slice `number` ends its job with an error: after the preemptions, or with its last shots."""
        return (number >= self.preempt or is_last) and _draw(seed, "error") < self.error


def parse(text: str) -> FaultPlan:
    """Read "preempt:3,lose-shots:5%,delay:2s,error:0.1".

    Raises:
        Invalid: One sentence: which fault, and what it takes.
    """
    found: dict[str, int | float] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition(":")
        if name not in _READ:
            raise Invalid(f"fault {name[:40]!r} does not exist: {_nearest(name)}")
        if name in found:
            raise Invalid(f"fault {name} is given twice")
        found[name] = _READ[name](value.strip())
    return FaultPlan(**{name.replace("-", "_"): value for name, value in found.items()})  # type: ignore[arg-type]


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, _READ, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(_READ)}"


def _preempt(value: str) -> int:
    if not (value.isdecimal() and len(value) < 10 and 1 <= int(value) <= MOST_PREEMPTIONS):
        raise Invalid(
            f"fault preempt:{value[:20]} is no number of preemptions: 1 … {MOST_PREEMPTIONS}, as in preempt:3"
        )
    return int(value)


def _lose_shots(value: str) -> float:
    fraction = _fraction(value)
    if fraction is None or not 0 < fraction <= MOST_LOST:
        raise Invalid(f"fault lose-shots:{value[:20]} is no part of a slice: 0 … {MOST_LOST:.0%}, as in lose-shots:5%")
    return fraction


def _delay(value: str) -> float:
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", value)
    seconds = float(matched[1]) * _UNITS.get(matched[2], math.nan) if matched else math.nan
    if not 0 < seconds <= LONGEST_DELAY_SECONDS:
        raise Invalid(
            f"fault delay:{value[:20]} is no time up to an hour: write it as delay:2s, delay:500ms or delay:1m"
        )
    return seconds


def _error(value: str) -> float:
    fraction = _fraction(value)
    if fraction is None or not 0 < fraction <= 1:
        raise Invalid(f"fault error:{value[:20]} is no probability: 0 … 1, as in error:0.1")
    return fraction


def _fraction(value: str) -> float | None:
    matched = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(%?)", value)
    return float(matched[1]) / (100 if matched[2] else 1) if matched else None


_READ: dict[str, Callable[[str], int | float]] = {
    "preempt": _preempt,
    "lose-shots": _lose_shots,
    "delay": _delay,
    "error": _error,
}


def _draw(seed: int, what: str) -> float:
    """A number from 0 to 1 that only the seed and the purpose decide; text seeds are hashed alike by every Python."""
    return random.Random(f"{seed} {what}").random()  # noqa: S311  a fault on demand, no secret
