"""Pulser's EmulationConfig as clients send it with a batch: what would change the counts is refused, not ignored."""

from __future__ import annotations

import json
from typing import Any

from qpud.core.errors import Invalid

_PLAIN: dict[str, Any] = {
    "initial_state": None,
    "with_modulation": False,
    "interaction_matrix": None,
    "prefer_device_noise_model": False,
    "n_trajectories": 1,
    "with_noise": False,
}
"""Settings that must be as here: emulations start in the ground state, without noise or modulation."""


def shots_of(text: str) -> int | None:
    """The shots that a configuration asks for; None if it says nothing.

    Precision, bond dimension, GPUs and the like are the resource's own and need no word here.

    Args:
        text: Its abstract representation, or a legacy configuration, as JSON.

    Raises:
        Invalid: No JSON object, or something that this daemon's resources do not do.
    """
    try:
        config = json.loads(text)
        json.dumps(config, ensure_ascii=False).encode()  # half a character could not be told back
    except (ValueError, RecursionError):
        raise Invalid("the backend configuration is not JSON") from None
    if not isinstance(config, dict):
        raise Invalid("the backend configuration is no JSON object")
    for name, plain in _PLAIN.items():
        if config.get(name, plain) != plain:
            raise Invalid(f"{name}={str(config[name])[:40]} of the backend configuration is not possible here")
    _check_noise(config.get("noise_model"))
    asked = [_shots_of_observable(one) for one in _listed(config, "observables")]
    shots = next((one for one in asked if one is not None), config.get("default_num_shots"))
    return shots if type(shots) is int else None


def _listed(found: dict[str, Any], name: str) -> list[Any]:
    """A field that is a list, or missing. Raises: Invalid."""
    values = found.get(name) or []
    if not isinstance(values, list):
        raise Invalid(f"{name} of the backend configuration is {str(values)[:40]}, no list")
    return values


def _check_noise(model: Any) -> None:
    kinds = _listed(model, "noise_types") if isinstance(model, dict) else None
    if kinds:
        raise Invalid(f"noise {', '.join(map(str, kinds))[:60]} of the backend configuration is not possible here")


def _shots_of_observable(observable: Any) -> int | None:
    """The shots of bitstrings at the end. Raises: Invalid for anything else."""
    kind = observable.get("observable") if isinstance(observable, dict) else observable
    if kind != "bitstrings":
        raise Invalid(
            f"observable {str(kind)[:40]} is not possible here: qpud gives bitstrings, at the sequence's end"
        )
    if not isinstance(observable, dict):
        return None
    if observable.get("evaluation_times") not in (None, [1.0]):
        raise Invalid("bitstrings before the sequence's end are not possible here: leave out evaluation_times")
    shots = observable.get("num_shots")
    return shots if type(shots) is int else None
