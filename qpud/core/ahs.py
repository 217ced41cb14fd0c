"""The AHS programs of CUDA-Q and Braket: their structure, checked without Pulser; numbers may be strings.

`sequence.py` asks here when a program is not Pulser's, and makes Facts of what it gets; nothing else needs this file.
"""

from __future__ import annotations

import math

import msgspec

from qpud.core.complaints import readable, short
from qpud.core.errors import BadRequest, Invalid


class AhsProgram(msgspec.Struct, frozen=True, kw_only=True):
    """What can be known of an AHS program: `sites` in m, their `filling`, `atoms` filled, `duration_seconds`."""

    sites: list[tuple[float, float]]
    filling: list[int]
    atoms: int
    duration_seconds: float


class _AhsRegister(msgspec.Struct):
    sites: list[tuple[float | str, float | str]]
    filling: list[int]


class _Setup(msgspec.Struct):
    ahs_register: _AhsRegister


class _TimeSeries(msgspec.Struct):
    times: list[float | str]
    values: list[float | str]


class _Field(msgspec.Struct):
    time_series: _TimeSeries


class _Driving(msgspec.Struct):
    amplitude: _Field
    detuning: _Field
    phase: _Field


class _Hamiltonian(msgspec.Struct):
    drivingFields: list[_Driving]  # noqa: N815 (the wire's name)


class _Ahs(msgspec.Struct):
    setup: _Setup
    hamiltonian: _Hamiltonian


_DECODE = msgspec.json.Decoder(_Ahs).decode
_DECODE_FORM = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def is_ahs(body: bytes) -> bool:
    """Whether a JSON document has the form of an AHS program: a setup and a hamiltonian.

    Raises:
        BadRequest: Not a JSON object.
    """
    try:
        keys = _DECODE_FORM(body)
    except msgspec.ValidationError:
        raise BadRequest("the sequence must be a JSON object") from None
    return "setup" in keys and "hamiltonian" in keys


def read_ahs(body: bytes) -> AhsProgram:
    """Read an AHS program.

    Raises:
        Invalid: A field is missing or mistyped, a number is none or not finite, nothing is filled, or not exactly
            one driving field.
    """
    try:
        ahs = _DECODE(body)
    except msgspec.ValidationError as wrong:
        raise Invalid(readable(wrong, "the AHS program")) from None
    register = ahs.setup.ahs_register
    sites = [(_number(x), _number(y)) for x, y in register.sites]
    return AhsProgram(
        sites=sites,
        filling=register.filling,
        atoms=_atoms(register),
        duration_seconds=_duration(ahs.hamiltonian.drivingFields),
    )


def _atoms(register: _AhsRegister) -> int:
    sites, filling = len(register.sites), register.filling
    if len(filling) != sites:
        raise Invalid(f"the AHS program has {sites} sites but {len(filling)} values of filling")
    if not (atoms := sum(1 for filled in filling if filled)):
        raise Invalid("the register of the AHS program is empty")
    return atoms


def _duration(driving: list[_Driving]) -> float:
    """The last time of all series in s; their values are checked too."""
    if len(driving) != 1:
        raise Invalid(f"the AHS program has {len(driving)} driving fields, exactly one is supported")
    fields = (driving[0].amplitude, driving[0].detuning, driving[0].phase)
    times = [_number(time) for field in fields for time in field.time_series.times]
    for value in (value for field in fields for value in field.time_series.values):
        _number(value)
    return max(times, default=0.0)


def _number(value: float | str) -> float:
    """CUDA-Q writes strings of 8 decimals."""
    try:
        number = float(value)
    except ValueError:
        raise Invalid(f"the AHS program has {short(value)} where a number is needed") from None
    if not math.isfinite(number):
        raise Invalid(f"the AHS program has {short(value)} where a finite number is needed")
    return number
