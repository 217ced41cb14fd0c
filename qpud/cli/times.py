"""Times and durations as Slurm's commands read them: `now+10minutes`, `2026-11-24T10:00`, `1:30:00`, `2-00:00`.

    moment      now[±COUNT[UNIT]] · today · tomorrow · yesterday · midnight (the next) · noon (today)
                YYYY-MM-DD[THH:MM[:SS]][Z|±HH:MM] · HH:MM[:SS] (today)
    duration    MINUTES · MM:SS · H:MM:SS · D-HH[:MM[:SS]] · COUNTUNIT
    UNIT        seconds, minutes, hours, days, weeks; shorter forms too: 90s, 10min, 2h, 1d

A moment without zone is local wall time, as `qpud` prints it. `now±COUNT` without unit counts seconds, a duration that
is a bare number counts minutes: both as in Slurm.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta

from qpud.cli.exits import Exit, Stop

_UNITS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0, "weeks": 604800.0}
_LONGEST_SECONDS = 36_500 * 86_400.0  # a hundred years: beyond it dates are no dates any more
_COUNT = re.compile(r"(\d{1,12}(?:\.\d+)?)\s*([a-z]*)")
_RELATIVE = re.compile(r"now\s*([+-])\s*(.+)")
_CLOCK = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?")
_COLONS = re.compile(r"(?:(\d{1,6})-)?(\d{1,6})(?::(\d{1,2}))?(?::(\d{1,2}))?")


def parse_time(text: str, now: float) -> float:
    """A moment, past or future.

    Args:
        text: As in the table above; case and blanks around do not matter.
        now: Seconds since the epoch, UTC.

    Returns:
        Seconds since the epoch, UTC.

    Raises:
        Stop: The text is no time (USAGE).
    """
    said = text.strip().lower()
    try:
        return _moment(said, now)
    except (ValueError, OverflowError):
        forms = "now+10minutes, 10:00, 2026-11-24 or 2026-11-24T10:00"
        raise Stop(f"{text!r} is no time: write it as {forms}", Exit.USAGE) from None


def parse_duration(text: str) -> float:
    """A length of time in seconds, above 0.

    Args:
        text: As in the table above; a bare number is minutes.

    Raises:
        Stop: The text is no duration above 0 (USAGE).
    """
    try:
        seconds = _duration(text.strip().lower())
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_SECONDS:
        forms = "90minutes, 2h, 1:30:00, 2-00:00 or 90, which is minutes"
        raise Stop(f"{text!r} is no duration above 0: write it as {forms}", Exit.USAGE)
    return seconds


def _moment(said: str, now: float) -> float:
    today = datetime.fromtimestamp(now).date()
    if said == "now":
        return now
    if (relative := _RELATIVE.fullmatch(said)) is not None:
        distance = _counted(relative[2], "seconds")
        return now + distance if relative[1] == "+" else now - distance
    if said in (words := _words(today)):
        return words[said].timestamp()
    if _CLOCK.fullmatch(said):
        padded = said if said[2] == ":" else f"0{said}"
        return datetime.combine(today, time.fromisoformat(padded)).timestamp()
    return datetime.fromisoformat(said.upper()).timestamp()


def _words(today: date) -> dict[str, datetime]:
    """Words for a day are its first moment, local time."""
    days = {"yesterday": -1, "today": 0, "tomorrow": 1, "midnight": 1}
    firsts = {word: datetime.combine(today + timedelta(days=days[word]), time.min) for word in days}
    return {**firsts, "noon": datetime.combine(today, time(12))}


def _duration(said: str) -> float:
    if said.isdecimal() or not (":" in said or "-" in said):
        return _counted(said, "minutes")
    found = _COLONS.fullmatch(said)
    if found is None:
        raise ValueError(said)
    days, *rest = found.groups()
    numbers = [int(number) for number in rest if number is not None]
    if days is None:  # MM:SS, H:MM:SS
        return float(sum(number * unit for number, unit in zip(reversed(numbers), (1, 60, 3600), strict=False)))
    return int(days) * 86400.0 + sum(number * unit for number, unit in zip(numbers, (3600, 60, 1), strict=False))


def _counted(said: str, unit: str) -> float:
    """`10minutes`, `10 min` or, in the given unit, `10`, in seconds. Raises: ValueError."""
    found = _COUNT.fullmatch(said)
    if found is None:
        raise ValueError(said)
    seconds = float(found[1]) * _unit(found[2] or unit)
    if seconds > _LONGEST_SECONDS:
        raise ValueError(said)
    return seconds


def _unit(word: str) -> float:
    """Seconds of a unit by its name or any beginning of it: `m` and `min` are minutes."""
    named = next((unit for unit in _UNITS if unit.startswith(word)), None)
    if named is None:
        raise ValueError(word)
    return _UNITS[named]
