"""Independent atoms: each evolves exactly under its own drive, as if the others were not there.

Cheap at any size, and honest about what it leaves out: no interaction, hence no blockade. The Hamiltonian of one
atom is Pulser's: Ω/2 (exp(-iφ) |g><r| + exp(iφ) |r><g|) - δ |r><r|.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy
import pulser.sampler
from numpy.typing import NDArray
from pulser import Sequence

from qpud.worker.sentences import Refusal

CHUNK = 1 << 22  # random numbers at a time


def excitations(sequence: Sequence) -> NDArray[numpy.float64]:
    """The probability of '1' for each atom in register order. Raises: Refusal for several bases or XY."""
    bases = sequence.get_addressed_bases()
    if len(bases) != 1 or bases[0] == "XY":
        raise Refusal(f"independent atoms can be emulated in one basis only, not in {' and '.join(bases)}")
    drives = pulser.sampler.sample(sequence).to_nested_dict(all_local=True)["Local"][bases[0]]
    known: dict[bytes, float] = {}
    return numpy.array([_excitation(drives.get(atom), known) for atom in sequence.register.qubit_ids])


def _excitation(drive: Any, known: dict[bytes, float]) -> float:
    if drive is None:
        return 0.0
    amp, det, phase = (numpy.asarray(drive[key], dtype=float) for key in ("amp", "det", "phase"))
    key = amp.tobytes() + det.tobytes() + phase.tobytes()
    if key not in known:
        known[key] = float(abs(_evolution(amp, det, phase)[1, 0]) ** 2)
    return known[key]


def _evolution(
    amp: NDArray[numpy.float64], det: NDArray[numpy.float64], phase: NDArray[numpy.float64]
) -> NDArray[numpy.complex128]:
    """The product of the exact steps exp(-i H · 1 ns), from samples in rad/µs and rad, up to a global phase."""
    speed = numpy.sqrt(amp**2 + det**2)
    angle = speed * 1e-3 / 2
    scale = numpy.divide(numpy.sin(angle), speed, out=numpy.zeros_like(speed), where=speed > 0)
    steps = numpy.empty((len(amp), 2, 2), dtype=complex)
    steps[:, 0, 0] = numpy.cos(angle) - 1j * scale * det
    steps[:, 1, 1] = steps[:, 0, 0].conj()
    steps[:, 0, 1] = -1j * scale * amp * numpy.exp(-1j * phase)
    steps[:, 1, 0] = -1j * scale * amp * numpy.exp(1j * phase)
    while len(steps) > 1:  # pairwise, in order: log2 rounds of vectorised products
        if len(steps) % 2:
            steps = numpy.concatenate([steps, numpy.eye(2, dtype=complex)[None]])
        steps = steps[1::2] @ steps[0::2]
    return steps[0]


def draw(probabilities: NDArray[numpy.float64], shots: int, seed: int) -> dict[str, int]:
    """Counts of independent draws: character i is '1' with probability i."""
    random = numpy.random.default_rng(seed)
    counts: Counter[str] = Counter()
    at_once = max(1, CHUNK // len(probabilities))
    for start in range(0, shots, at_once):
        ones = random.random((min(at_once, shots - start), len(probabilities))) < probabilities
        counts.update(row.tobytes().decode() for row in numpy.where(ones, b"1", b"0"))
    return dict(counts)
