"""Emulate a sequence once and draw all its shots; they are dealt out to the slices afterwards.

Which emulator, as measured (facts/EMULATORS.md §2, one thread): qutip to 13 atoms, state vector (emu-sv) to 18,
tensor networks (emu-mps) above. All draws come from the job's seed and are shuffled with it, so that counts depend
neither on where the slices fell nor on a restart. Noiseless, unless a session rehearses a QPU that states its noise.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

import numpy
from pulser import Sequence
from pulser.backend import BitStrings

from qpud.worker import noise, product
from qpud.worker.sentences import Refusal

QUTIP_ATOMS = 13
QUTIP_NOISY_ATOMS = 6  # density matrices, or many trajectories
QUTIP_STATES = 2**14  # with two bases an atom has three levels
SV_ATOMS = 18
SV_VECTORS = 60  # state vectors that its Krylov solver holds at its peak
MOCK_STEP = 50  # ns, with a bond dimension of the user's: 25 s for 20 atoms, where 20 ns take 94 s
FINE_STEP, COARSE_STEP = 10, 20  # ns; total variation distance 0.0006 and 0.002 at 10 atoms
FINE_ATOMS = 16
MOCKS = {
    "product": "independent atoms without interaction: not physics",
    "random": "a fair coin for each atom: not physics",
}
PACKAGES = {"qutip": "pulser-simulation", "sv": "emu-sv", "mps": "emu-mps", "product": "numpy", "random": "numpy"}


class Order(NamedTuple):
    """What is to be drawn, and how."""

    shots: int
    seed: int
    noise: Any  # Pulser's NoiseModel, None: noiseless
    bond_dim: int | None
    progress: Callable[[float], None]

    def bitstrings(self, emulator: str) -> BitStrings:
        """The observable of emu-sv and emu-mps, which draw for each trajectory."""
        return _bitstrings(noise.shots_per_trajectory(self.noise, emulator, self.shots))

    def noise_settings(self, emulator: str) -> dict[str, Any]:
        """For their configurations."""
        return noise.settings(self.noise, emulator, self.shots)


class Shots:
    """All shots of a job in the order in which they are dealt, compactly.

    Args:
        counts: Number of shots by bitstring.
        seed: Shuffles them.
    """

    def __init__(self, counts: dict[str, int], seed: int) -> None:
        self._outcomes = sorted(counts)
        numbers = numpy.array([counts[bits] for bits in self._outcomes])
        self._order = numpy.repeat(numpy.arange(len(numbers), dtype=numpy.uint32), numbers)
        numpy.random.default_rng(seed).shuffle(self._order)

    def deal(self, first: int, shots: int) -> dict[str, int]:
        """Counts of `shots` shots from index `first`. Raises: Refusal if the job has not that many."""
        if first < 0 or first + shots > len(self._order):
            raise Refusal(f"shots {first} to {first + shots - 1} were asked for, the job has {len(self._order)}")
        numbers = numpy.bincount(self._order[first : first + shots], minlength=len(self._outcomes))
        return {self._outcomes[index]: int(numbers[index]) for index in numpy.flatnonzero(numbers)}


def evolve(
    sequence: Sequence, *, shots: int, seed: int, options: dict[str, Any], progress: Callable[[float], None]
) -> tuple[Shots, dict[str, str]]:
    """Emulate a built, measured sequence and draw all its shots.

    Args:
        sequence: From `programs.load`.
        shots: Of the whole job.
        seed: Of the job; any integer.
        options: `emulator` forces one, `memory` in bytes bounds emu-sv, `bond_dim` emu-mps; `noise`: the device's own.
        progress: Called with the fraction done, by emu-sv and emu-mps.

    Returns:
        The shots and the provenance: emulator and version, and what is not physics about it.

    Raises:
        Refusal: No emulator fits.
    """
    seed = seed % 2**32
    model = noise.of_device(sequence) if options.get("noise") else None
    emulator = options.get("emulator") or choose(sequence, options.get("memory") or 0, is_noisy=model is not None)
    if emulator not in _RUN:
        raise Refusal(f"there is no emulator {emulator!r}, known are {', '.join(_RUN)}")
    order = Order(shots=shots, seed=seed, noise=model, bond_dim=options.get("bond_dim"), progress=progress)
    counts = noise.run(sequence, model, emulator, seed, lambda: _RUN[emulator](sequence, order))
    told = {"emulator": emulator, **_version(emulator), **_warnings(emulator, order)}
    if options.get("noise") and emulator not in MOCKS:
        told["noise"] = noise.words(sequence, model)
    return Shots(noise.exactly(counts, shots, seed), seed), told


def _warnings(emulator: str, order: Order) -> dict[str, str]:
    """What keeps the counts from being physics; nobody shall take them for it."""
    if emulator in MOCKS:
        return {"mock": MOCKS[emulator]}
    if order.bond_dim is None:
        return {}
    warning = "truncated tensor network: shapes and times are right, the distribution is not converged"
    return {"bond_dim": str(order.bond_dim), "step": f"{_mps_step(order)} ns", "warning": warning}


def choose(sequence: Sequence, memory: int, *, is_noisy: bool = False) -> str:
    """The emulator for a sequence within `memory` bytes (0: unlimited). Raises: Refusal."""
    atoms, bases = len(sequence.register.qubit_ids), sequence.get_addressed_bases()
    if len(bases) > 1 or "digital" in bases:
        levels = len(bases) + 1
        if levels**atoms > QUTIP_STATES:
            raise Refusal(f"{atoms} atoms in the bases {' and '.join(bases)} are too many to emulate")
        return "qutip"
    if atoms <= (QUTIP_NOISY_ATOMS if is_noisy else QUTIP_ATOMS):
        return "qutip"
    if "XY" in bases or atoms > SV_ATOMS or 0 < memory < _sv_bytes(atoms):
        return "mps"
    return "sv"


def _sv_bytes(atoms: int) -> int:
    return int(2**atoms) * 16 * SV_VECTORS


def _qutip(sequence: Sequence, order: Order) -> dict[str, int]:
    from pulser_simulation import QutipBackendV2, QutipConfig

    config = QutipConfig(observables=[_bitstrings(order.shots)], **order.noise_settings("qutip"))
    return _final(QutipBackendV2, sequence, config)


def _state_vector(sequence: Sequence, order: Order) -> dict[str, int]:
    import torch
    from emu_sv import SVBackend, SVConfig

    torch.manual_seed(order.seed)
    config = SVConfig(
        observables=[order.bitstrings("sv")], dt=_step(sequence), gpu=False, **order.noise_settings("sv")
    )
    with _StepsOf(order.progress):
        return _final(SVBackend, sequence, config)


def _tensor_network(sequence: Sequence, order: Order) -> dict[str, int]:
    import torch
    from emu_mps import MPSBackend, MPSConfig

    if len(sequence.register.qubit_ids) < 2:
        raise Refusal("emu-mps needs at least 2 atoms")
    torch.manual_seed(order.seed)
    config = MPSConfig(  # reordering costs 3 to 6 s per run; the bond dimension bounds time and memory
        observables=[order.bitstrings("mps")],
        dt=_mps_step(order),
        precision=1e-5 if order.bond_dim is None else 1e-3,
        max_bond_dim=order.bond_dim or 128,
        optimize_qubit_ordering=False,
        gpu=False,
        **order.noise_settings("mps"),
    )
    with _StepsOf(order.progress):
        return _final(MPSBackend, sequence, config)


def _bitstrings(shots: int) -> BitStrings:
    return BitStrings(evaluation_times=[1.0], num_shots=shots)


def _final(backend: Any, sequence: Sequence, config: Any) -> dict[str, int]:
    return {bits: int(number) for bits, number in backend(sequence, config=config).run().final_bitstrings.items()}


def _step(sequence: Sequence) -> int:
    return FINE_STEP if len(sequence.register.qubit_ids) <= FINE_ATOMS else COARSE_STEP


def _mps_step(order: Order) -> int:
    return COARSE_STEP if order.bond_dim is None else MOCK_STEP


def _product(sequence: Sequence, order: Order) -> dict[str, int]:
    return product.draw(product.excitations(sequence), order.shots, order.seed)


def _random(sequence: Sequence, order: Order) -> dict[str, int]:
    return product.draw(numpy.full(len(sequence.register.qubit_ids), 0.5), order.shots, order.seed)


_RUN: dict[str, Callable[[Sequence, Order], dict[str, int]]] = {
    "qutip": _qutip,
    "sv": _state_vector,
    "mps": _tensor_network,
    "product": _product,
    "random": _random,
}


class _StepsOf(logging.Filter):
    """Turns the emulators' log line per step into progress and keeps it off stdout; survives their set-up."""

    def __init__(self, progress: Callable[[float], None]) -> None:
        super().__init__()
        self._progress = progress

    def __enter__(self) -> None:
        logging.getLogger("emulators").addFilter(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("emulators").removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        if step := re.search(r"step = (\d+)/(\d+)", record.getMessage()):
            self._progress(int(step[1]) / int(step[2]))
        return record.levelno >= logging.WARNING


def _version(emulator: str) -> dict[str, str]:
    package = PACKAGES[emulator]
    return {package: metadata.version(package)}
