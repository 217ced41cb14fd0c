"""Figures of a simulation: the JSON form of `qpud simulate --json`. The definitions are in README.md.

Fractions are 0 to 1, times seconds of the trace's clock. What had not happened when the simulation ended counts as
if it happened then, so a job that starves shows.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from qpud.simulate.tally import Contender, JobTally, ResourceTally, SessionTally, Tally


class ResourceFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One resource, or the sum of several."""

    utilisation: float
    busy_seconds: float  # a slice was in flight, set-up and wasted shots included
    setup_seconds: float
    wall_seconds: float  # from the first session's opening to the end, for each resource
    shots: int  # kept
    wasted_shots: int
    preemptions: int
    slices: int


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Mean, nearest-rank percentiles and maximum; 0 of nothing."""

    mean: float
    p50: float
    p95: float
    p99: float
    max: float


class QueueFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One queue. `slowdown` is the mean of turnaround ÷ QPU seconds over the jobs that ended."""

    jobs: int
    wait_seconds: Spread  # submission to first slice
    turnaround_seconds: Spread  # submission to end
    slowdown: float


class SessionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One session. `start` and `end` are on the trace's clock."""

    id: str
    start: float
    end: float
    qpu_seconds: float
    node_seconds: float
    node_seconds_waiting: float


class ShareFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A session, user or account, as FairShareBy says: parts of the QPU seconds charged; error = served - entitled."""

    name: str
    entitled: float
    served: float
    error: float


class NodeSeconds(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the sessions."""

    held: float
    waiting: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One simulation."""

    scheduler: str
    resource: ResourceFigures  # the sum over all
    resources: dict[str, ResourceFigures]
    queues: dict[str, QueueFigures]
    sessions: list[SessionFigures]
    shares: list[ShareFigures]
    node_seconds: NodeSeconds
    jain: float


def measure(tally: Tally, scheduler: str) -> Figures:
    """Make figures of what a simulation counted."""
    wall = tally.ended_at - tally.began_at
    sessions = [_session(one) for one in tally.sessions]
    shares = _shares(tally.contenders.values())
    return Figures(
        scheduler=scheduler,
        resource=_resource(list(tally.resources.values()), wall),
        resources={name: _resource([one], wall) for name, one in tally.resources.items()},
        queues=_queues(tally),
        sessions=sessions,
        shares=shares,
        node_seconds=NodeSeconds(
            held=math.fsum(one.node_seconds for one in sessions),
            waiting=math.fsum(one.node_seconds_waiting for one in sessions),
        ),
        jain=jain([one.served / one.entitled for one in shares if one.entitled > 0]),
    )


def _resource(tallies: Sequence[ResourceTally], wall: float) -> ResourceFigures:
    busy = math.fsum(one.busy_seconds for one in tallies)
    return ResourceFigures(
        utilisation=busy / (wall * len(tallies)) if wall else 0.0,
        busy_seconds=busy,
        setup_seconds=math.fsum(one.setup_seconds for one in tallies),
        wall_seconds=wall,
        shots=sum(one.shots for one in tallies),
        wasted_shots=sum(one.wasted_shots for one in tallies),
        preemptions=sum(one.preemptions for one in tallies),
        slices=sum(one.slices for one in tallies),
    )


def _queues(tally: Tally) -> dict[str, QueueFigures]:
    of_queue: dict[str, list[JobTally]] = {name: [] for name in tally.queues}
    for job in tally.jobs:
        of_queue[job.queue].append(job)
    return {name: _queue(jobs, tally.ended_at) for name, jobs in of_queue.items()}


def _queue(jobs: Sequence[JobTally], end: float) -> QueueFigures:
    waits = [(end if job.started_at is None else job.started_at) - job.submitted_at for job in jobs]
    turnarounds = [(end if job.ended_at is None else job.ended_at) - job.submitted_at for job in jobs]
    slowdowns = [
        (job.ended_at - job.submitted_at) / job.qpu_seconds
        for job in jobs
        if job.ended_at is not None and job.qpu_seconds
    ]
    return QueueFigures(
        jobs=len(jobs),
        wait_seconds=spread(waits),
        turnaround_seconds=spread(turnarounds),
        slowdown=_mean(slowdowns),
    )


def _session(tally: SessionTally) -> SessionFigures:
    nodes, end = tally.session.nodes, tally.ended_at or 0.0
    return SessionFigures(
        id=tally.session.id,
        start=tally.opened_at,
        end=end,
        qpu_seconds=tally.qpu_seconds,
        node_seconds=nodes * (end - tally.opened_at),
        node_seconds_waiting=nodes * tally.waited,
    )


def _shares(contenders: Iterable[Contender]) -> list[ShareFigures]:
    """A name that contends on several resources or tiers has one row."""
    entitled: dict[str, float] = defaultdict(float)
    served: dict[str, float] = defaultdict(float)
    for one in contenders:
        entitled[one.name] += one.entitled_seconds
        served[one.name] += one.served_seconds
    all_entitled, all_served = math.fsum(entitled.values()) or 1.0, math.fsum(served.values()) or 1.0
    return [
        _share(name, entitled[name] / all_entitled, served[name] / all_served) for name in sorted(entitled, key=str)
    ]


def _share(name: str, entitled: float, served: float) -> ShareFigures:
    return ShareFigures(name=name, entitled=entitled, served=served, error=served - entitled)


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness (1984): 1 if all are equal, 1/n if one has everything; 1 of nothing."""
    squares = math.fsum(value * value for value in values)
    return math.fsum(values) ** 2 / (len(values) * squares) if squares else 1.0


def spread(values: Sequence[float]) -> Spread:
    """Mean and percentiles."""
    ordered = sorted(values)
    return Spread(
        mean=_mean(ordered),
        p50=_percentile(ordered, 50),
        p95=_percentile(ordered, 95),
        p99=_percentile(ordered, 99),
        max=ordered[-1] if ordered else 0.0,
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that is not exceeded by so many percent of all."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] if ordered else 0.0
