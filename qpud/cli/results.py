"""Results for people: a bar chart of the counts, and where they come from."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from qpud.cli.tables import bars, duration, fields, terminal_columns


def result_text(result: dict[str, Any], everything: bool = False) -> str:
    """The counts of a job as a bar chart above its provenance; a result that is no counts as it came.

    Args:
        result: The API's answer.
        everything: Draw all bitstrings instead of the most frequent ones.
    """
    counts: dict[str, int] = result.get("counts") or {}
    most = len(counts) if everything else 16
    chart = bars(counts, terminal_columns() or 80, most) if counts else ""
    raw: str = result.get("result") or ""
    return "\n\n".join(part for part in (_headline(result), chart, raw, fields(_origin(result))) if part)


def _headline(result: dict[str, Any]) -> str:
    job = result["job"]
    line = f"job {job['id']} {job['state']}: {job['shots_done']} of {job['shots']} shots on {job['resource']}"
    message = result.get("message") or ""
    return f"{line}\n{message}" if message else line


def _origin(result: dict[str, Any]) -> list[tuple[str, object]]:
    slices = result.get("slices") or []
    provenance = result.get("provenance") or {}
    return [
        *((name, value) for name, value in provenance.items() if name != "spec_hash"),
        ("device spec", (result.get("spec_hash") or "")[:16]),
        ("seed", result.get("seed")),
        ("slices", _slices(slices)),
        ("QPU time", _qpu_time(result.get("qpu_seconds") or 0.0)),
    ]


def _slices(slices: list[dict[str, Any]]) -> str:
    """How many, and the shots of each, equal neighbours together: a long job has hundreds."""
    runs = [(shots, len(list(alike))) for shots, alike in groupby(one["shots_done"] for one in slices)]
    parts = [f"{number} × {shots}" if number > 1 else str(shots) for shots, number in runs]
    return f"{len(slices)}: {', '.join(parts)} shots" if slices else ""


def _qpu_time(seconds: float) -> str:
    if not seconds:
        return ""
    return duration(seconds) if seconds >= 60 else f"{seconds:.3g} s"
