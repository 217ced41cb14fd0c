"""Figures for people: one column per scheduler, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from qpud.simulate.measure import Figures, QueueFigures, ResourceFigures

MOST_SHARES = 12
"""More contenders than this are told by their largest error only."""

Row = list[object]
Cell = Callable[[Figures], str]


def rows(results: Sequence[Figures]) -> tuple[list[str], list[Row]]:
    """Header and rows of the table. The results are of one trace under different schedulers."""
    header = ["", *(f">{one.scheduler}" for one in results)]
    return header, [[title, *(cell(one) for one in results)] for title, cell in _lines(results[0])]


def _lines(first: Figures) -> Iterator[tuple[str, Cell]]:
    for name in first.resources:
        yield from _resource_lines(name)
    for name, queue in first.queues.items():
        if queue.jobs:
            yield from _queue_lines(name)
    yield "node-hours held", lambda one: _number(one.node_seconds.held / 3600)
    yield "  of them waiting", lambda one: _number(one.node_seconds.waiting / 3600)
    yield from _share_lines(first)
    yield "Jain's index", lambda one: f"{one.jain:.4f}"


def _resource_lines(name: str) -> Iterator[tuple[str, Cell]]:
    yield f"{name}: busy", lambda one: _percent(one.resources[name].utilisation)
    yield "  until", lambda one: _seconds(one.resources[name].wall_seconds)
    for title, value in RESOURCE_LINES:
        yield f"  {title}", lambda one, value=value: value(one.resources[name])  # type: ignore[misc]


RESOURCE_LINES: tuple[tuple[str, Callable[[ResourceFigures], str]], ...] = (
    ("set-up", lambda one: _seconds(one.setup_seconds)),
    ("shots", lambda one: f"{one.shots}"),
    ("wasted shots", lambda one: f"{one.wasted_shots}"),
    ("slices", lambda one: f"{one.slices}"),
    ("preemptions", lambda one: f"{one.preemptions}"),
)


def _queue_lines(name: str) -> Iterator[tuple[str, Cell]]:
    yield f"{name}: jobs", lambda one: f"{one.queues[name].jobs}"
    for title, value in QUEUE_LINES:
        yield f"  {title}", lambda one, value=value: value(one.queues[name])  # type: ignore[misc]


QUEUE_LINES: tuple[tuple[str, Callable[[QueueFigures], str]], ...] = (
    ("wait, mean", lambda one: _seconds(one.wait_seconds.mean)),
    ("wait, 95 % within", lambda one: _seconds(one.wait_seconds.p95)),
    ("wait, 99 % within", lambda one: _seconds(one.wait_seconds.p99)),
    ("wait, longest", lambda one: _seconds(one.wait_seconds.max)),
    ("turnaround, mean", lambda one: _seconds(one.turnaround_seconds.mean)),
    ("slowdown", lambda one: _number(one.slowdown)),
)


def _share_lines(first: Figures) -> Iterator[tuple[str, Cell]]:
    if len(first.shares) > MOST_SHARES:
        yield "largest error of a share", lambda one: _percent(max(abs(share.error) for share in one.shares))
        return
    for at, share in enumerate(first.shares):
        yield f"{share.name}: had, due", lambda one, at=at: _share(one, at)  # type: ignore[misc]


def _share(one: Figures, at: int) -> str:
    return f"{_percent(one.shares[at].served)}, {_percent(one.shares[at].entitled)}"


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s"


def _number(value: float) -> str:
    return f"{value:.2f}"
