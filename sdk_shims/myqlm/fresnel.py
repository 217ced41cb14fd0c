"""A Rabi pulse on three atoms far apart as a myQLM program: the URI from the environment is the shim.

qpud run --qpu=FRESNEL -- python fresnel.py
"""

import math
import os

import pulser
from pulser.json.abstract_repr.deserializer import deserialize_device
from pulser_myqlm import FresnelQPU, IsingAQPU

qpu = FresnelQPU(os.environ["QPUD_MYQLM_URI"])
device = deserialize_device(qpu.get_specs().description)
atoms = pulser.Register({"a": (-20.0, 0.0), "b": (0.0, 0.0), "c": (20.0, 0.0)}).with_automatic_layout(device)
sequence = pulser.Sequence(atoms, device)
sequence.declare_channel("ising", "rydberg_global")
sequence.add(pulser.Pulse.ConstantDetuning(pulser.BlackmanWaveform(1000, math.pi), 0.0, 0.0), "ising")
sequence.measure()
result = qpu.submit_job(IsingAQPU.convert_sequence_to_job(sequence, nbshots=200))
counts = IsingAQPU.convert_result_to_samples(result)
best = max(counts, key=counts.get)
print(f"{best} in {counts[best]} of {sum(counts.values())} shots")
