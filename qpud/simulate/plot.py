"""The picture of a simulation: what `chart.py` needs, and its run under the interpreter that has matplotlib."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from qpud.core.errors import Unavailable
from qpud.simulate.measure import Figures
from qpud.simulate.tally import Flown, Tally

CHART = Path(__file__).with_name("chart.py")
DRAWING_SECONDS = 120.0
MOST_BARS = 3000
"""More slices than this are drawn as parts of time, not one by one."""
BINS = 400
QUANTILES = 200
MOST_SHARES = 10

_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


class Run(msgspec.Struct, frozen=True):
    """One simulation and its figures."""

    tally: Tally
    figures: Figures


def draw(runs: Sequence[Run], target: Path, python: Path) -> None:
    """Write an SVG: for each simulation the timeline of slices by queue, the waits and the shares.

    Args:
        runs: Made with `keeps_slices`.
        target: The file to write.
        python: The interpreter that has matplotlib, the worker's.

    Raises:
        Unavailable: It cannot be run, has no matplotlib, or cannot write the file.
    """
    content = msgspec.json.encode({"runs": [_content(run) for run in runs]})
    with TemporaryDirectory(prefix="qpud-plot-") as folder:
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        done = _run(
            [str(python), "-I", "-B", str(CHART), str(target)], content, {**environment, "MPLCONFIGDIR": folder}
        )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise Unavailable(f"{target} cannot be drawn by {python} (WorkerPython, --worker-python): {said[-1]}")


def _run(command: list[str], content: bytes, environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command, input=content, env=environment, capture_output=True, timeout=DRAWING_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(
            f"the plot cannot be drawn by {command[0]} (WorkerPython, --worker-python): {error}"
        ) from None


def _content(run: Run) -> dict[str, Any]:
    tally = run.tally
    return {
        "scheduler": run.figures.scheduler,
        "queues": tally.queues,
        "began": tally.began_at,
        "ended": tally.ended_at,
        "timelines": [_timeline(name, tally) for name in tally.resources],
        "waits": {queue: _waits(queue, tally) for queue in tally.queues},
        "shares": _shares(run.figures),
    }


def _timeline(resource: str, tally: Tally) -> dict[str, Any]:
    slices = [one for one in tally.flown if one.resource == resource]
    if len(slices) <= MOST_BARS:
        bars = {
            queue: [(one.started_at, one.ended_at - one.started_at) for one in slices if one.queue == queue]
            for queue in tally.queues
        }
        return {"resource": resource, "bars": bars}
    return {"resource": resource, "parts": {queue: _parts(queue, slices, tally) for queue in tally.queues}}


def _parts(queue: str, slices: Sequence[Flown], tally: Tally) -> list[float]:
    """The part of each of BINS equal times, 0 to 1, that a queue had the resource."""
    width = (tally.ended_at - tally.began_at) / BINS
    seconds = [0.0] * BINS
    for one in slices:
        if one.queue == queue:
            _spread(one.started_at - tally.began_at, one.ended_at - tally.began_at, width, seconds)
    return [each / width for each in seconds]


def _spread(start: float, end: float, width: float, seconds: list[float]) -> None:
    for at in range(int(start / width), min(BINS - 1, int(end / width)) + 1):
        seconds[at] += max(0.0, min(end, (at + 1) * width) - max(start, at * width))


def _waits(queue: str, tally: Tally) -> list[float]:
    """Quantiles of the waits, shortest first."""
    waits = sorted(
        (tally.ended_at if job.started_at is None else job.started_at) - job.submitted_at
        for job in tally.jobs
        if job.queue == queue
    )
    if len(waits) <= QUANTILES:
        return waits
    return [waits[at * (len(waits) - 1) // (QUANTILES - 1)] for at in range(QUANTILES)]


def _shares(figures: Figures) -> list[tuple[str, float, float]]:
    largest = sorted(figures.shares, key=lambda share: -share.entitled)[:MOST_SHARES]
    return [(share.name, share.entitled, share.served) for share in largest]
