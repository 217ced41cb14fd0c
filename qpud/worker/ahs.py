"""AHS programs (the shape of CUDA-Q and Braket) as Pulser sequences.

Numbers may be strings of 8 decimals in SI units (CUDA-Q), so times have a grain of 10 ns and places one of 10 nm.
As Warden converts them: µm = 1e6 · m, rad/µs = 1e-6 · rad/s, phases change sign, a phase that varies becomes a
detuning (δ + dφ/dt), atoms are q0, q1 … in the order of the filled sites. An AHS program does not say for which
Rydberg level it was written: it runs with the level of the device.
"""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any, NamedTuple

from pulser import Pulse, Register, Sequence
from pulser.waveforms import CompositeWaveform, ConstantWaveform, RampWaveform, Waveform

from qpud.worker.sentences import Refusal


class Point(NamedTuple):
    """A corner of a piecewise linear drive: ns since the start, and the value in the unit Pulser wants."""

    time: int
    value: float


def is_ahs(document: Any) -> bool:
    """Whether a JSON document is an AHS program."""
    return isinstance(document, dict) and "setup" in document and "hamiltonian" in document


def convert(document: dict[str, Any], device: Any) -> Sequence:
    """The program as a measured sequence on a device.

    Args:
        document: The decoded program.
        device: A Pulser device with a global Rydberg channel.

    Raises:
        Refusal: The program uses what cannot be converted, or is incomplete.
    """
    try:
        hamiltonian, sites = document["hamiltonian"], document["setup"]["ahs_register"]
        drive = _single_drive(hamiltonian)
        pulse = _pulse(drive, _clock_period(device))
    except (KeyError, IndexError, TypeError, AttributeError) as wrong:
        raise Refusal(f"the AHS program is incomplete or malformed ({type(wrong).__name__}: {wrong})") from None
    sequence = Sequence(register(sites, device), device)
    sequence.declare_channel("global", _channel(device))
    sequence.add(pulse, "global")
    sequence.measure("ground-rydberg")
    return sequence


def register(sites: dict[str, Any], device: Any) -> Register:
    """The filled sites in order as a register that the device takes: µm, centred unless on a calibrated layout."""
    filled = [site for site, filling in zip(sites["sites"], sites["filling"], strict=True) if int(filling)]
    places = [(_number(x) * 1e6, _number(y) * 1e6) for x, y in filled]
    if not places:
        raise Refusal("the register of the AHS program is empty")
    if device.requires_layout and not device.accepts_new_layouts:
        return _on_calibrated_layout(places, device)
    free = Register.from_coordinates(places, center=True, prefix="q")
    return free.with_automatic_layout(device) if device.requires_layout else free


def _on_calibrated_layout(places: list[tuple[float, float]], device: Any) -> Register:
    names = [f"q{number}" for number in range(len(places))]
    for layout in device.calibrated_register_layouts.values():
        try:
            traps = layout.get_traps_from_coordinates(*places)
        except ValueError:
            continue
        return layout.define_register(*traps, qubit_ids=names)
    raise Refusal(f"the sites of the AHS program are not on a calibrated layout of {device.name}")


def _single_drive(hamiltonian: dict[str, Any]) -> dict[str, Any]:
    drives = hamiltonian["drivingFields"]
    if len(drives) != 1:
        raise Refusal(f"the AHS program has {len(drives)} driving fields, exactly one is supported")
    if hamiltonian.get("localDetuning") or hamiltonian.get("shiftingFields"):
        raise Refusal("the AHS program has a local detuning, which is not supported yet")
    for name in ("amplitude", "detuning", "phase"):
        if (pattern := drives[0][name].get("pattern", "uniform")) != "uniform":
            raise Refusal(f"the {name} of the AHS program has the pattern {str(pattern)[:40]!r}, only 'uniform' works")
    drive: dict[str, Any] = drives[0]
    return drive


