"""Whose turn it is within a tier: among those whom fairness allows, set-up, then hint, Slurm's priority, due, age."""

from __future__ import annotations

from collections.abc import Iterator

from qpud.core.fairshare import Contender, Group
from qpud.core.job import Job
from qpud.core.leaf import Leaf
from qpud.core.order import Ask
from qpud.core.session import Hint

MOST_CANDIDATES = 32
"""Contenders of one group, those due first, among which set-up and hints choose: a decision stays short."""


def pick(top: Group, ask: Ask, current: Leaf | None, quantum: float) -> Job | None:
    """The job that gets the next slice of a tier; None if nobody may start.

    Args:
        top: The contenders at the top of the tier.
        ask: What is known at the boundary.
        current: The session of the job that had the last slice and could go on.
        quantum: Longest slice of the tier in QPU-seconds, set-up included.
    """
    best: tuple[tuple[float, ...], Job] | None = None
    for leaf in _candidates(top, ask, current, quantum):
        job = _job_of(leaf, ask, current)
        if job is None:
            continue
        rank = _preference(leaf, job, ask, current, quantum)
        if best is None or rank < best[0]:
            best = (rank, job)
    return best[1] if best else None


def _candidates(group: Group, ask: Ask, current: Leaf | None, quantum: float) -> Iterator[Leaf]:
    """The sessions that may have the next slice."""
    allowed = group.allowed(quantum)[:MOST_CANDIDATES]
    if ask.admits is not None and not any(_may_start(one, ask, current) for one in allowed):
        allowed = list(group.active.values())
    for one in allowed:
        if one.members is None:
            if isinstance(one, Leaf):
                yield one
        elif one.members.active:
            yield from _candidates(one.members, ask, current, quantum)


def _may_start(one: Contender, ask: Ask, current: Leaf | None) -> bool:
    if isinstance(one, Leaf):
        return _job_of(one, ask, current) is not None
    return one.members is not None and any(_may_start(each, ask, current) for each in one.members.active.values())


def _job_of(leaf: Leaf, ask: Ask, current: Leaf | None) -> Job | None:
    """The job with which a session would take the next slice."""
    job = ask.current if leaf is current else leaf.best(ask.register)
    if job is None or ask.admits is None or ask.admits(job):
        return job
    return None


def _preference(leaf: Leaf, job: Job, ask: Ask, current: Leaf | None, quantum: float) -> tuple[float, ...]:
    """Among those that may: set-up, hint, Slurm's priority, due, age; smaller goes first."""
    stays = leaf is current and leaf.hint is Hint.QC_HEAVY
    needs_setup = ask.register is not None and job.register_hash != ask.register
    level, weight = leaf.value
    due = (leaf.deadline(quantum) - leaf.group.virtual) * leaf.group.total
    return (needs_setup, -level, -weight / job.shots_left, not stays, -leaf.priority, due, job.submitted_at, job.id)
