"""How a refusal quotes the program that it refuses: short, and in words."""

from __future__ import annotations

import msgspec


def readable(wrong: msgspec.ValidationError, what: str) -> str:
    """msgspec's complaint as a sentence about `what`, such as "the sequence"."""
    message = str(wrong)
    if message.startswith("Object missing required field"):
        return f"{what} lacks the {uncapitalised(message).removeprefix('object missing required ')}"
    return f"{what} is malformed: {uncapitalised(message)}"


def uncapitalised(message: str) -> str:
    """A message that goes on after a colon."""
    return message[:1].lower() + message[1:]


def short(value: object) -> str:
    """A value's repr in at most 60 characters."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