def _pulse(drive: dict[str, Any], clock_period: int) -> Pulse:
    amplitude, detuning = _points(drive, "amplitude", 1e-6), _points(drive, "detuning", 1e-6)
    phase = _points(drive, "phase", -1.0)
    ends = {points[-1].time for points in (amplitude, detuning, phase)}
    if len(ends) != 1:
        raise Refusal(f"the series of the AHS program end at different times: {sorted(ends)} ns")
    end = ends.pop()
    rest = -end % clock_period  # padded with the drive off: the device counts in whole clock periods
    shifted = _with_slope_of(phase, detuning)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Pulse(_waveform(amplitude, rest, 0.0), _waveform(shifted, rest, shifted[-1].value), phase[0].value)


def _points(drive: dict[str, Any], name: str, scale: float) -> list[Point]:
    series = drive[name]["time_series"]
    times = [round(_number(time) * 1e9) for time in series["times"]]
    values = [_number(value) * scale for value in series["values"]]
    if len(times) != len(values) or len(times) < 2:
        raise Refusal(f"the {name} of the AHS program has {len(times)} times and {len(values)} values")
    if times[0] != 0 or times != sorted(times):
        raise Refusal(f"the times of the {name} of the AHS program must rise from 0")
    return [Point(time, value) for time, value in zip(times, values, strict=True)]


def _with_slope_of(phase: list[Point], detuning: list[Point]) -> list[Point]:
    """Detuning minus the phase's slope (in Pulser's sign): a turning phase is a detuning (Pulse.ArbitraryPhase)."""
    if all(point.value == phase[0].value for point in phase):
        return detuning
    _refuse_jumps(phase)
    times = sorted({point.time for point in (*phase, *detuning)})
    turned = []
    for start, stop in itertools.pairwise(times):
        slope = (_value(phase, stop) - _value(phase, start)) / (stop - start) * 1e3  # rad/ns to rad/µs
        turned += [
            Point(start, _value(detuning, start, after=True) - slope),
            Point(stop, _value(detuning, stop) - slope),
        ]
    return turned


def _refuse_jumps(phase: list[Point]) -> None:
    for before, after in itertools.pairwise(phase):
        if before.time == after.time and before.value != after.value:
            raise Refusal(f"the phase of the AHS program jumps at {after.time} ns, which is not supported yet")


def _value(points: list[Point], time: int, *, after: bool = False) -> float:
    """The interpolated value; at a jump the one before it, or the one after."""
    here = [point.value for point in points if point.time == time]
    if here:
        return here[-1] if after else here[0]
    left = max(point for point in points if point.time < time)
    right = min(point for point in points if point.time > time)
    return left.value + (right.value - left.value) * (time - left.time) / (right.time - left.time)


def _waveform(points: list[Point], rest: int, rest_value: float) -> Waveform:
    """Ramps and constants from corner to corner, then `rest` ns of a constant."""
    parts = [
        _segment(stop.time - start.time, start.value, stop.value)
        for start, stop in itertools.pairwise(points)
        if stop.time > start.time
    ]
    if rest:
        parts.append(ConstantWaveform(rest, rest_value))
    if not parts:
        raise Refusal("the AHS program lasts 0 ns")
    return parts[0] if len(parts) == 1 else CompositeWaveform(*parts)


def _segment(duration: int, start: float, stop: float) -> Waveform:
    if start == stop or duration == 1:
        return ConstantWaveform(duration, (start + stop) / 2)
    return RampWaveform(duration, start, stop)


def _channel(device: Any) -> str:
    for name, channel in device.channels.items():
        if channel.basis == "ground-rydberg" and channel.addressing == "Global":
            return str(name)
    raise Refusal(f"{device.name} has no global Rydberg channel, which AHS programs need")


def _clock_period(device: Any) -> int:
    return int(device.channels[_channel(device)].clock_period)


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise Refusal(f"the AHS program has {str(value)[:40]!r} where a number is needed") from None
    if not math.isfinite(number):
        raise Refusal(f"the AHS program has {value!r} where a finite number is needed")
    return number
