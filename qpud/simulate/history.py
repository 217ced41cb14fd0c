"""What really happened, as a trace.

The time from the end of a session's jobs to its next submission was its own: it becomes a classical step, which takes
as long under any policy. Jobs that were submitted while others of the session were unfinished did not wait for them:
they become one batch, each with its `after`. So a faster policy brings later submissions forward, as it would have.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from qpud.core.errors import BadRequest
from qpud.core.job import Job
from qpud.core.session import CloseReason, Session
from qpud.simulate.trace import Batch, Classical, SessionTrace, Shots, Step

DAY = 86_400.0


def as_trace(sessions: Iterable[Session], jobs: Iterable[Job]) -> list[SessionTrace]:
    """Turn recorded sessions into a trace whose 0 is the midnight (UTC) before the first of them.

    A job counts with the shots that ran, one that has not ended with all of its shots. Jobs that ended without a
    shot, and sessions without any other job, are left out.

    Args:
        sessions: In the order of their opening.
        jobs: In the order of their submission.

    Raises:
        BadRequest: Nothing is left.
    """
    of_session: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if _shots(job):
            of_session[job.session_id].append(job)
    used = [session for session in sessions if session.id in of_session]
    if not used:
        raise BadRequest("the database holds no session with a job that ran")
    midnight = math.floor(used[0].opened_at / DAY) * DAY
    return [_session(session, of_session[session.id], midnight) for session in used]


def _shots(job: Job) -> int:
    return job.shots_done if job.is_terminal else job.shots


def _session(session: Session, jobs: list[Job], midnight: float) -> SessionTrace:
    return SessionTrace(
        id=session.id,
        at=session.opened_at - midnight,
        user=session.user,
        account=session.account,
        queue=session.queue,
        resource=jobs[0].resource,
        share=session.share,
        hint=session.hint,
        nodes=session.nodes,
        expected_qpu_seconds=session.expected_qpu_seconds,
        expected_classical_seconds=session.expected_classical_seconds,
        steps=tuple(_steps(session, jobs)),
    )


def _steps(session: Session, jobs: list[Job]) -> list[Step]:
    steps: list[Step] = []
    free_since = session.opened_at
    for group in _groups(jobs):
        begun = group[0].submitted_at
        if begun > free_since:
            steps.append(Classical(seconds=begun - free_since))
        steps.append(Batch(jobs=tuple(_job(job, begun, jobs[0].resource) for job in group)))
        free_since = max(_end(job) for job in group)
    # the nodes of a session that expired had gone before
    if session.close_reason is CloseReason.MANUAL and (session.closed_at or 0.0) > free_since:
        steps.append(Classical(seconds=(session.closed_at or 0.0) - free_since))
    return steps


def _groups(jobs: list[Job]) -> list[list[Job]]:
    """Jobs by submission, split where all earlier ones had ended."""
    groups: list[list[Job]] = []
    until = -math.inf
    for job in jobs:
        if not groups or job.submitted_at >= until:
            groups.append([])
        groups[-1].append(job)
        until = max(until, _end(job))
    return groups


def _end(job: Job) -> float:
    return math.inf if job.ended_at is None else job.ended_at


def _job(job: Job, begun: float, usual: str) -> Shots:
    return Shots(
        shots=_shots(job),
        register=job.register_hash,
        resource=None if job.resource == usual else job.resource,
        after=job.submitted_at - begun,
    )
