"""Programs of resources that are not Pulser's: payloads, checked for their shape only."""

from __future__ import annotations

import hashlib

from qpud.core.errors import Invalid
from qpud.core.payload import read_payload
from qpud.core.resource import ResourcePolicy
from qpud.core.verbs import JobRequest
from qpud.drivers.base import Program


def payload_program(policy: ResourcePolicy, ask: JobRequest) -> Program:
    """The program of a job for an opaque resource; each payload counts as a set-up of its own.

    Raises:
        BadRequest, Invalid: It is none that the resource could take.
    """
    if policy.qrmi_type is not None:
        read_payload(ask.sequence, policy.qrmi_type)
    if ask.variables:
        raise Invalid(f"a payload for {policy.name} takes no variables")
    found = hashlib.sha256(ask.sequence.encode()).hexdigest()
    return Program(sequence=ask.sequence, sequence_hash=found, register_hash=found)
