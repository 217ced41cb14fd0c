"""Print the sweep of these examples, its last detuning left open: `python sequence.py >sweep.json` (needs Pulser).

A 3 × 3 grid of atoms is driven from "no excitation pays" to "each one pays" (sdk_shims/pulser/afm.py tells more). How
much the last detuning should pay is what prepare.py finds.
"""

import math

import pulser

OMEGA = 1.8 * 2 * math.pi  # rad/µs, Rabi frequency on the plateau
U = OMEGA  # rad/µs, interaction of neighbours; sets their distance

device = pulser.AnalogDevice
register = pulser.Register.rectangle(3, 3, spacing=device.rydberg_blockade_radius(U), prefix="q")
sequence = pulser.Sequence(register.with_automatic_layout(device), device)
sequence.declare_channel("ising", "rydberg_global")
delta_end = sequence.declare_variable("delta_end", dtype=float)  # rad/µs
rise = pulser.Pulse.ConstantDetuning(pulser.RampWaveform(400, 0.0, OMEGA), -3 * U, phase=0.0)
sweep = pulser.Pulse.ConstantAmplitude(OMEGA, pulser.RampWaveform(2800, -3 * U, delta_end), phase=0.0)
fall = pulser.Pulse.ConstantDetuning(pulser.RampWaveform(800, OMEGA, 0.0), delta_end, phase=0.0)
for pulse in (rise, sweep, fall):
    sequence.add(pulse, "ising")
sequence.measure("ground-rydberg")
print(sequence.to_abstract_repr())
