"""Programs as Pulser sees them: read, build, measure, move to the resource's device, judge.

The embedded device of a sequence is the user's and may be forged; only a move to the resource's own spec
(`with_new_device(strict=True)`: samples unchanged) checks its limits. Everything here runs in a child with a
memory limit: the value 1e9 of a variable grows a 4 KB document to 24 GB (facts/EMULATORS.md §0).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pulser
import pulser.sampler
from pulser import Sequence
from pulser.backend.abc import Backend
from pulser.devices import Device, VirtualDevice

from qpud.worker import ahs
from qpud.worker.sentences import Refusal
from qpud.worker.wire import Message

MAX_CHANNEL_MATCHES = 4096  # with_new_device tries (device channels) ** (declared channels)
MAX_ATOMS_VIRTUAL = 1000  # a virtual device states no limit, and Pulser compares all pairs
KEPT_DEVICES = 8


class Devices:
    """Device specs by hash, deserialised once."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def get(self, spec: Message) -> Any:
        """The Pulser device of a spec {hash, text}."""
        if spec["hash"] not in self._known:
            if len(self._known) >= KEPT_DEVICES:
                self._known.clear()
            self._known[spec["hash"]] = device_from_text(spec["text"])
        return self._known[spec["hash"]]


def device_from_text(text: str) -> Any:
    """A device from its abstract representation, virtual or real."""
    virtual = json.loads(text).get("is_virtual", False)
    return (VirtualDevice if virtual else Device).from_abstract_repr(text)


def device_spec(name: str) -> Message:
    """The abstract representation of a Pulser device, or of the file with it: {name, text, max_runs, is_virtual}.

    Raises:
        Refusal: No such device or file, or the file holds none.
    """
    if "/" in name or name.endswith(".json"):
        device, text = _device_of_file(Path(name))
    else:
        device = getattr(pulser.devices, name, None)
        if not isinstance(device, Device | VirtualDevice):
            raise Refusal(f"Pulser {pulser.__version__} knows no device {name[:60]!r}")
        text = device.to_abstract_repr()
    virtual = isinstance(device, VirtualDevice)
    return {"name": device.name, "text": text, "max_runs": device.max_runs, "is_virtual": virtual}


def _device_of_file(path: Path) -> tuple[Any, str]:
    try:
        text = path.read_text()
        return device_from_text(text), text
    except (OSError, ValueError) as wrong:
        raise Refusal(f"the device file {path} cannot be read: {wrong}") from None


def load(program: Message, devices: Devices) -> Sequence:
    """The program as the resource would run it: variables assigned, measured, on the resource's device.

    Args:
        program: {sequence, variables, spec: {name, hash, text, accepts_virtual}}.
        devices: Where specs are kept.

    Raises:
        Refusal, or whatever Pulser raises: the program cannot run.
    """
    spec, text = program["spec"], program["sequence"]
    device = devices.get(spec)
    document = json.loads(text)
    if ahs.is_ahs(document):
        return ahs.convert(document, device)
    _check_document(document, virtual_allowed=spec.get("accepts_virtual", False))
    sequence = _built(Sequence.from_abstract_repr(text), program.get("variables") or {})
    sequence = _measured(sequence)
    if spec.get("accepts_virtual") and isinstance(sequence.device, VirtualDevice):
        Backend.validate_sequence(sequence)
        return _not_empty(sequence)
    return _on(sequence, device)


def validate(request: Message, devices: Devices) -> Message:
    """Judge a program {sequence, variables, shots, spec}: {} if it can run, else Refusal or Pulser's exception."""
    shots = request["shots"]
    if isinstance(shots, bool) or not isinstance(shots, int) or shots < 1:
        raise Refusal(f"the number of shots must be an integer of at least 1, not {str(shots)[:40]}")
    sequence = load(request, devices)
    limit = request["spec"].get("max_runs")
    if isinstance(sequence.device, VirtualDevice):
        limit = sequence.device.max_runs or limit
    if limit and shots > limit:
        raise Refusal(f"{shots} shots exceed the maximum of {limit} of {sequence.device.name}")
    return {}


def build(request: Message, devices: Devices) -> Message:
    """The program in the form a QPU takes: {text}."""
    return {"text": load(request, devices).to_abstract_repr(skip_validation=True)}


def _check_document(document: Any, *, virtual_allowed: bool) -> None:
    """What Pulser answers with a puzzle: a list, an unknown device, no atoms, too many of them."""
    if not isinstance(document, dict):
        raise Refusal("the sequence must be a JSON object")
    device, register = document.get("device"), document.get("register")
    if isinstance(device, str) and not hasattr(pulser.devices, device):
        raise Refusal(f"Pulser {pulser.__version__} knows no device {device[:60]!r}")
    if register == []:
        raise Refusal("the register of the sequence is empty")
    if virtual_allowed and isinstance(register, list) and len(register) > MAX_ATOMS_VIRTUAL:
        raise Refusal(f"{len(register)} atoms exceed the maximum of {MAX_ATOMS_VIRTUAL} on a virtual device")


def _built(sequence: Sequence, variables: Message) -> Sequence:
    if not (sequence.is_parametrized() or sequence.is_register_mappable()):
        return sequence
    built = sequence.build(**variables)
    _check_finite(pulser.sampler.sample(built).channel_samples.values())
    return built


def _check_finite(channels: Iterable[Any]) -> None:
    """Expressions can divide by zero, and no emulator survives NaN."""
    for channel in channels:
        for samples in (channel.amp, channel.det, channel.phase):
            if not math.isfinite(float(abs(samples.as_array()).sum())):
                raise Refusal("an expression of the sequence is not a finite number with these variables")


def _measured(sequence: Sequence) -> Sequence:
    """The sequence with a measurement, added where only one basis is addressed (as RemoteConnection does)."""
    if sequence.is_measured():
        return sequence
    bases = sequence.get_addressed_bases()
    if len(bases) > 1:
        raise Refusal(f"the sequence is not measured and addresses {len(bases)} bases: end it with measure()")
    _not_empty(sequence)
    sequence.measure(bases[0])
    return sequence


def _not_empty(sequence: Sequence) -> Sequence:
    if sequence.is_empty() or not sequence.get_addressed_bases():
        raise Refusal("the sequence has no operations")
    return sequence


def _on(sequence: Sequence, device: Any) -> Sequence:
    if sequence.device != device:
        declared, offered = len(sequence.declared_channels), len(device.channels) + len(device.dmm_channels)
        if declared > 1 and offered**declared > MAX_CHANNEL_MATCHES:
            raise Refusal(f"the sequence declares {declared} channels, too many to match with {device.name}")
        sequence = sequence.with_new_device(device, strict=True)
    Backend.validate_sequence(sequence, mimic_qpu=isinstance(device, Device))
    return _not_empty(sequence)
