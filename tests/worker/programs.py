"""Builders: programs as clients send them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qpud.drivers.base import Program

SAMPLES = Path(__file__).parent / "samples"
MANIFEST: list[dict[str, Any]] = json.loads((SAMPLES / "manifest.json").read_text())
MOCK_DEVICE = json.loads((SAMPLES / "valid_n04_mockdevice.json").read_text())["device"]


def program(text: str, variables: dict[str, Any] | None = None) -> Program:
    return Program(sequence=text, sequence_hash="", register_hash="", variables=variables or {})


def sample(name: str, variables: dict[str, Any] | None = None) -> Program:
    return program((SAMPLES / name).read_text(), variables)


def changed(name: str, **changes: Any) -> Program:
    """A sample with other top-level fields."""
    return program(json.dumps({**json.loads((SAMPLES / name).read_text()), **changes}))


def drive(amplitude: float, detuning: float, duration: int, phase: float = 0.0) -> dict[str, Any]:
    return {
        "op": "pulse",
        "channel": "ising",
        "protocol": "min-delay",
        "amplitude": {"kind": "constant", "duration": duration, "value": amplitude},
        "detuning": {"kind": "constant", "duration": duration, "value": detuning},
        "phase": phase,
        "post_phase_shift": 0.0,
    }


def atoms_apart(count: int, *operations: dict[str, Any], distance: float = 200.0) -> Program:
    """Atoms in a row on MockDevice, by default too far apart to feel each other."""
    document = {
        "version": "1",
        "name": "apart",
        "register": [{"name": f"q{i}", "x": distance * i, "y": 0.0} for i in range(count)],
        "channels": {"ising": "rydberg_global"},
        "variables": {},
        "operations": list(operations),
        "measurement": None,
        "device": MOCK_DEVICE,
    }
    return program(json.dumps(document))


def ahs(
    sites: list[tuple[float, float]],
    amplitude: list[tuple[float, float]],
    detuning: list[tuple[float, float]],
    phase: list[tuple[float, float]] | None = None,
    **hamiltonian: Any,
) -> Program:
    """An AHS program from places in µm and (time in µs, value in rad/µs or rad); numbers as CUDA-Q writes them."""
    series = {"amplitude": (amplitude, 1e6), "detuning": (detuning, 1e6)}
    series["phase"] = (phase or [(amplitude[0][0], 0.0), (amplitude[-1][0], 0.0)], 1.0)
    fields = {name: _field(points, scale) for name, (points, scale) in series.items()}
    register = {"sites": [[_text(x * 1e-6), _text(y * 1e-6)] for x, y in sites], "filling": [1] * len(sites)}
    document = {
        "setup": {"ahs_register": register},
        "hamiltonian": {"drivingFields": [fields], "localDetuning": [], **hamiltonian},
    }
    return program(json.dumps(document))


def _field(points: list[tuple[float, float]], scale: float) -> dict[str, Any]:
    times, values = zip(*points, strict=True)
    series = {"times": [_text(time * 1e-6) for time in times], "values": [_text(value * scale) for value in values]}
    return {"time_series": series, "pattern": "uniform"}


def _text(number: float) -> str:
    return f"{number:.8f}"
