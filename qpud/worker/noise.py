"""The noise of a sequence's device: how an emulator is told of it, and how exactly so many shots come out.

Stochastic noise is sampled over trajectories. Some backends return shots for each trajectory, others for all together
(facts/EMULATORS.md, API): more than needed are drawn, and the job's shots are taken from them at random.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy
from pulser import Sequence

from qpud.worker.sentences import Refusal

TRAJECTORIES = 40  # Pulser's own default for a device's noise model
DRAWN = frozenset({"amplitude", "detuning", "doppler", "register", "leakage"})
"""Noise of which each trajectory draws its own values; readout errors are applied to the shots of a single one."""
JUMPS = frozenset({"relaxation", "dephasing", "depolarizing", "eff_noise"})
"""Noise that emu-mps unravels into quantum jumps, and the others put into a density matrix."""


def of_device(sequence: Sequence) -> Any:
    """The noise model of the sequence's device, None if it states none or it is noiseless."""
    model = getattr(sequence.device, "noise_model", None)
    return model if model is not None and model.noise_types else None


def trajectories(model: Any, emulator: str, shots: int) -> int:
    """How many trajectories `shots` are spread over: one, where nothing is drawn for each."""
    types = set(model.noise_types) if model is not None else set()
    is_drawn = bool(types & DRAWN) or (model is not None and model.state_prep_error > 0)
    return min(shots, TRAJECTORIES) if is_drawn or (emulator == "mps" and types & JUMPS) else 1


def settings(model: Any, emulator: str, shots: int) -> dict[str, Any]:
    """What a backend's configuration takes; nothing without noise."""
    return {} if model is None else {"noise_model": model, "n_trajectories": trajectories(model, emulator, shots)}


def shots_per_trajectory(model: Any, emulator: str, shots: int) -> int:
    """How many shots to draw of each trajectory for `shots` in all; all of them without noise."""
    return -(-shots // trajectories(model, emulator, shots))


def run(
    sequence: Sequence, model: Any, emulator: str, seed: int, backend: Callable[[], dict[str, int]]
) -> dict[str, int]:
    """Run a backend with every source of chance seeded.

    Raises:
        Refusal: The emulator does not know a noise of the device.
    """
    random.seed(seed)
    numpy.random.seed(seed)
    try:
        return backend()
    except (NotImplementedError, AssertionError) as unknown:
        if model is None:
            raise
        types = ", ".join(model.noise_types)
        why = f": {unknown}" if str(unknown) else ""
        raise Refusal(
            f"emulator {emulator} cannot emulate the noise of {sequence.device.name} ({types}){why}; try another one"
        ) from None


def exactly(counts: dict[str, int], shots: int, seed: int) -> dict[str, int]:
    """So many of the shots that were drawn, at random without putting any back."""
    if sum(counts.values()) == shots:
        return counts
    outcomes = sorted(counts)
    numbers = numpy.array([counts[bits] for bits in outcomes])
    taken = numpy.random.default_rng(seed).multivariate_hypergeometric(numbers, shots)
    return {bits: int(number) for bits, number in zip(outcomes, taken, strict=True) if number}


def words(sequence: Sequence, model: Any) -> str:
    """For the provenance."""
    if model is None:
        return f"none: {sequence.device.name} states none"
    return f"of {sequence.device.name}: {', '.join(model.noise_types)}"
