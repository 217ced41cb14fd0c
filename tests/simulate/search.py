"""The least node-seconds that must wait, by exhaustive search: for instances small enough.

At each boundary any waiting session may have the next slice; what follows depends on nothing but the state, so each
state is searched once. The search knows the future and nothing of fairness: no scheduler that keeps the QPU busy while
somebody waits can do better, and one that shares, or does not know what comes, cannot always do as well.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from qpud.simulate.trace import Batch, Classical, SessionTrace


class Task(NamedTuple):
    """A session of the search: nodes held, and its steps as (classical seconds before, QPU seconds of the job)."""

    nodes: int
    steps: tuple[tuple[int, int], ...]


class Standing(NamedTuple):
    """Where a session stands: steps left, seconds until its job comes, QPU seconds left of the job."""

    left: int
    ready_in: int
    work: int


State = tuple[Standing, ...]


def least_waiting(trace: Sequence[SessionTrace], slice_seconds: int) -> int:
    """The least node-seconds waiting, at one shot per second and without set-up.

    Args:
        trace: Sessions that open at 0, with steps of whole seconds.
        slice_seconds: Longest slice.
    """
    tasks = [_task(line) for line in trace]

    @functools.cache
    def cost(state: State) -> int:
        moves = [
            _cost_of(state, move, tasks) + cost(_after(state, move, tasks)) for move in _moves(state, slice_seconds)
        ]
        return min(moves, default=0)

    return cost(tuple(_standing(task, len(task.steps)) for task in tasks))


def _task(line: SessionTrace) -> Task:
    steps, thinking = [], 0
    for step in line.steps * line.repeat:
        if isinstance(step, Classical):
            thinking += int(step.seconds)
        elif isinstance(step, Batch):
            steps.append((thinking, step.jobs[0].shots))
            thinking = 0
    return Task(line.nodes, tuple(steps))


def _standing(task: Task, left: int) -> Standing:
    return Standing(left, *task.steps[-left]) if left else Standing(0, 0, 0)


class Move(NamedTuple):
    """Who has the QPU (None: nobody) for how long."""

    who: int | None
    seconds: int


def _moves(state: State, slice_seconds: int) -> Iterator[Move]:
    for at, one in enumerate(state):
        if one.left and not one.ready_in:
            yield Move(at, min(one.work, slice_seconds))
    coming = [one.ready_in for one in state if one.left]
    if coming and min(coming):  # nobody waits
        yield Move(None, min(coming))


def _cost_of(state: State, move: Move, tasks: Sequence[Task]) -> int:
    waiting = [
        tasks[at].nodes * max(0, move.seconds - one.ready_in)
        for at, one in enumerate(state)
        if one.left and at != move.who
    ]
    return sum(waiting)


def _after(state: State, move: Move, tasks: Sequence[Task]) -> State:
    return tuple(_moved(one, at == move.who, move.seconds, tasks[at]) for at, one in enumerate(state))


def _moved(one: Standing, has_qpu: bool, seconds: int, task: Task) -> Standing:
    if not has_qpu:
        return one._replace(ready_in=max(0, one.ready_in - seconds))
    if one.work > seconds:
        return one._replace(work=one.work - seconds)
    return _standing(task, one.left - 1)
