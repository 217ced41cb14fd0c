"""Local detuning of AHS programs, by a detuning map modulator (DMM), which can only lower detunings.

A magnitude Δ ≥ 0 with weights h is the same as Δ for all, and -Δ with weights 1 - h: so both signs are faithful.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

from pulser import Sequence

from qpud.worker.ahs_series import Series, join, number
from qpud.worker.sentences import Refusal


class Local(NamedTuple):
    """What the atoms get beside the drive: `common` rad/µs for all, `magnitude` ≤ 0 with one weight for each atom."""

    common: Series
    magnitude: Series
    weights: list[float]


def single(hamiltonian: dict[str, Any], sites: dict[str, Any]) -> Local | None:
    """The local detuning of a program; None without one. Raises: Refusal."""
    told = [*(hamiltonian.get("localDetuning") or ()), *(hamiltonian.get("shiftingFields") or ())]
    if len(told) > 1:
        raise Refusal(f"the AHS program has {len(told)} local detunings, at most one is supported")
    if not told:
        return None
    magnitude = Series.read("local detuning", told[0]["magnitude"], 1e-6)
    weights = _weights(told[0]["magnitude"].get("pattern", "uniform"), sites)
    values = [point.value for point in magnitude.points]
    if max(values) > 0 > min(values):
        raise Refusal("the local detuning of the AHS program changes its sign, which no detuning map can follow")
    if max(values) <= 0:
        return Local(magnitude.times(0.0), magnitude, weights)
    return Local(magnitude, magnitude.times(-1.0), [1.0 - weight for weight in weights])


def _weights(pattern: Any, sites: dict[str, Any]) -> list[float]:
    """One for each filled site; the pattern has one for each site."""
    filling = [int(filled) for filled in sites["filling"]]
    given = [1.0] * len(filling) if pattern == "uniform" else [number(weight) for weight in pattern]
    if len(given) != len(filling):
        raise Refusal(f"the local detuning of the AHS program has {len(given)} weights for {len(filling)} sites")
    if wrong := [weight for weight in given if not 0 <= weight <= 1]:
        raise Refusal(f"the local detuning of the AHS program has the weight {wrong[0]}, they go from 0 to 1")
    return [weight for weight, filled in zip(given, filling, strict=True) if filled]


def add(sequence: Sequence, local: Local, end: int) -> None:
    """Let the device's modulator lower each atom's detuning, from 0 to `end` ns. Raises: Refusal."""
    if not any(local.weights) or not any(point.value for point in local.magnitude.points):
        return
    device = sequence.device
    if not device.dmm_channels:
        raise Refusal(f"the AHS program has a local detuning, for which {device.name} has no detuning map modulator")
    name, channel = next(iter(device.dmm_channels.items()))
    weights = dict(zip(sequence.register.qubit_ids, local.weights, strict=True))
    sequence.config_detuning_map(sequence.register.define_detuning_map(weights), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wave = join(local.magnitude.between(0, end), -end % channel.clock_period, 0.0)
        sequence.add_dmm_detuning(wave, name)
