"""The register of an AHS program: filled sites in order, on a layout where the device wants one."""

from __future__ import annotations

from typing import Any

from pulser import Register
from pulser.register.register_layout import RegisterLayout

from qpud.worker.ahs_series import number
from qpud.worker.sentences import Refusal

Place = tuple[float, float]


def register(sites: dict[str, Any], device: Any) -> Register:
    """The filled sites as a register that the device takes, in µm; centred unless on a calibrated layout.

    Raises:
        Refusal: Nothing is filled, or the device has only calibrated layouts and the sites lie on none.
    """
    filled = [bool(int(filling)) for filling in sites["filling"]]
    places = [(number(x) * 1e6, number(y) * 1e6) for x, y in sites["sites"]]
    atoms = [place for place, is_filled in zip(places, filled, strict=True) if is_filled]
    if not atoms:
        raise Refusal("the register of the AHS program is empty")
    if not device.requires_layout:
        return Register.from_coordinates(atoms, center=True, prefix="q")
    if not device.accepts_new_layouts:
        return _on_calibrated_layout(atoms, device)
    own = _on_own_layout(places, filled, device) if len(atoms) < len(places) else None
    return own or Register.from_coordinates(atoms, center=True, prefix="q").with_automatic_layout(device)


def _on_calibrated_layout(atoms: list[Place], device: Any) -> Register:
    for layout in device.calibrated_register_layouts.values():
        try:
            traps = layout.get_traps_from_coordinates(*atoms)
        except ValueError:
            continue
        return layout.define_register(*traps, qubit_ids=_names(atoms))
    raise Refusal(f"the sites of the AHS program are not on a calibrated layout of {device.name}")


def _on_own_layout(places: list[Place], filled: list[bool], device: Any) -> Register | None:
    """All sites as traps, the vacant ones too; None where the device wants more traps, or fewer atoms on them."""
    x, y = (sum(place[axis] for place in places) / len(places) for axis in (0, 1))
    centred = [(place[0] - x, place[1] - y) for place in places]
    layout = RegisterLayout(centred)
    atoms = [place for place, is_filled in zip(centred, filled, strict=True) if is_filled]
    found: Register = layout.define_register(*layout.get_traps_from_coordinates(*atoms), qubit_ids=_names(atoms))
    try:
        device.validate_register(found)
    except Exception:  # Pulser's exceptions have no common base (facts/EMULATORS.md §4)
        return None
    return found


def _names(atoms: list[Place]) -> list[str]:
    return [f"q{index}" for index in range(len(atoms))]
