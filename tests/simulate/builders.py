"""Traces and policies for tests and for tests/bench/mind.py, with what a test does not care about filled in."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from qpud.core.policy import DaemonPolicy, Policy, QueuePolicy
from qpud.core.resource import ResourcePolicy
from qpud.core.terms import DriverKind, PreemptMode
from qpud.simulate.engine import Simulation
from qpud.simulate.measure import Figures, measure
from qpud.simulate.tally import Tally
from qpud.simulate.trace import Batch, Classical, SessionTrace, Shots, Step

QUEUES = (
    QueuePolicy(name="production", priority_tier=100, preempt_mode=PreemptMode.OFF),
    QueuePolicy(name="test", priority_tier=50),
    QueuePolicy(name="development", priority_tier=10),
)


def a_policy(
    scheduler: str = "share",
    queues: Sequence[QueuePolicy] = QUEUES,
    resources: Sequence[str] = ("TWIN",),
    daemon: dict[str, Any] | None = None,
    **resource: Any,
) -> Policy:
    return Policy(
        daemon=DaemonPolicy(scheduler_type=scheduler, **(daemon or {})),
        queues={queue.name: queue for queue in queues},
        resources={name: ResourcePolicy(name=name, driver=DriverKind.SIMULATED, **resource) for name in resources},
    )


def sliced(seconds: float, **changes: Any) -> tuple[QueuePolicy, ...]:
    """The queues with slices of so many seconds."""
    return tuple(replace(queue, slice_seconds=seconds, **changes.get(queue.name, {})) for queue in QUEUES)


def job(shots: int, **changes: Any) -> Step:
    return Batch(jobs=(Shots(shots=shots, **changes),))


def think(seconds: float) -> Step:
    return Classical(seconds=seconds)


def a_session(name: str = "s1", *steps: Step, **changes: Any) -> SessionTrace:
    return SessionTrace(**{"id": name, "at": 0.0, "queue": "development", "steps": steps or (job(10),), **changes})


def stream(
    queue: str, rate: float, shots: Callable[[random.Random], int], horizon: float, dice: random.Random
) -> SessionTrace:
    """A session whose jobs arrive at random (Poisson) and wait for nobody: one class of an M/G/1 queue."""
    jobs = tuple(Shots(shots=shots(dice), after=at) for at in _arrivals(rate, horizon, dice))
    return a_session(queue, Batch(jobs=jobs), queue=queue)


def crowd(
    queue: str, rate: float, shots: Callable[[random.Random], int], horizon: float, dice: random.Random
) -> list[SessionTrace]:
    """The same arrivals, each job in a session of its own."""
    return [
        a_session(f"{queue}{number}", job(shots(dice)), queue=queue, at=at)
        for number, at in enumerate(_arrivals(rate, horizon, dice))
    ]


def _arrivals(rate: float, horizon: float, dice: random.Random) -> Iterator[float]:
    at = dice.expovariate(rate)
    while at < horizon:
        yield at
        at += dice.expovariate(rate)


def run(policy: Policy, trace: Sequence[SessionTrace], **options: Any) -> Tally:
    return Simulation(policy, trace).run(**options)


def figures(policy: Policy, trace: Sequence[SessionTrace], **options: Any) -> Figures:
    return measure(run(policy, trace, **options), policy.daemon.scheduler_type)
