"""The antiferromagnet of five atoms as a CUDA-Q program. Nothing in it knows of qpud: the environment is the shim.

qpud run --qpu=FRESNEL -- python ahs.py
"""

import cudaq
import numpy as np
from cudaq.dynamics import Schedule
from cudaq.operators import RydbergHamiltonian, ScalarOperator

ATOMS = [(0.0, 0.0), (6e-6, 0.0), (0.0, 6e-6), (6e-6, 6e-6), (12e-6, 0.0)]  # m
TIMES = [0.0, 1e-6, 2e-6, 3e-6]  # s
AMPLITUDE = [0.0, 11.3e6, 11.3e6, 0.0]  # rad/s
DETUNING = [-30e6, -30e6, 22e6, 22e6]  # rad/s


def curve(values):
    """Linear between the values at TIMES."""
    return ScalarOperator(lambda t: np.interp(np.real(t), TIMES, values))


cudaq.set_target("pasqal", machine="qrmi")
hamiltonian = RydbergHamiltonian(
    atom_sites=ATOMS, amplitude=curve(AMPLITUDE), phase=curve([0.0] * 4), delta_global=curve(DETUNING)
)
counts = cudaq.evolve(hamiltonian, schedule=Schedule(list(np.linspace(0.0, 3e-6, 31)), ["t"]), shots_count=500)
best = counts.most_probable()
print(f"{best} in {counts[best]} of {sum(dict(counts.items()).values())} shots, the last atom first")
