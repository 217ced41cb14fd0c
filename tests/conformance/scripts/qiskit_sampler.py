"""An ordinary Qiskit script: the sweep as a HamiltonianGate through qrmi's Pasqal sampler.

`python qiskit_sampler.py RESOURCE SHOTS` in the environment that Slurm's plugin sets. The sampler sends the
sequence without a measurement.
"""

import json
import sys

import afm
from qiskit import QuantumCircuit
from qiskit_pasqal_provider.providers.gate import HamiltonianGate, InterpolatePoints
from qrmi import QuantumResource, ResourceType
from qrmi.primitives.pasqal import SamplerV2


def circuit():
    """One gate: amplitude, detuning and the atoms' places in µm."""
    amplitude = InterpolatePoints(values=afm.AMPLITUDE, duration=afm.DURATION)
    detuning = InterpolatePoints(values=afm.DETUNING, duration=afm.DURATION)
    gate = HamiltonianGate(amplitude, detuning, 0.0, afm.COORDINATES)
    program = QuantumCircuit(len(afm.COORDINATES))
    program.append(gate, range(len(afm.COORDINATES)))
    return program


def main(name, shots):
    """Run and print the counts."""
    qpu = QuantumResource(name, ResourceType.PasqalLocal)
    sampler = SamplerV2(qpu, options={"run_options": {"poll_interval_seconds": 0.1}})
    job = sampler.run([circuit()], shots=shots)
    print(json.dumps({"job": job.job_id(), "counts": job.result()[0].data.counts}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
