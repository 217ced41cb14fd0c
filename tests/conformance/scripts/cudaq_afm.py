"""An ordinary CUDA-Q script: the sweep of afm.py as a Rydberg Hamiltonian, sampled on the target `pasqal`.

`python cudaq_afm.py SHOTS` in the environment of a QRMI user whose resource is of the type pasqal-cloud.
"""

import json
import sys

import cudaq
import numpy as np
from cudaq.dynamics import Schedule
from cudaq.operators import RydbergHamiltonian, ScalarOperator
from scipy.interpolate import PchipInterpolator

SITES = [(0.0, 0.0), (6e-6, 0.0), (0.0, 6e-6), (6e-6, 6e-6), (12e-6, 0.0)]  # m
TIMES = [0.0, 1e-6, 2e-6, 3e-6]  # s
AMPLITUDE = [0.0, 11.3e6, 11.3e6, 0.0]  # rad/s
DETUNING = [-30e6, -30e6, 22e6, 22e6]  # rad/s
GRAIN = 151  # CUDA-Q sends the values at so many times, and lines between them


def curve(values):
    """The smooth curve through values at TIMES that Pulser's InterpolatedWaveform is too."""
    smooth = PchipInterpolator(TIMES, values)
    return ScalarOperator(lambda t: smooth(np.real(t)))


def main():
    """Run the sweep and print the counts."""
    cudaq.set_target("pasqal", machine="qrmi")
    hamiltonian = RydbergHamiltonian(
        atom_sites=SITES, amplitude=curve(AMPLITUDE), phase=curve([0.0] * 4), delta_global=curve(DETUNING)
    )
    schedule = Schedule(list(np.linspace(0.0, TIMES[-1], GRAIN)), ["t"])
    result = cudaq.evolve(hamiltonian, schedule=schedule, shots_count=int(sys.argv[1]))
    print(json.dumps({"counter": dict(result.items())}))


if __name__ == "__main__":
    main()
