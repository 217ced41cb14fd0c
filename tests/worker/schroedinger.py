"""What an AHS program means: its Hamiltonian integrated as written, knowing nothing of Pulser or of our conversion.

    H/ħ = Σ Ω/2 (exp(iφ)|g><r| + h.c.) - Σ (Δ + Δ_local h_k) n_k + Σ C6/r⁶ n_j n_k

as Amazon Braket documents it for `braket.ir.ahs`; the classical Runge-Kutta method of fourth order in pure Python.
"""

from __future__ import annotations

import cmath
import itertools
import json
import math
from collections.abc import Callable
from typing import Any

C6 = {60: 865723.02, 70: 5420158.53}
"""rad/µs µm⁶ of Rydberg levels, as Pulser's devices have them (facts/EMULATORS.md §10)."""
STEP = 0.5e-3  # µs

State = list[complex]


def probabilities(program: str, level: int) -> dict[str, float]:
    """The distribution of a program's measured bits, in the order of its filled sites."""
    document = json.loads(program)
    system = _System(document, C6[level])
    state: State = [1.0 + 0j] + [0j] * (2**system.atoms - 1)
    steps = math.ceil(system.end / STEP)
    width = system.end / steps
    for number in range(steps):
        state = _step(system.slope, state, number * width, width)
    return {f"{index:0{system.atoms}b}": abs(value) ** 2 for index, value in enumerate(state)}


class _System:
    """The Hamiltonian of a document; atom 0 is the most significant bit."""

    def __init__(self, document: dict[str, Any], c6: float) -> None:
        register, hamiltonian = document["setup"]["ahs_register"], document["hamiltonian"]
        filled = [k for k, filling in enumerate(register["filling"]) if filling]
        places = [tuple(float(x) * 1e6 for x in register["sites"][k]) for k in filled]
        drive = hamiltonian["drivingFields"][0]
        self.atoms = len(filled)
        self.amplitude, self.detuning = _of(drive["amplitude"], 1e-6), _of(drive["detuning"], 1e-6)
        self.phase = _of(drive["phase"], 1.0)
        self.end = max(float(time) * 1e6 for time in drive["amplitude"]["time_series"]["times"])
        self.local = [
            (_of(one["magnitude"], 1e-6), _weights(one["magnitude"]["pattern"], filled))
            for one in hamiltonian["localDetuning"]
        ]
        self.bits = [[index >> (self.atoms - 1 - k) & 1 for k in range(self.atoms)] for index in range(2**self.atoms)]
        pairs = [
            (j, k, c6 / math.dist(places[j], places[k]) ** 6) for j, k in itertools.combinations(range(self.atoms), 2)
        ]
        self.interaction = [sum(u for j, k, u in pairs if bits[j] and bits[k]) for bits in self.bits]

    def slope(self, time: float, state: State) -> State:
        """dψ/dt = -iHψ."""
        common, rabi = self.detuning(time), self.amplitude(time) / 2
        turn = cmath.exp(1j * self.phase(time))
        shift = [common] * self.atoms
        for magnitude, weights in self.local:
            shift = [one + magnitude(time) * weight for one, weight in zip(shift, weights, strict=True)]
        return [-1j * self._row(index, state, (shift, rabi, turn)) for index in range(len(state))]

    def _row(self, index: int, state: State, now: tuple[list[float], float, complex]) -> complex:
        shift, rabi, turn = now
        bits = self.bits[index]
        diagonal = self.interaction[index] - sum(d for d, bit in zip(shift, bits, strict=True) if bit)
        found = diagonal * state[index]
        for k, bit in enumerate(bits):
            other = index ^ 1 << (self.atoms - 1 - k)
            found += rabi * (turn.conjugate() if bit else turn) * state[other]
        return found


def _step(slope: Callable[[float, State], State], state: State, time: float, width: float) -> State:
    def moved(by: State, part: float) -> State:
        return [one + part * width * change for one, change in zip(state, by, strict=True)]

    first = slope(time, state)
    second = slope(time + width / 2, moved(first, 0.5))
    third = slope(time + width / 2, moved(second, 0.5))
    fourth = slope(time + width, moved(third, 1.0))
    weighed = [(a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(first, second, third, fourth, strict=True)]
    return moved(weighed, 1.0)


def _of(field: dict[str, Any], scale: float) -> Callable[[float], float]:
    """The series as a function of µs; after its end, and at a jump, the later value."""
    series = field["time_series"]
    corners = [(float(t) * 1e6, float(v) * scale) for t, v in zip(series["times"], series["values"], strict=True)]

    def value(time: float) -> float:
        for (left, low), (right, high) in itertools.pairwise(corners):
            if left <= time < right:
                return low + (high - low) * (time - left) / (right - left)
        return corners[-1][1]

    return value


def _weights(pattern: Any, filled: list[int]) -> list[float]:
    return [1.0 if pattern == "uniform" else float(pattern[k]) for k in filled]
