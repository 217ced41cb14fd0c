"""How the cloud dialect names things: device types are resources, projects are accounts, users are uids."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request

from qpud.api.query import selected_resource
from qpud.core.errors import Invalid
from qpud.core.policy import Policy

if TYPE_CHECKING:
    from qpud.api.parts import Parts

NO_ACCOUNT = "default"
_NAMESPACE = uuid.UUID("5b0c9a4e-6c0f-4f0e-9d53-6d1f3c1d7a52")  # ours alone: makes the same ids at every site


class _Device(msgspec.Struct):
    name: str


class _Sequence(msgspec.Struct):
    device: _Device | str | None = None


_sequence = msgspec.json.Decoder(_Sequence)


def project_id(account: str | None) -> str:
    """The project that stands for an account: clients want a uuid."""
    return str(uuid.uuid5(_NAMESPACE, account or NO_ACCOUNT))


def device_type(policy: Policy, resource: str) -> str:
    """The name of a resource in this dialect: its CloudName, else its own."""
    known = policy.resources.get(resource)
    return (known.cloud_name if known is not None else None) or resource


def named_resources(policy: Policy, name: str) -> list[str]:
    """The resources that a device type may mean, by CloudName or name, in whatever case."""
    wanted = name.upper()
    by_alias = [one for one, known in policy.resources.items() if (known.cloud_name or "").upper() == wanted]
    return by_alias or [one for one in policy.resources if one.upper() == wanted]


async def resource_of(parts: Parts, request: Request, named: str | None, sequence: str | None) -> str:
    """The resource of a submission: its device type, else that of the URL, else the one with the sequence's device.

    Raises:
        NotFound: The device type names no resource.
        Invalid: Nothing names one.
    """
    if named is not None:
        found = named_resources(parts.service.policy, named) or await _with_device(parts, named)
        return found[0] if found else parts.service.resource_name(named)
    if (selected := selected_resource(request)) is not None:
        return parts.service.resource_name(selected)
    if sequence is None or (device := _device_of(sequence)) is None:
        return parts.service.resource_name(None)
    found = named_resources(parts.service.policy, device) or await _with_device(parts, device)
    if not found:
        types = ", ".join(device_type(parts.service.policy, one) for one in parts.service.policy.resources)
        raise Invalid(f"no resource has the sequence's device {device[:64]}: give a device_type, one of {types}")
    return found[0]


async def _with_device(parts: Parts, device: str) -> list[str]:
    """The resources whose device spec has this name, the default one first."""
    default = parts.service.policy.default_resource
    found = [view.name for view in await parts.service.resources() if (view.device or "").upper() == device.upper()]
    return sorted(found, key=lambda name: name != default)


def _device_of(sequence: str) -> str | None:
    try:
        device = _sequence.decode(sequence).device
    except (ValueError, RecursionError):  # the service says in its own words what is wrong with it
        return None
    return device.name if isinstance(device, _Device) else device
