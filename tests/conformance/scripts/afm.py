"""Adiabatic preparation of the antiferromagnetic state on five atoms: the same physics for every client.

    q2 - q3
    |    |        spacing 6 µm; one antiferromagnetic pattern is best, 10011 (about 72 %), the others are defects
    q0 - q1 - q4  of it. It is no palindrome and not its own inverse: reversed or flipped bits cannot go unnoticed.

`python afm.py SPECS` prints the sequence for the device whose abstract representation is the file SPECS.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pulser
from pulser.json.abstract_repr.deserializer import deserialize_device
from pulser.waveforms import InterpolatedWaveform

COORDINATES = [(0.0, 0.0), (6.0, 0.0), (0.0, 6.0), (6.0, 6.0), (12.0, 0.0)]  # µm
DURATION = 3000  # ns
AMPLITUDE = [0.0, 11.3, 11.3, 0.0]  # rad/µs
DETUNING = [-30.0, -30.0, 22.0, 22.0]  # rad/µs


def register(device):
    """The five atoms, on a layout if the device wants one."""
    atoms = pulser.Register.from_coordinates(COORDINATES, prefix="q")
    return atoms.with_automatic_layout(device) if device.requires_layout else atoms


def sequence(device, measured=True):
    """The sweep as an ordinary sequence."""
    seq = pulser.Sequence(register(device), device)
    seq.declare_channel("rydberg_global", "rydberg_global")
    seq.add(_pulse(DURATION, AMPLITUDE, DETUNING), "rydberg_global")
    if measured:
        seq.measure("ground-rydberg")
    return seq


def parametrised(device):
    """The sweep with its detunings (rad/µs) as a variable: ending at 22 gives the antiferromagnet, at -30 nothing."""
    seq = pulser.Sequence(register(device), device)
    seq.declare_channel("rydberg_global", "rydberg_global")
    detuning = seq.declare_variable("detuning", dtype=float, size=4)
    seq.add(_pulse(DURATION, AMPLITUDE, detuning), "rydberg_global")
    seq.measure("ground-rydberg")
    return seq


def _pulse(duration, amplitude, detuning):
    return pulser.Pulse(InterpolatedWaveform(duration, amplitude), InterpolatedWaveform(duration, detuning), 0.0)


if __name__ == "__main__":
    print(sequence(deserialize_device(Path(sys.argv[1]).read_text())).to_abstract_repr())
