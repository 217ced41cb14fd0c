"""Exceptions of Pulser and its libraries as one sentence for the user, never a dump.

A schema error's text is ten times the document (facts/EMULATORS.md §4); the detail of a SwitchDeviceError is in
its cause; some mistakes surface as AttributeError or IndexError.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_LENGTH = 300


class Refusal(Exception):
    """What the user asked for cannot be done; the message is one sentence for him."""


class OutOfMemory(Exception):
    """A memory limit was reached; the message is one sentence."""


def sentence(error: BaseException) -> str:
    """One sentence, at most MAX_LENGTH characters, that says what is wrong with the sequence."""
    if type(error).__name__ in ("ValidationError", "JsonSchemaException"):
        return shorten(f"the sequence does not follow Pulser's schema: {_schema_detail(error)}")
    if type(error).__name__ == "SwitchDeviceError" and error.__cause__ is not None:
        return shorten(str(error.__cause__))
    if isinstance(error, ImportError):
        return f"the worker's interpreter lacks the package {error.name}"
    if isinstance(error, json.JSONDecodeError):
        return shorten(f"the sequence is not JSON: {error}")
    if isinstance(error, RecursionError):
        return "the sequence is nested too deeply for Pulser"
    if isinstance(error, AttributeError | LookupError | AssertionError | ArithmeticError):
        return shorten(f"Pulser cannot read the sequence ({type(error).__name__}: {error})")
    return shorten(str(error)) or f"Pulser refused the sequence ({type(error).__name__})"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in Python, NumPy or torch's allocator."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and "allocate memory" in str(error)


def size(amount: int) -> str:
    """A number of bytes as a person writes it: 2 GiB, 512 MiB."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if amount >= factor:
            return f"{amount / factor:.3g} {unit}"
    return f"{amount} bytes"


def shorten(text: str) -> str:
    """Text on one line, several sentences joined by semicolons, cut at MAX_LENGTH characters."""
    line = re.sub(r"[.] (?=[A-Z])", "; ", " ".join(text.split()))
    return line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 3]}..."


def _schema_detail(error: Any) -> str:
    """The innermost complaint of a jsonschema error and its place."""
    error = _innermost(error)
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    return f"{error.message[:200]} - at `${path}`"


def _innermost(error: Any) -> Any:
    while getattr(error, "context", None):
        variants: dict[Any, list[Any]] = {}
        for inner in error.context:
            variants.setdefault(inner.relative_schema_path[0], []).append(inner)
        meant = [inner for inner in variants.values() if not _is_another_kind(inner)] or list(variants.values())
        error = max((inner for group in meant for inner in group), key=lambda inner: len(inner.absolute_path))
    return error


def _is_another_kind(errors: list[Any]) -> bool:
    """Whether a variant was not meant: another tag, or the atoms of another kind of register."""
    return any(
        {"op", "kind", "register", "layout"} & {inner.absolute_path[-1], inner.absolute_path[0]}
        for inner in errors
        if inner.absolute_path
    )
