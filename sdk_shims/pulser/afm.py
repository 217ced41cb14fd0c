"""Prepare the antiferromagnetic state of a 3 × 3 grid of atoms, adiabatically, and show what was measured.

    qpud run --qpu=EMU_MPS -- python afm.py        on a laptop
    qpud run --qpu=FRESNEL -- python afm.py        on the QPU; nothing else changes

Neighbouring atoms cannot both be excited (Rydberg blockade). Driven slowly from "no excitation pays" to "each one
pays", the atoms settle into the pattern with the most excitations that blockade allows: a chessboard.
"""

import math
import sys

import pulser
from pulser.backend import QPUBackend
from qpud_pulser import QpudConnection

ROWS = COLUMNS = 3
SHOTS = int(sys.argv[1]) if len(sys.argv) > 1 else 500

OMEGA = 1.8 * 2 * math.pi  # rad/µs, Rabi frequency on the plateau
U = OMEGA  # rad/µs, interaction of neighbours; sets their distance
DELTA_START, DELTA_END = -3 * U, 1.5 * U  # rad/µs, detuning


def adiabatic_sweep(device):
    """Ramp the drive up, sweep the detuning, ramp the drive down: 4 µs in all."""
    spacing = device.rydberg_blockade_radius(U)
    register = pulser.Register.rectangle(ROWS, COLUMNS, spacing=spacing, prefix="q")
    sequence = pulser.Sequence(register.with_automatic_layout(device), device)
    sequence.declare_channel("ising", "rydberg_global")
    rise = pulser.RampWaveform(400, 0.0, OMEGA), DELTA_START
    sweep = OMEGA, pulser.RampWaveform(2800, DELTA_START, DELTA_END)
    fall = pulser.RampWaveform(800, OMEGA, 0.0), DELTA_END
    sequence.add(pulser.Pulse.ConstantDetuning(*rise, phase=0.0), "ising")
    sequence.add(pulser.Pulse.ConstantAmplitude(*sweep, phase=0.0), "ising")
    sequence.add(pulser.Pulse.ConstantDetuning(*fall, phase=0.0), "ising")
    sequence.measure("ground-rydberg")
    return sequence


def show(counts, best=8):
    """Print the most frequent bitstrings as bars, and the first one as the grid it is."""
    shots, top = sum(counts.values()), counts.most_common(best)
    for bits, number in top:
        print(f"  {bits:>18}  {'█' * math.ceil(40 * number / top[0][1]):<40} {number / shots:6.1%}")
    rest = shots - sum(number for _, number in top)
    print(f"  {len(counts) - len(top):>3} other outcomes  {'':40} {rest / shots:6.1%}\n")
    for row in range(ROWS):
        print("    " + " ".join("○●"[int(bit)] for bit in top[0][0][row * COLUMNS :][:COLUMNS]))


connection = QpudConnection()
(device,) = connection.fetch_available_devices().values()
backend = QPUBackend(adiabatic_sweep(device), connection)
results = backend.run(job_params=[{"runs": SHOTS}], wait=True)
show(results[0].final_bitstrings)
