"""The cheap structural check of every submitted program, and the facts qpud needs of it; no Pulser.

A 4 KB document costs tens of microseconds. What passes here can still be refused by the worker, which asks Pulser;
what Pulser lets through although it is wrong (NaN, variables as strings, 0 shots: facts/EMULATORS.md §4) is refused
here. Two program forms are read: Pulser's abstract representation (version "1") here, AHS programs in `ahs.py`.
"""

from __future__ import annotations

import enum
import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from qpud.core.ahs import AhsProgram, is_ahs, read_ahs
from qpud.core.complaints import readable, short, uncapitalised
from qpud.core.errors import BadRequest, Invalid

MAX_DEPTH = 64  # nested lists and objects; Pulser's own documents need 8, deep expressions 20
MAX_INTEGER = 2**53  # variables beyond it are not exact in JSON
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


class Kind(enum.StrEnum):
    """The form in which a program was written."""

    PULSER = "pulser"
    AHS = "ahs"


class Variable(msgspec.Struct, frozen=True, gc=False):
    """A declared variable: `type` is int or float, `size` the number of values it takes."""

    type: str
    size: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What can be known of a program without Pulser.

    `register_digest` is the sha256 hex of register and layout; use `register_hash`, which adds the mapping of
    mappable registers.
    """

    kind: Kind
    device: str | None  # the device named or embedded; None for AHS
    is_virtual: bool
    atoms: int  # of a mappable register: at most
    mappable: bool
    traps: int  # of the layout; 0 without one
    measured: bool
    variables: dict[str, Variable]
    channels: int  # declared ones
    operations: int
    register_digest: str


class _Atom(msgspec.Struct):
    name: str = ""
    qid: str | None = None
    x: float | None = None
    y: float | None = None
    z: float | None = None


class _Layout(msgspec.Struct):
    coordinates: list[tuple[float, ...]]


class _Device(msgspec.Struct):
    name: str
    is_virtual: bool = False


class _Declared(msgspec.Struct):
    type: str
    value: list[float] | None = None  # Pulser: one value unless given


class _Sequence(msgspec.Struct):
    version: str
    name: str
    register: list[_Atom]
    channels: dict[str, str]
    variables: dict[str, _Declared]
    operations: list[dict[str, Any]]
    measurement: str | None
    device: _Device | str
    layout: _Layout | None = None


_DECODE_SEQUENCE = msgspec.json.Decoder(_Sequence).decode


def inspect(text: str) -> Facts:
    """Read a program's structure.

    Args:
        text: The program as submitted.

    Raises:
        BadRequest: Not a JSON object, not valid numbers, or nested deeper than MAX_DEPTH.
        Invalid: A document of neither form, with a missing or mistyped field, or with nothing in it.
    """
    body = check_depth(text)
    try:
        return _read(body)
    except msgspec.DecodeError as wrong:
        detail = str(wrong).removeprefix("JSON is malformed: ")
        raise BadRequest(f"the sequence is not JSON: {uncapitalised(detail)}") from None
    except RecursionError:
        raise BadRequest(_too_deep()) from None


def register_hash(facts: Facts, variables: Mapping[str, Any]) -> str:
    """The sha256 hex of the atoms' places: equal ones need no new register at the QPU.

    Args:
        facts: From `inspect`.
        variables: The job's; `variables["qubits"]` places the atoms of a mappable register.
    """
    if not facts.mappable:
        return facts.register_digest
    mapping = variables.get("qubits")
    traps = sorted(mapping.values()) if isinstance(mapping, Mapping) else []
    return _digest([facts.register_digest, traps])


def check_shots(shots: object) -> int:
    """Return the number of shots if it is a positive integer.

    Raises:
        Invalid: 0, negative, a bool, a float or anything else; Pulser accepts some of these.
    """
    if isinstance(shots, bool) or not isinstance(shots, int):
        raise Invalid(f"the number of shots must be an integer, not {short(shots)}")
    if shots < 1:
        raise Invalid(f"the number of shots must be at least 1, not {shots}")
    return shots


def check_variables(facts: Facts, variables: Mapping[str, Any]) -> None:
    """Check a job's variables against the declared ones; Pulser would take strings, null and NaN.

    Args:
        facts: From `inspect`.
        variables: Values by name; "qubits" is the mapping of a mappable register.

    Raises:
        Invalid: A variable is missing, unknown, of another type or size, or not finite.
    """
    expected = set(facts.variables) | ({"qubits"} if facts.mappable else set())
    if missing := [name for name in (*facts.variables, *sorted(expected)) if name not in variables]:
        raise Invalid(f"the variable {short(missing[0])} of the sequence has no value")
    if unknown := [name for name in variables if name not in expected]:
        raise Invalid(f"the sequence declares no variable {short(unknown[0])}")
    for name, declared in facts.variables.items():
        _check_variable(name, declared, variables[name])
    if facts.mappable:
        _check_mapping(facts, variables["qubits"])


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadRequest("the sequence is not valid Unicode text") from None


def check_depth(text: str) -> bytes:
    """The text as bytes, if it is not nested deeper than MAX_DEPTH.

    At C speed: drop all but brackets, then remove innermost pairs layer by layer.

    Raises:
        BadRequest: It is, or it is no Unicode.
    """
    body = _encode(text)
    if _deeper_than_allowed(body) and _deeper_than_allowed(_STRING.sub(b"", body)):
        raise BadRequest(_too_deep())
    return body


def _deeper_than_allowed(body: bytes) -> bool:
    brackets = body.translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        fewer = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(fewer) == len(brackets):
            return len(brackets) > MAX_DEPTH
        brackets = fewer
    return bool(brackets)


def _too_deep() -> str:
    return f"the sequence is nested deeper than {MAX_DEPTH} levels"


def _read(body: bytes) -> Facts:
    try:
        return _pulser_facts(_DECODE_SEQUENCE(body))
    except msgspec.ValidationError as wrong:
        if not is_ahs(body):
            raise Invalid(readable(wrong, "the sequence")) from None
        return _ahs_facts(read_ahs(body))


def _pulser_facts(sequence: _Sequence) -> Facts:
    if sequence.version != "1":
        raise Invalid(f"the sequence has version {short(sequence.version)}, only version '1' is known")
    if not sequence.register:
        raise Invalid("the register of the sequence is empty")
    if not sequence.operations:
        raise Invalid("the sequence has no operations")
    device = sequence.device
    mappable = sequence.register[0].qid is not None
    layout = sequence.layout.coordinates if sequence.layout else []
    return Facts(
        kind=Kind.PULSER,
        device=device if isinstance(device, str) else device.name,
        is_virtual=device == "MockDevice" if isinstance(device, str) else device.is_virtual,
        atoms=len(sequence.register),
        mappable=mappable,
        traps=len(layout),
        measured=sequence.measurement is not None,
        variables=_declared(sequence.variables),
        channels=len(sequence.channels),
        operations=len(sequence.operations),
        register_digest=_digest([None if mappable else _places(sequence.register), layout]),
    )


def _places(register: list[_Atom]) -> list[tuple[float | None, float | None, float | None]]:
    places = [(atom.x, atom.y, atom.z) for atom in register]
    for number, (x, y, _) in enumerate(places):
        if x is None or y is None:
            raise Invalid(f"atom {number} of the register has no coordinates x and y")
    return places


def _declared(variables: dict[str, _Declared]) -> dict[str, Variable]:
    for name, variable in variables.items():
        if variable.type not in ("int", "float"):
            raise Invalid(f"the variable {short(name)} has type {short(variable.type)}, known are int and float")
    return {
        name: Variable(variable.type, 1 if variable.value is None else len(variable.value))
        for name, variable in variables.items()
    }


def _ahs_facts(program: AhsProgram) -> Facts:
    return Facts(
        kind=Kind.AHS,
        device=None,
        is_virtual=False,
        atoms=program.atoms,
        mappable=False,
        traps=len(program.sites),
        measured=True,
        variables={},
        channels=1,
        operations=1,
        register_digest=_digest([program.sites, program.filling]),
    )


def _check_variable(name: str, declared: Variable, value: object) -> None:
    values = value if isinstance(value, list | tuple) else [value]
    if len(values) != declared.size:
        raise Invalid(f"the variable {short(name)} takes {declared.size} values, not {len(values)}")
    for item in values:
        if not _fits(item, declared.type):
            raise Invalid(f"the variable {short(name)} takes {_WORDS[declared.type]}, not {short(item)}")


_WORDS = {"int": f"integers up to {MAX_INTEGER}", "float": "finite numbers"}


def _fits(value: object, kind: str) -> bool:
    """Whether a value may be assigned; 1000.0 counts as an integer, since JSON does not tell them apart."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return kind == "float" or (value == int(value) and abs(value) <= MAX_INTEGER)


def _check_mapping(facts: Facts, mapping: object) -> None:
    if not isinstance(mapping, Mapping) or not mapping:
        raise Invalid(f"the variable 'qubits' must map qubits to traps, not {short(mapping)}")
    if len(mapping) > facts.atoms:
        raise Invalid(f"the variable 'qubits' maps {len(mapping)} qubits, the register has {facts.atoms}")
    _check_traps(mapping.values(), facts.traps)


def _check_traps(traps: Iterable[object], available: int) -> None:
    seen = set()
    for trap in traps:
        if isinstance(trap, bool) or not isinstance(trap, int) or not 0 <= trap < available:
            raise Invalid(f"the variable 'qubits' names trap {short(trap)}, the layout has traps 0 to {available - 1}")
        if trap in seen:
            raise Invalid(f"the variable 'qubits' puts two qubits on trap {trap}")
        seen.add(trap)


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()
