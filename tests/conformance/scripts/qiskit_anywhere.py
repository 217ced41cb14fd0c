"""The same for Qiskit: the sweep by the shim's sampler, and by the provider's own on the shim's backend.

`python qiskit_anywhere.py SHOTS`
"""

import json
import sys

import afm
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit_pasqal_provider.providers.gate import HamiltonianGate, InterpolatePoints
from qiskit_pasqal_provider.providers.sampler import SamplerV2 as ProvidersSampler
from qpud_qiskit import QpudProvider, SamplerV2

shots = int(sys.argv[1])
end = Parameter("end")
gate = HamiltonianGate(
    InterpolatePoints(values=afm.AMPLITUDE, duration=afm.DURATION),
    InterpolatePoints(values=[*afm.DETUNING[:2], end, end], duration=afm.DURATION),
    0.0,
    afm.COORDINATES,
)
circuit = QuantumCircuit(len(afm.COORDINATES))
circuit.append(gate, range(len(afm.COORDINATES)))
provider = QpudProvider()
sampler = SamplerV2(provider.get_backend())
job = sampler.run([(circuit, {end: afm.DETUNING[3]}), (circuit, [{end: -30.0}, {"end": -30.0}], 10)], shots=shots)
first, second = job.result()
theirs = ProvidersSampler(sampler.backend()).run([(circuit, {end: afm.DETUNING[3]})], shots=shots).result()
seen = {
    "where": sampler.backend().name,
    "backends": provider.backends(),
    "counts": first.data.counts,
    "list": second.data.counts,
    "theirs": theirs[0].data.counts,
    "done": job.done(),
}
print(json.dumps(seen))
