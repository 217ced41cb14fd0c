"""Waits in steady state, and what queueing theory says of them.

Of each class of jobs the theory needs the arrival rate and the first two moments of the QPU time. Cobham's formula is
for jobs that run whole, preemptive resume for jobs that yield at once (Kleinrock, Queueing Systems II, chapter 3).
Between both stand slices. Let a class that may be preempted run in slices of L seconds, all jobs of multiples of L:

- The top class waits as in Cobham's formula, with L in place of the jobs of the others.
- A lower class begins when the work that it found, and the higher work that came meanwhile, is done: its wait to its
  first slice does not depend on L. Then higher jobs that come during all of its slices but the last delay it, each by
  its busy period: (S - L) × σ ÷ (1 - σ).

First come first served within a class is assumed. The share scheduler has that within a session and fairness between
sessions of a tier, so a comparison needs one session per class. With many sessions in a class only what every
work-conserving scheduler leaves alone can be compared: the mean work in the system.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from qpud.core.policy import Policy
from qpud.simulate.tally import JobTally
from tests.simulate.builders import run, stream

WARM_UP = 0.1
"""Part of the horizon that is left out: the system starts empty."""
T_95 = {4: 2.776, 5: 2.571, 7: 2.365, 9: 2.262, 11: 2.201, 15: 2.131, 19: 2.093}
"""Student's t for a two-sided 95 % interval, by degrees of freedom."""


class Class(NamedTuple):
    """Jobs of one queue: arrivals per second, moments of the QPU seconds, and how to draw the shots."""

    queue: str
    rate: float
    mean: float
    square: float
    shots: Callable[[random.Random], int]

    @property
    def load(self) -> float:
        return self.rate * self.mean


def fixed(queue: str, load: float, shots: int, shot_rate: float = 1.0) -> Class:
    seconds = shots / shot_rate
    return Class(queue, load / seconds, seconds, seconds**2, lambda dice: shots)


def geometric(queue: str, load: float, mean_shots: float, shot_rate: float = 1.0) -> Class:
    """Jobs of at least one shot whose number of shots has no memory: nearly exponential."""
    chance = 1.0 / mean_shots
    mean, square = mean_shots / shot_rate, (2.0 - chance) / chance**2 / shot_rate**2

    def shots(dice: random.Random) -> int:
        return 1 + int(math.log(1.0 - dice.random()) / math.log(1.0 - chance))

    return Class(queue, load / mean, mean, square, shots)


# -- theory; classes from the highest tier down
def fifo_wait(classes: Sequence[Class]) -> float:
    """Pollaczek and Khinchine."""
    return _residual(classes) / (1.0 - _load(classes))


def cobham_wait(classes: Sequence[Class], at: int) -> float:
    """Mean wait of the class at a place, when jobs run whole."""
    return _residual(classes) / ((1.0 - _load(classes[:at])) * (1.0 - _load(classes[: at + 1])))


def preemptive_turnaround(classes: Sequence[Class], at: int) -> float:
    """Mean turnaround of the class at a place, when it yields at once and resumes."""
    above, here = _load(classes[:at]), _load(classes[: at + 1])
    return classes[at].mean / (1.0 - above) + _residual(classes[: at + 1]) / ((1.0 - above) * (1.0 - here))


def sliced_wait_of_top(classes: Sequence[Class], seconds: float) -> float:
    """Mean wait of the highest class above others in slices of so many seconds."""
    residual = _residual(classes[:1]) + sum(one.load * seconds for one in classes[1:]) / 2.0
    return residual / (1.0 - classes[0].load)


def sliced_turnaround_of_last(classes: Sequence[Class], seconds: float) -> float:
    """Mean turnaround of the lowest class, in slices of so many seconds."""
    above, last = _load(classes[:-1]), classes[-1]
    return cobham_wait(classes, len(classes) - 1) + last.mean + (last.mean - seconds) * above / (1.0 - above)


def _residual(classes: Sequence[Class]) -> float:
    return sum(one.rate * one.square for one in classes) / 2.0


def _load(classes: Sequence[Class]) -> float:
    return sum(one.load for one in classes)


# -- measured
class Interval(NamedTuple):
    """A mean over independent runs, and half the width of its 95 % interval."""

    mean: float
    half: float

    def holds(self, value: float) -> bool:
        return abs(value - self.mean) <= self.half

    @property
    def precision(self) -> float:
        return self.half / self.mean if self.mean else math.inf


class Measured(NamedTuple):
    """Wait and turnaround of each queue, in seconds."""

    wait: dict[str, Interval]
    turnaround: dict[str, Interval]


def measure_streams(policy: Policy, classes: Sequence[Class], horizon: float, seeds: Sequence[int]) -> Measured:
    """Simulate one session per class, once for each seed."""
    runs = [_means(_jobs(policy, classes, horizon, seed), horizon) for seed in seeds]
    queues = [one.queue for one in classes]
    return Measured(
        wait={queue: interval([one[queue][0] for one in runs]) for queue in queues},
        turnaround={queue: interval([one[queue][1] for one in runs]) for queue in queues},
    )


def _jobs(policy: Policy, classes: Sequence[Class], horizon: float, seed: int) -> list[JobTally]:
    dice = random.Random(seed)
    return run(policy, [stream(one.queue, one.rate, one.shots, horizon, dice) for one in classes]).jobs


def _means(jobs: Sequence[JobTally], horizon: float) -> dict[str, tuple[float, float]]:
    settled = [job for job in jobs if job.submitted_at >= WARM_UP * horizon]
    found = {}
    for queue in {job.queue for job in settled}:
        mine = [job for job in settled if job.queue == queue]
        found[queue] = (
            statistics.fmean((job.started_at or 0.0) - job.submitted_at for job in mine),
            statistics.fmean((job.ended_at or 0.0) - job.submitted_at for job in mine),
        )
    return found


def interval(values: Sequence[float]) -> Interval:
    half = T_95[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(statistics.fmean(values), half)
