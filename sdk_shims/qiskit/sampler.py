"""The antiferromagnet of five atoms as a Qiskit program, for two final detunings at once.

python sampler.py                                an emulator in this process, if one is installed
qpud run --qpu=FRESNEL -- python sampler.py      the QPU; nothing else changes
"""

from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit_pasqal_provider.providers.gate import HamiltonianGate, InterpolatePoints
from qpud_qiskit import SamplerV2

ATOMS = [(0.0, 0.0), (6.0, 0.0), (0.0, 6.0), (6.0, 6.0), (12.0, 0.0)]  # µm
NANOSECONDS = 3000

final = Parameter("final")  # rad/µs
amplitude = InterpolatePoints(values=[0.0, 11.3, 11.3, 0.0], duration=NANOSECONDS)
detuning = InterpolatePoints(values=[-30.0, -30.0, final, final], duration=NANOSECONDS)
circuit = QuantumCircuit(len(ATOMS))
circuit.append(HamiltonianGate(amplitude, detuning, 0.0, ATOMS), range(len(ATOMS)))

job = SamplerV2().run([(circuit, [{final: 22.0}, {final: -30.0}])], shots=300)
for value, counts in zip((22.0, -30.0), job.result()[0].data.counts, strict=True):
    best = max(counts, key=counts.get)
    print(f"detuning ends at {value:+.0f} rad/µs: {best} in {counts[best]} of {sum(counts.values())} shots")
