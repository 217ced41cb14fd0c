"""AHS programs (the shape of CUDA-Q and Braket) as Pulser sequences.

    H/ħ = Σ Ω/2 (exp(iφ)|g><r| + h.c.) - Σ (Δ + Δ_local h_k) n_k + Σ C6/r⁶ n_j n_k

Units become µm and rad/µs; Pulser's phase has the other sign; a phase that turns is a detuning (as in
Pulse.ArbitraryPhase); atoms are q0, q1 … in the order of the filled sites. CUDA-Q's numbers are strings with a grain
of 10 ns and 10 nm. Sources: facts/CONTRACTS.md §6, CUDA-Q's AnalogHamiltonian.h, Braket's braket.ir.ahs.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

from pulser import Pulse, Sequence
from pulser.waveforms import Waveform

from qpud.worker import ahs_local, ahs_register
from qpud.worker.ahs_series import Point, Series, join, number
from qpud.worker.sentences import Refusal

BRAKET_HEADER = "braket.ir.ahs.program"
BRAKET_LEVEL = 70  # Aquila's, the only machine for which Braket has such programs
CHANNEL = "global"


def is_ahs(document: Any) -> bool:
    """Whether a JSON document is an AHS program."""
    return isinstance(document, dict) and "setup" in document and "hamiltonian" in document


def convert(document: dict[str, Any], device: Any) -> Sequence:
    """The program as a measured sequence on a device.

    Args:
        document: The decoded program. Its `rydberg_level`, if it has one, is that for which its distances were chosen.
        device: A Pulser device with a global Rydberg channel.

    Raises:
        Refusal: The program uses what the device cannot do, would mean other physics there, or is incomplete.
    """
    try:
        return _convert(document, device)
    except (KeyError, IndexError, TypeError, AttributeError, StopIteration) as wrong:
        raise Refusal(f"the AHS program is incomplete or malformed ({type(wrong).__name__}: {wrong})") from None


def _convert(document: dict[str, Any], device: Any) -> Sequence:
    hamiltonian, sites = document["hamiltonian"], document["setup"]["ahs_register"]
    drive = _single_drive(hamiltonian)
    local = ahs_local.single(hamiltonian, sites)
    if sum(map(int, sites["filling"])) > 1:
        _check_level(document, device)
    sequence = Sequence(ahs_register.register(sites, device), device)
    sequence.declare_channel(CHANNEL, _channel(device))
    detuning = _add_drive(sequence, drive, local)
    if local:
        ahs_local.add(sequence, local, detuning.end)
    sequence.measure("ground-rydberg")
    return sequence


def _check_level(document: dict[str, Any], device: Any) -> None:
    """Distances chosen for another Rydberg level mean other interactions; without a word it is the device's own."""
    header = document.get("braketSchemaHeader") or {}
    told = document.get("rydberg_level", BRAKET_LEVEL if header.get("name") == BRAKET_HEADER else None)
    if told is not None and number(told) != device.rydberg_level:
        raise Refusal(
            f"the AHS program is written for Rydberg level {str(told)[:40]}, {device.name} works at level "
            f"{device.rydberg_level} (C6 = {device.interaction_coeff:.0f} rad/µs µm⁶): the same distances would mean "
            "other physics"
        )


def _single_drive(hamiltonian: dict[str, Any]) -> dict[str, Series]:
    drives = hamiltonian["drivingFields"]
    if len(drives) != 1:
        raise Refusal(f"the AHS program has {len(drives)} driving fields, exactly one is supported")
    for name in ("amplitude", "detuning", "phase"):
        if (pattern := drives[0][name].get("pattern", "uniform")) != "uniform":
            raise Refusal(f"the {name} of the AHS program has the pattern {str(pattern)[:40]!r}, only 'uniform' works")
    scales = {"amplitude": 1e-6, "detuning": 1e-6, "phase": -1.0}
    return {name: Series.read(name, drives[0][name], scale) for name, scale in scales.items()}


def _add_drive(sequence: Sequence, drive: dict[str, Series], local: ahs_local.Local | None) -> Series:
    """Add one pulse for each stretch without a jump of the phase; gives the detuning as it was programmed."""
    amplitude, detuning, phase = drive["amplitude"], drive["detuning"], drive["phase"]
    ends = sorted({series.end for series in (*drive.values(), *([local.magnitude] if local else []))})
    if len(ends) != 1:
        raise Refusal(f"the series of the AHS program end at different times: {ends} ns")
    if local:
        detuning = detuning.plus(local.common)
    channel = sequence.declared_channels[CHANNEL]
    cuts = [0, *_jumps(phase, channel, sequence.device.name), ends[0]]
    for start, stop in itertools.pairwise(cuts):
        rest = -stop % channel.clock_period if stop == ends[0] else 0
        sequence.add(_pulse(amplitude, detuning, phase, (start, stop, rest)), CHANNEL, protocol="no-delay")
    return detuning


def _jumps(phase: Series, channel: Any, device: str) -> list[int]:
    """When the phase jumps, in ns. Refuses jumps that the device needs time for, or that fall between its ticks."""
    jumps = phase.jumps()
    if jumps and channel.phase_jump_time:
        raise Refusal(
            f"the phase of the AHS program jumps at {jumps[0]} ns, for which {device} needs {channel.phase_jump_time} "
            "ns: let it turn instead"
        )
    if odd := [jump for jump in jumps if jump % channel.clock_period]:
        raise Refusal(
            f"the phase of the AHS program jumps at {odd[0]} ns, {device} counts in steps of {channel.clock_period} ns"
        )
    return jumps


def _pulse(amplitude: Series, detuning: Series, phase: Series, span: tuple[int, int, int]) -> Pulse:
    """One stretch, from start to stop in ns; padded by `rest` ns with the drive off, to whole clock periods."""
    start, stop, rest = span
    turning = _turned(detuning, phase, start, stop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drive: Waveform = join(amplitude.between(start, stop), rest, 0.0)
        shifted = join(turning, rest, turning[-1].value)
        return Pulse(drive, shifted, phase.at(start, after=True))


def _turned(detuning: Series, phase: Series, start: int, stop: int) -> list[Point]:
    """Detuning minus the phase's slope (in Pulser's sign): a turning phase is a detuning."""
    times = sorted({start, stop, *(p.time for p in (*phase.points, *detuning.points) if start < p.time < stop)})
    turned = []
    for left, right in itertools.pairwise(times):
        slope = (phase.at(right) - phase.at(left, after=True)) / (right - left) * 1e3  # rad/ns to rad/µs
        turned += [
            Point(left, detuning.at(left, after=True) - slope),
            Point(right, detuning.at(right) - slope),
        ]
    return turned


def _channel(device: Any) -> str:
    for name, channel in device.channels.items():
        if channel.basis == "ground-rydberg" and channel.addressing == "Global":
            return str(name)
    raise Refusal(f"{device.name} has no global Rydberg channel, which AHS programs need")
