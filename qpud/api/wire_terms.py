"""What wire types are made of: simple types, and times, which are RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

from qpud.core.errors import BadRequest

Shots = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Name = Annotated[str, Meta(max_length=255)]
Whole = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""An integer that every JSON reader keeps exactly."""
Variable = Whole | float | list[Whole | float] | dict[str, Whole]
"""A number, a list of numbers, or the atoms of a mappable register."""
Tags = Annotated[list[Name], Meta(max_length=32)]
Day = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, examples=["2026-11-24", "2026-11-24T10:00:00Z"])]
"""A moment in a query string: a date is its first moment, a time without zone is UTC."""


def moment(at: float | None) -> datetime | None:
    """Seconds since the epoch as a wire time; None for never, as an unlimited expiry is."""
    if at is None or at > 253402300799.0:  # the end of year 9999
        return None
    return datetime.fromtimestamp(at, UTC)


def seconds(at: datetime | None) -> float | None:
    """A wire time as seconds since the epoch; a time without zone is taken as UTC."""
    if at is None:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def instant(day: str | None) -> float | None:
    """A `Day` as seconds since the epoch. Raises: BadRequest when it is none."""
    if day is None:
        return None
    try:
        return seconds(datetime.fromisoformat(day))
    except (ValueError, OverflowError):
        raise BadRequest(f"{day[:40]!r} is no time: write it as 2026-11-24 or 2026-11-24T10:00:00Z, UTC") from None
