"""Types of options that take numbers: a wrong one is refused in terms of the option, before anything is asked."""

from __future__ import annotations

import argparse
from collections.abc import Callable

_LONGEST = 20  # characters of a number that is read


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number.

    Args:
        least: The smallest that is taken, >= 0.
        most: The largest.
    """

    def read(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) <= _LONGEST and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number, {least} to {most}")

    return read


def factor(most: float) -> Callable[[str], float]:
    """The type of an option that takes a number above 0, and at most `most`."""
    return _number(lambda value: 0 < value <= most, f"a number above 0, up to {most:.0f}")


def seconds() -> Callable[[str], float]:
    """The type of an option that takes a time in seconds, 0 or more."""
    return _number(lambda value: 0 <= value < float("inf"), "a number of seconds, 0 or more")


def _number(fits: Callable[[float], bool], words: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if fits(value):
            return value
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not {words}")

    return read
