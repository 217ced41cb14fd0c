"""Text for terminals: aligned tables, durations, bar charts. Plain: no colour, no box drawing, greppable."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime

GAP = "  "


def width_of(text: str) -> int:
    """Terminal columns of a text: East Asian wide characters and emoji take two, combining marks none."""
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Cf", "Cc"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def printable(value: object) -> str:
    """A cell's text: None as "-", control characters (escape sequences of others' job names) as "?"."""
    text = "-" if value is None or value == "" else str(value)
    return "".join("?" if unicodedata.category(char) in ("Cc", "Cf") else char for char in text)


def clip(text: str, columns: int) -> str:
    """Shorten a text to so many columns, ending in "…" if anything was cut."""
    if width_of(text) <= columns:
        return text
    kept = ""
    for char in text:
        if width_of(kept + char) > columns - 1:
            break
        kept += char
    return kept + "…"


def table(header: Sequence[str], rows: Sequence[Sequence[object]], columns: int | None = None) -> str:
    """Align rows under a header; numbers to the right, the last column clipped to the terminal.

    Args:
        header: Column titles; one that starts with ">" is aligned to the right.
        rows: Cells; None prints as "-".
        columns: Terminal width; None means unlimited.
    """
    right = [title.startswith(">") for title in header]
    cells = [[title.lstrip(">") for title in header], *([printable(cell) for cell in row] for row in rows)]
    widths = [max(width_of(row[i]) for row in cells) for i in range(len(header))]
    lines = (GAP.join(_pad(*cell) for cell in zip(row, widths, right, strict=True)).rstrip() for row in cells)
    return "\n".join(line if columns is None else clip(line, columns) for line in lines)


def _pad(text: str, width: int, right: bool) -> str:
    fill = " " * (width - width_of(text))
    return fill + text if right else text + fill


def fields(pairs: Sequence[tuple[str, object]]) -> str:
    """Print `name  value` lines, leaving out empty values; further lines of a value are indented."""
    shown = [(name, str(value)) for name, value in pairs if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    indent = "\n" + " " * (width + len(GAP))
    return "\n".join(name.ljust(width) + GAP + indent.join(map(printable, v.splitlines())) for name, v in shown)


def bars(counts: Mapping[str, int], columns: int, most: int = 16) -> str:
    """Draw a bar chart of the most frequent bitstrings, longest first.

    Args:
        counts: Shots per bitstring.
        columns: Terminal width.
        most: How many bars to draw; a last line tells how many bitstrings were left out.
    """
    total = sum(counts.values())
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]
    if not total:
        return "no shots"
    digits = len(str(top[0][1]))
    room = max(columns - len(top[0][0]) - digits - 13, 8)
    lines = [_bar(bits, n, total, n / top[0][1] * room, digits) for bits, n in top]
    rest = len(counts) - len(top)
    return "\n".join(lines + ([f"… and {rest} more, see --all"] if rest else []))


def _bar(bits: str, shots: int, total: int, length: float, digits: int) -> str:
    return f"{bits}  {shots:>{digits}}  {shots / total:6.1%}  {'█' * max(round(length), 1)}"


def duration(seconds: float | None) -> str:
    """Seconds as Slurm writes them: 0:05, 1:02:03, 2-03:04:05."""
    if seconds is None:
        return "-"
    whole = max(int(seconds), 0)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{days}-{hours:02}:{minutes:02}:{secs:02}"
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"


def clock(iso: str | None) -> str:
    """An ISO-8601 time of the wire as local wall time, to the second."""
    if not iso:
        return "-"
    return datetime.fromisoformat(iso).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def about(iso: str | None) -> str:
    """A forecast of the wire as local wall time: ~14:32 today, ~Wed 14:32 within six days, else ~2026-12-24."""
    if not iso:
        return "-"
    at = datetime.fromisoformat(iso).astimezone()
    days = (at.date() - datetime.now().astimezone().date()).days
    if days == 0:
        return at.strftime("~%H:%M")
    return at.strftime("~%a %H:%M" if abs(days) < 7 else "~%Y-%m-%d")


def terminal_columns() -> int | None:
    """The terminal's width, or None when the output goes to a file or pipe and must not be cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
