"""Draws what `plot.py` sends: `python chart.py TARGET < JSON`.

Runs under the worker's interpreter, so it imports the standard library and matplotlib and nothing of qpud.
"""

from __future__ import annotations

import json
import sys
from typing import Any

# Okabe and Ito: told apart also by those who see fewer colours
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
INK = "#333333"
HOUR = 3600.0

Axes = Any
Run = dict[str, Any]


def main(target: str) -> None:
    """Read the runs from standard input and write the SVG."""
    runs = json.load(sys.stdin)["runs"]
    pyplot = _pyplot()
    lines = sum(len(run["timelines"]) for run in runs)
    figure = pyplot.figure(figsize=(13, 0.6 + 1.5 * lines + 2.8 * len(runs)), layout="constrained")
    parts = figure.subfigures(len(runs), 1, squeeze=False)[:, 0]
    for part, run in zip(parts, runs, strict=True):
        _draw_run(part, run)
    figure.savefig(target, format="svg", metadata={"Date": None})


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        sys.exit("it has no matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "qpud",  # the same run gives the same file
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": INK,
            "axes.titlelocation": "left",
        }
    )
    from matplotlib import pyplot

    return pyplot


def _draw_run(part: Any, run: Run) -> None:
    part.suptitle(run["scheduler"], x=0.01, ha="left", weight="bold")
    lines = len(run["timelines"])
    axes = part.subplot_mosaic(
        [[f"line {at}"] * 2 for at in range(lines)] + [["waits", "shares"]], height_ratios=[1.0] * lines + [1.8]
    )
    colours = {queue: COLOURS[at % len(COLOURS)] for at, queue in enumerate(run["queues"])}
    unit, name = _unit(run["ended"] - run["began"])
    for at, line in enumerate(run["timelines"]):
        _draw_timeline(axes[f"line {at}"], line, run, colours, unit)
    axes[f"line {lines - 1}"].set_xlabel(name)
    _draw_waits(axes["waits"], run["waits"], colours)
    _draw_shares(axes["shares"], run["shares"])


def _unit(seconds: float) -> tuple[float, str]:
    return (HOUR, "hours") if seconds > 3 * HOUR else (1.0, "seconds")


def _draw_timeline(axes: Axes, line: dict[str, Any], run: Run, colours: dict[str, str], unit: float) -> None:
    """One bar per slice and one row per queue, or for many slices the part of time that each queue had."""
    axes.set_title(f"{line['resource']}: who had it")
    axes.set_xlim(run["began"] / unit, run["ended"] / unit)
    queues = list(colours)
    if "bars" in line:
        for at, queue in enumerate(reversed(queues)):
            bars = [(start / unit, length / unit) for start, length in line["bars"][queue]]
            axes.broken_barh(bars, (at + 0.1, 0.8), color=colours[queue], linewidth=0)
        axes.set_yticks([at + 0.5 for at in range(len(queues))], list(reversed(queues)))
        axes.set_ylim(0, len(queues))
        return
    bins = len(line["parts"][queues[0]])
    width = (run["ended"] - run["began"]) / bins
    edges = [(run["began"] + (at + 0.5) * width) / unit for at in range(bins)]
    stack = [line["parts"][queue] for queue in queues]
    axes.stackplot(edges, stack, colors=list(colours.values()), labels=queues, linewidth=0)
    axes.set_ylim(0, 1)
    axes.set_ylabel("part of time")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _draw_waits(axes: Axes, waits: dict[str, list[float]], colours: dict[str, str]) -> None:
    axes.set_title("Jobs that waited no longer")
    for queue, values in waits.items():
        if values:
            parts = [100.0 * (at + 1) / len(values) for at in range(len(values))]
            axes.step(values, parts, where="post", color=colours[queue], label=queue)
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 101)
    axes.set_xlabel("seconds")
    axes.set_ylabel("% of jobs")
    axes.legend(frameon=False)


def _draw_shares(axes: Axes, shares: list[tuple[str, float, float]]) -> None:
    axes.set_title("QPU time: had (bar) and due (line)")
    rows = range(len(shares))
    axes.barh(rows, [100 * served for _, _, served in shares], height=0.6, color="#9DB8CC")
    for at, (_, entitled, _) in zip(rows, shares, strict=True):
        axes.plot([100 * entitled] * 2, [at - 0.4, at + 0.4], color=INK, linewidth=2)
    axes.set_yticks(rows, [name if len(name) <= 24 else name[:23] + "…" for name, _, _ in shares])
    axes.invert_yaxis()
    axes.set_xlabel("% of QPU seconds")


if __name__ == "__main__":
    main(sys.argv[1])
