"""A job as the on-prem QPU API reports it, and what its words mean for a slice (facts/CONTRACTS.md §8)."""

from __future__ import annotations

import ast
import enum
import json
import re
from datetime import datetime
from typing import Any

import msgspec

MAX_REPR = 4 << 20
"""Characters of a Python repr that are parsed; ast.literal_eval is slow and hungry."""

LARGEST_COUNT = 2**53
"""Beyond it a count is none: Python refuses to print sums of larger ones, and JSON readers round them."""


class BadAnswer(Exception):
    """The QPU reports something that cannot be used; `message` says what, in a few words."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Phase(enum.Enum):
    """What a reported status means for the slice."""

    ACTIVE = enum.auto()
    DONE = enum.auto()
    CANCELED = enum.auto()
    FAILED = enum.auto()
    UNKNOWN = enum.auto()


PHASES = {
    "PENDING": Phase.ACTIVE,
    "CREATED": Phase.ACTIVE,
    "RUNNING": Phase.ACTIVE,
    "ABORTING": Phase.ACTIVE,
    "DONE": Phase.DONE,
    "CANCELED": Phase.CANCELED,
    "CANCELLED": Phase.CANCELED,
    "ERROR": Phase.FAILED,
    "ABORTED": Phase.FAILED,
    "MISSING_CALIBRATION": Phase.FAILED,
    "INVALID": Phase.FAILED,
}
"""Job states, and the program states that a real QPU may show in their place."""

WORTH_ANOTHER_TRY = frozenset({"ABORTED", "ABORTING", "MISSING_CALIBRATION"})
"""Program states that are the QPU's affair, not the program's."""


class QpuJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job at the QPU.

    `tag` is `context.pasqman_job_id`, None without a context; `seconds` its run time by the QPU's own clock, None
    if that is not told; `shots` its nb_run.
    """

    uid: str
    status: str
    phase: Phase
    result: Any = None
    tag: str | None = None
    program_id: str | None = None
    seconds: float | None = None
    shots: int | None = None
    reason: str = ""


def read_job(data: Any) -> QpuJob:
    """Read the job object of an answer. Raises: BadAnswer."""
    if not isinstance(data, dict):
        raise BadAnswer(f"a job that is {_what(data)}, not an object")
    status = str(data.get("status")).upper()
    shots = data.get("nb_run")
    return QpuJob(
        uid=read_uid(data.get("uid")),
        status=status[:40],
        phase=PHASES.get(status, Phase.UNKNOWN),
        result=data.get("result"),
        tag=_tag(data.get("context")),
        program_id=_id_or_none(data.get("program_id")),
        seconds=seconds_between(data.get("start_datetime"), data.get("end_datetime")),
        shots=shots if type(shots) is int else None,
        reason=_words(data),
    )


def read_uid(uid: Any) -> str:
    """A job's uid as text; numbers (0 too) and texts are taken. Raises: BadAnswer."""
    if type(uid) is int or (isinstance(uid, str) and uid):
        return str(uid)
    raise BadAnswer(f"a job whose uid is {_what(uid)}")


def read_counts(result: Any, shots: int) -> dict[str, int]:
    """Counts of a result: JSON text, flat or under `counter`; an object; or the older mock's Python repr.

    Args:
        result: As reported.
        shots: Asked for; fewer are fine (shots can be lost), more are not.

    Raises:
        BadAnswer: It cannot be read, or the counts cannot be those of this slice.
    """
    found = _parsed(result) if isinstance(result, str) else result
    if isinstance(found, dict) and isinstance(found.get("counter"), dict):
        found = found["counter"]
    if not isinstance(found, dict):
        raise BadAnswer(f"a result that is {_what(found)}, not counts")
    for bits, number in found.items():
        _check_count(bits, number)
    if len({len(bits) for bits in found}) > 1:
        raise BadAnswer("bitstrings of different lengths")
    if (total := sum(found.values())) > shots:
        raise BadAnswer(f"{total} shots where {shots} were asked for")
    return {bits: number for bits, number in found.items() if number}


def _check_count(bits: Any, number: Any) -> None:
    if not isinstance(bits, str) or not re.fullmatch("[01]+", bits):
        raise BadAnswer(f"counts of {str(bits)[:40]!r}, which is no bitstring")
    if type(number) is not int or not 0 <= number <= LARGEST_COUNT:
        raise BadAnswer(f"the count {str(number)[:40]} of {bits[:40]}, which is no number of shots")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    # only a dict, or one within one, and no number that could not be printed again
    if len(text) > MAX_REPR or text.count("{") > 2 or set("([") & set(text) or re.search("0[bBoOxX]", text):
        raise BadAnswer(f"a result that is not JSON: {text[:40]!r}")
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise BadAnswer(f"a result that is not JSON: {text[:40]!r}") from None


def _tag(context: Any) -> str | None:
    tag = context.get("pasqman_job_id") if isinstance(context, dict) else None
    return tag if isinstance(tag, str) else None


def _id_or_none(value: Any) -> str | None:
    return str(value) if type(value) is int or isinstance(value, str) else None


def seconds_between(start: Any, end: Any) -> float | None:
    """The time between two stamps of the QPU. They are naive, but of one clock: only their difference is used."""
    try:
        seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (TypeError, ValueError):
        return None
    return seconds if seconds >= 0 else None


def _words(data: dict[str, Any]) -> str:
    """Why the job failed, in the QPU's own words, if it has any."""
    words = next((data[key] for key in ("error", "errors", "message", "reason") if data.get(key)), "")
    text = words if isinstance(words, str) else json.dumps(words)
    return " ".join(text.split())[:300]


def _what(value: Any) -> str:
    return "missing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
