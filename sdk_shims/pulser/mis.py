"""Find the largest independent set of a graph of five atoms with a variational loop.

python mis.py                               an emulator in this process
qpud run --qpu=EMU_MPS -- python mis.py     a daemon's emulator
qpud run --qpu=FRESNEL -- python mis.py     the QPU; nothing else changes

Atoms closer than the blockade radius are joined by an edge; no two neighbours can be excited at once, so what is
measured tends to be an independent set. Which one, and how surely, depends on the pulse: a classical optimiser turns
its two knobs, amplitude and detuning, and each turn is one job of an open batch.
"""

import math

import pulser
from qpud_pulser import QpudBackend, connect

ATOMS = [(0.0, 0.0), (6.0, 0.0), (0.0, 6.0), (6.0, 6.0), (12.0, 0.0)]  # µm
REACH = 7.0  # µm
EDGES = [(i, j) for j, b in enumerate(ATOMS) for i, a in enumerate(ATOMS[:j]) if math.dist(a, b) < REACH]
EDGE, PLATEAU = 248, 1000  # ns
SHOTS = 100


def driven(device):
    """A pulse of a variable amplitude, while the detuning rises through zero to a variable end."""
    register = pulser.Register.from_coordinates(ATOMS, prefix="q").with_automatic_layout(device)
    sequence = pulser.Sequence(register, device)
    sequence.declare_channel("ising", "rydberg_global")
    amplitude, detuning = (sequence.declare_variable(name, dtype=float) for name in ("amplitude", "detuning"))
    rise, plateau = pulser.RampWaveform(EDGE, 0.0, amplitude), pulser.ConstantWaveform(PLATEAU, amplitude)
    drive = pulser.CompositeWaveform(rise, plateau, pulser.RampWaveform(EDGE, amplitude, 0.0))
    sweep = pulser.RampWaveform(PLATEAU + 2 * EDGE, -detuning, detuning)
    sequence.add(pulser.Pulse(drive, sweep, 0.0), "ising")
    return sequence


def cost(counts):
    """Minus the mean size of the sets that were measured; an edge inside a set costs more than its atoms bring."""
    total = 0
    for bits, number in counts.items():
        chosen = [bit == "1" for bit in bits]
        total += number * (2 * sum(chosen[i] and chosen[j] for i, j in EDGES) - sum(chosen))
    return total / sum(counts.values())


def measured(backend, amplitude, detuning):
    """One turn of the loop: one job."""
    results = backend.run(
        job_params=[{"runs": SHOTS, "variables": {"amplitude": amplitude, "detuning": detuning}}], wait=True
    )
    return results[0].final_bitstrings


def minimise(backend, point=(5.0, 4.0), steps=(4.0, 12.0), rounds=2):
    """Compass search: try each knob up, then down; where neither helps, take smaller steps."""
    best = measured(backend, *point)
    for _ in range(rounds):
        for knob in (1, 0):
            for step in (steps[knob], -steps[knob]):
                tried = tuple(value + step * (number == knob) for number, value in enumerate(point))
                counts = measured(backend, *tried)
                print(
                    f"  amplitude {tried[0]:4.1f}, detuning {tried[1]:4.1f} rad/µs: cost {cost(counts):+.2f}",
                    flush=True,
                )
                if cost(counts) < cost(best):
                    point, best = tried, counts
                    break
        steps = tuple(step / 2 for step in steps)
    return point, best


connection = connect()
(device,) = connection.fetch_available_devices().values()
backend = QpudBackend(driven(device), connection)
with backend.open_batch():
    (amplitude, detuning), counts = minimise(backend)
bits, number = counts.most_common(1)[0]
print(f"independent set {bits} in {number} of {SHOTS} shots, at amplitude {amplitude} and detuning {detuning} rad/µs")
