"""What qrmi's words mean: its statuses, its errors, its targets.

qrmi classifies few errors; those of HTTP begin with `Status: 403 Forbidden, Fail …` (facts/CONTRACTS.md §1).
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from qpud.drivers.base import DeviceSpec, Refused, Unreachable
from qpud.drivers.onprem_job import Phase
from qpud.drivers.qrmi_process import Told
from qpud.drivers.remote import THE_PROGRAMS_FAULT
from qpud.drivers.spec import read_spec

PHASES = {
    "Queued": Phase.ACTIVE,
    "Running": Phase.ACTIVE,
    "Completed": Phase.DONE,
    "Cancelled": Phase.CANCELED,
    "Failed": Phase.FAILED,
}
"""qrmi's TaskStatus."""
PAYLOADS_FAULT = frozenset(
    {"UnsupportedPayloadError", "InvalidInputError", "OverflowError", "TypeError", "ValueError", "KeyError"}
)
"""Errors that the same payload would meet again; nothing was sent, or the resource refused it."""
SITES_FAULT = frozenset(
    {
        "ConfigError",
        "EnvVarNotSetError",
        "AuthenticationFailedError",
        "ResourceNotFoundError",
        "UnsupportedFunctionError",
    }
)
"""Errors that an operator can end; nothing was accepted."""
MAYBE_ACCEPTED = frozenset({408, 500, 502, 504})
"""Answers after which a task may exist nevertheless."""
_STATUS = re.compile(r"Status: (\d{3})\b")


def http_status(told: Told) -> int | None:
    """The HTTP status in qrmi's words, if there is one."""
    found = _STATUS.search(told.message)
    return int(found[1]) if found else None


def refusal_of(name: str, told: Told) -> Refused | None:
    """The refusal in an error of task_start; None if a task may exist nevertheless."""
    status = http_status(told)
    message = f"resource {name} refused the slice: {told.message}"
    if told.kind in PAYLOADS_FAULT or status in THE_PROGRAMS_FAULT:
        return Refused(message, transient=False)
    if told.kind in SITES_FAULT or (status is not None and status not in MAYBE_ACCEPTED):
        return Refused(message, transient=True)
    return None


def is_unknown_task(told: Told) -> bool:
    """Whether the resource says that it knows no such task."""
    return told.kind == "TaskNotFoundError" or http_status(told) == 404


def spec_of(name: str, target: Any, *, is_pulser: bool) -> DeviceSpec:
    """The device spec in a target. Raises: Unreachable if a Pasqal resource shows none."""
    try:
        found = json.loads(target)
    except (TypeError, ValueError, RecursionError):
        found = target
    if is_pulser:
        return _pulser_spec(name, found)
    text = json.dumps({"name": name, "target": found}, sort_keys=True, separators=(",", ":"))
    return DeviceSpec(name=name, text=text, hash=hashlib.sha256(text.encode()).hexdigest())


def _pulser_spec(name: str, found: Any) -> DeviceSpec:
    """qrmi wraps specs as {"device_type", "specs"}, of pasqal-local in a list."""
    one = found[0] if isinstance(found, list) and found else found
    if not isinstance(one, dict):
        raise Unreachable(f"resource {name} reports no device spec: its target is {str(one)[:40]!r}")
    kind = str(one.get("device_type") or "").upper()
    return read_spec(name, one.get("specs", one), is_emulator=kind.startswith("EMU"))
