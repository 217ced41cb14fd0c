"""Traces: what sessions did or shall do, as JSON Lines, one session per line. The format is in README.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from qpud.core.errors import BadRequest
from qpud.core.session import SHARE_UNITS, Hint

LARGEST = 1e12
"""No number of a trace exceeds this; in seconds, 30 000 years."""


class Shots(msgspec.Struct, frozen=True, kw_only=True):
    """One job. `after` is seconds from the beginning of its step to its submission."""

    shots: int
    register: str | None = None  # None: the session's own
    resource: str | None = None  # None: the session's
    after: float = 0.0


class Classical(msgspec.Struct, frozen=True, kw_only=True):
    """A step in which the session's nodes compute; the session waits for no job."""

    seconds: float


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A step that submits jobs and ends with the last of them."""

    jobs: tuple[Shots, ...]


Step = Classical | Batch


class SessionTrace(msgspec.Struct, frozen=True, kw_only=True):
    """One line: a session, and the steps that it takes `repeat` times, one after the other.

    `at` is seconds on the trace's clock, whose 0 is a midnight (UTC).
    """

    id: str
    at: float
    queue: str
    steps: tuple[Step, ...]
    user: str = "anybody"
    account: str | None = None
    resource: str | None = None  # None: the policy's DefaultResource
    share: int = 1  # units, 10 = 100 %
    hint: Hint = Hint.NONE
    nodes: int = 1
    repeat: int = 1
    expected_qpu_seconds: float | None = None
    expected_classical_seconds: float | None = None

    def resources(self, default: str) -> set[str]:
        """The resources that the session uses."""
        own = self.resource or default
        batches = [step for step in self.steps if isinstance(step, Batch)]
        return {job.resource or own for batch in batches for job in batch.jobs} or {own}


# -- reading
class Rule(NamedTuple):
    """What a key may hold, and the words for it."""

    holds: Callable[[Any], bool]
    limit: str


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= LARGEST


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= LARGEST


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


TEXT = Rule(_is_text, "a text of 1 to 200 characters")
SECONDS = Rule(_is_number, f"a number of seconds, 0 to {LARGEST:g}")
COUNT = Rule(_is_count, f"a whole number, 1 to {LARGEST:g}")
SHARE = Rule(lambda value: _is_count(value) and value <= SHARE_UNITS, f"a whole number of units, 1 to {SHARE_UNITS}")
HINT = Rule(lambda value: value in list(Hint), "one of " + ", ".join(hint for hint in Hint if hint))
OBJECTS = Rule(_is_list, "a list of one or more objects")

SESSION_KEYS = {
    "id": TEXT,
    "at": SECONDS,
    "user": TEXT,
    "account": TEXT,
    "queue": TEXT,
    "resource": TEXT,
    "share": SHARE,
    "hint": HINT,
    "nodes": COUNT,
    "repeat": COUNT,
    "steps": OBJECTS,
    "expected_qpu_seconds": SECONDS,
    "expected_classical_seconds": SECONDS,
}
REQUIRED = ("id", "at", "queue", "steps")
JOB_KEYS = {"shots": COUNT, "register": TEXT, "resource": TEXT, "after": SECONDS}
CLASSICAL_KEYS = {"classical": SECONDS}
BATCH_KEYS = {"batch": OBJECTS}


def read(lines: Iterable[str], source: str) -> list[SessionTrace]:
    """Read a trace; empty lines are passed over.

    Args:
        lines: JSON, one object per line.
        source: The file's name, for messages.

    Raises:
        BadRequest: A line breaks the format: one sentence with line, key, value and limit.
    """
    seen: dict[str, int] = {}
    sessions = [_session(text, f"{source}, line {number}", number, seen) for number, text in _numbered(lines)]
    if not sessions:
        raise BadRequest(f"{source} holds no session")
    return sessions


def _numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    return ((number, text) for number, text in enumerate(lines, 1) if text.strip())


def _session(text: str, where: str, number: int, seen: dict[str, int]) -> SessionTrace:
    try:
        fields = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise BadRequest(f"{where}: this is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BadRequest(f"{where}: a session is a JSON object, not {_shown(fields)}")
    _check(fields, SESSION_KEYS, REQUIRED, f"{where}:")
    if (first := seen.setdefault(fields["id"], number)) != number:
        raise BadRequest(f"{where}: id {_shown(fields['id'])} stands in line {first} already")
    steps = tuple(_step(step, f"{where}: step {at}:") for at, step in enumerate(fields.pop("steps"), 1))
    return SessionTrace(steps=steps, hint=Hint(fields.pop("hint", "")), **fields)


def _step(fields: dict[str, Any], where: str) -> Step:
    if "classical" in fields:
        _check(fields, CLASSICAL_KEYS, ("classical",), where)
        return Classical(seconds=fields["classical"])
    if "batch" in fields:
        _check(fields, BATCH_KEYS, ("batch",), where)
        return Batch(jobs=tuple(_job(one, f"{where} job {at}:") for at, one in enumerate(fields["batch"], 1)))
    return Batch(jobs=(_job(fields, where),))


def _job(fields: dict[str, Any], where: str) -> Shots:
    _check(fields, JOB_KEYS, ("shots",), where)
    return Shots(**fields)


def _check(fields: dict[str, Any], rules: dict[str, Rule], required: tuple[str, ...], where: str) -> None:
    for key, value in fields.items():
        if key not in rules:
            raise BadRequest(f"{where} there is no key {_shown(key)}, the keys are {', '.join(rules)}")
        if not rules[key].holds(value):
            raise BadRequest(f"{where} {key} is {_shown(value)}, it must be {rules[key].limit}")
    missing = [key for key in required if key not in fields]
    if missing:
        raise BadRequest(f"{where} {missing[0]} is missing, which every {_kind(rules)} must have")


def _kind(rules: dict[str, Rule]) -> str:
    return "session" if rules is SESSION_KEYS else "step"


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode(errors="replace")
    return text if len(text) <= 40 else text[:39] + "…"


# -- writing
def write(session: SessionTrace) -> str:
    """A session as a line of a trace, without what `read` fills in."""
    fields = _given(session)
    del fields["steps"]
    fields["steps"] = [_step_fields(step) for step in session.steps]
    return msgspec.json.encode(fields).decode()


def _step_fields(step: Step) -> dict[str, Any]:
    if isinstance(step, Classical):
        return {"classical": step.seconds}
    jobs = [_given(job) for job in step.jobs]
    return jobs[0] if len(jobs) == 1 else {"batch": jobs}


def _given(struct: SessionTrace | Shots) -> dict[str, Any]:
    """The fields that are not as by default."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(struct)}
    values = msgspec.structs.asdict(struct)
    return {name: value for name, value in values.items() if value != defaults[name]}
