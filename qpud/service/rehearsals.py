"""What a session may rehearse, and where: faults on emulators and simulated QPUs, the rest on emulators only."""

from __future__ import annotations

from qpud.core.errors import Invalid, NotFound
from qpud.core.faults import FaultPlan
from qpud.core.policy import Policy
from qpud.core.rehearsal import Rehearsal
from qpud.core.terms import DriverKind

HARMLESS = frozenset({DriverKind.EMULATOR, DriverKind.SIMULATED})
"""Drivers of resources on which faults may be injected."""


def check_session(policy: Policy, asked: Rehearsal) -> None:
    """Check what does not depend on the resource.

    Raises:
        NotFound: The QPU whose place is taken does not exist.
        Invalid: It is an emulator, or takes other programs than Pulser's.
    """
    if not asked.like:
        return
    if asked.like not in policy.resources:
        raise NotFound(f"resource {asked.like[:64]!r} does not exist: like is one of {_qpus(policy)}")
    if policy.resources[asked.like].driver is DriverKind.EMULATOR:
        raise Invalid(f"{asked.like} is an emulator: like names a QPU, one of {_qpus(policy)}")
    if policy.resources[asked.like].is_opaque:
        raise Invalid(f"{asked.like} takes no Pulser sequences: like names a QPU that does, one of {_qpus(policy)}")


def check_resource(policy: Policy, asked: Rehearsal, resource: str) -> None:
    """Check that a resource takes part in what a session rehearses.

    Raises:
        Invalid: Faults at a QPU, or an emulator's options elsewhere.
    """
    driver = policy.resources[resource].driver
    if asked.faults != FaultPlan() and driver not in HARMLESS:
        raise Invalid(
            f"faults are injected on emulators and simulated QPUs only: {resource} is neither (driver {driver})"
        )
    if asked.needs_emulator and driver is not DriverKind.EMULATOR:
        raise Invalid(
            f"like, emulator and bond dimension are for resources with driver emulator: {resource} has driver {driver}"
        )


def _qpus(policy: Policy) -> str:
    qpus = (name for name, one in policy.resources.items() if one.driver is not DriverKind.EMULATOR)
    return ", ".join(name for name in qpus if not policy.resources[name].is_opaque) or "none"
