"""Payloads: programs that qpud hands on as they are, to resources that are not Pulser's (the driver `qrmi`).

A payload is the JSON object that qrmi's own `task_runner` reads for such a resource. Its meaning is the resource's
affair: here it is only looked at for its shape, and kept as one program that cannot be cut into slices.
"""

from __future__ import annotations

from typing import Any

import msgspec

from qpud.core.complaints import short
from qpud.core.errors import BadRequest, Invalid
from qpud.core.sequence import check_depth
from qpud.core.terms import QrmiType

_IBM = (("input", "parameters"), ("program_id",))
FIELDS: dict[QrmiType, tuple[tuple[str, ...], ...]] = {
    QrmiType.IBM_QUANTUM_SYSTEM: _IBM,
    QrmiType.IBM_QUANTUM_COMPUTE_SERVICE: _IBM,
    QrmiType.QISKIT_RUNTIME_SERVICE: _IBM,
    QrmiType.IQM_SERVER: (("iqmjson",), ("job_type",), ("use_timeslot",), ("tag",)),
    QrmiType.ALICE_BOB_FELIS: (("human_qir",), ("input_params",)),
    QrmiType.OQTOPUS: (("job_spec",),),
}
"""What a payload must hold, by kind of resource; each with its other names. The first name is the package's."""


def read_payload(text: str, kind: QrmiType) -> dict[str, Any]:
    """The fields of a payload, under the package's names.

    Args:
        text: As submitted.
        kind: Of the resource.

    Raises:
        BadRequest: It is no JSON, or nested too deeply.
        Invalid: It is no object, or lacks what such a resource needs.
    """
    body = check_depth(text)
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as wrong:
        raise BadRequest(f"the payload is not JSON: {str(wrong).removeprefix('JSON is malformed: ')}") from None
    if not isinstance(found, dict):
        raise Invalid(f"the payload must be a JSON object, not {short(found)}")
    return {names[0]: _field(found, names, kind) for names in FIELDS[kind]}


def _field(found: dict[str, Any], names: tuple[str, ...], kind: QrmiType) -> Any:
    for name in names:
        if name in found:
            return found[name]
    raise Invalid(f"the payload lacks {' or '.join(names)}: a resource of type {kind} needs it")
