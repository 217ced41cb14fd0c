"""The piecewise linear series of AHS programs, and waveforms made of them. Times are ns since the start."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

from pulser.waveforms import CompositeWaveform, ConstantWaveform, RampWaveform, Waveform

from qpud.worker.sentences import Refusal


class Point(NamedTuple):
    """A corner: ns since the start, and the value in the unit Pulser wants."""

    time: int
    value: float


class Series(NamedTuple):
    """Corners in order of time, from 0; two at one time are a jump."""

    points: list[Point]

    @classmethod
    def read(cls, name: str, field: dict[str, Any], scale: float) -> Series:
        """A field's `time_series`: times in s, values times `scale`. Raises: Refusal."""
        series = field["time_series"]
        times = [round(number(time) * 1e9) for time in series["times"]]
        values = [number(value) * scale for value in series["values"]]
        if len(times) != len(values) or len(times) < 2:
            raise Refusal(f"the {name} of the AHS program has {len(times)} times and {len(values)} values")
        if times[0] != 0 or times != sorted(times):
            raise Refusal(f"the times of the {name} of the AHS program must rise from 0")
        if not times[-1]:
            raise Refusal("the AHS program lasts 0 ns")
        return cls([Point(time, value) for time, value in zip(times, values, strict=True)])

    @property
    def end(self) -> int:
        """The last time."""
        return self.points[-1].time

    def at(self, time: int, *, after: bool = False) -> float:
        """The interpolated value; at a jump the one before it, or the one after."""
        here = [point.value for point in self.points if point.time == time]
        if here:
            return here[-1] if after else here[0]
        left = next(point for point in reversed(self.points) if point.time < time)
        right = next(point for point in self.points if point.time > time)
        return left.value + (right.value - left.value) * (time - left.time) / (right.time - left.time)

    def jumps(self) -> list[int]:
        """When the value jumps, before the end: a jump at the very end changes nothing that is measured."""
        pairs = itertools.pairwise(self.points)
        jumps = {a.time for a, b in pairs if a.time == b.time and a.value != b.value}
        return sorted(jumps - {0, self.end})

    def between(self, start: int, stop: int) -> list[Point]:
        """The corners of a stretch, its two ends included."""
        inside = [point for point in self.points if start < point.time < stop]
        return [Point(start, self.at(start, after=True)), *inside, Point(stop, self.at(stop))]

    def plus(self, other: Series) -> Series:
        """The sum of two series of the same length; jumps of both are kept."""
        times = sorted({point.time for point in (*self.points, *other.points)})
        both = [
            Point(time, self.at(time, after=after) + other.at(time, after=after))
            for time in times
            for after in (False, True)
        ]
        return Series([point for point, _ in itertools.groupby(both)])

    def times(self, factor: float) -> Series:
        """Each value times a factor."""
        return Series([Point(point.time, point.value * factor) for point in self.points])


def join(points: list[Point], rest: int, rest_value: float) -> Waveform:
    """Ramps and constants from corner to corner, then `rest` ns of a constant."""
    parts = [
        _segment(stop.time - start.time, start.value, stop.value)
        for start, stop in itertools.pairwise(points)
        if stop.time > start.time
    ]
    if rest:
        parts.append(ConstantWaveform(rest, rest_value))
    return parts[0] if len(parts) == 1 else CompositeWaveform(*parts)


def number(value: Any) -> float:
    """A number, which CUDA-Q writes as a string. Raises: Refusal."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise Refusal(f"the AHS program has {str(value)[:40]!r} where a number is needed") from None
    if not math.isfinite(found):
        raise Refusal(f"the AHS program has {value!r} where a finite number is needed")
    return found


def _segment(duration: int, start: float, stop: float) -> Waveform:
    if start == stop or duration == 1:
        return ConstantWaveform(duration, (start + stop) / 2)
    return RampWaveform(duration, start, stop)
