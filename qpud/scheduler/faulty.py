"""Where the faults that a session asked for happen (core/faults.py): each is told as injected in the job's story."""

from __future__ import annotations

from typing import NamedTuple

from qpud.context import Context
from qpud.core.faults import FaultPlan
from qpud.core.job import Job
from qpud.core.progress import Verdict
from qpud.core.slices import Slice
from qpud.drivers.base import Refused
from qpud.scheduler.flight import Landed


class Told(NamedTuple):
    """What an injected fault did to a slice: a sentence, and whether its job goes back into the queue."""

    note: str = ""
    yields: bool = False


def strike(context: Context, start: Slice, job: Job) -> Landed | None:
    """End the job with an error in place of its slice, if that is its lot; nothing runs then."""
    plan = _plan(context, job)
    if plan is None or not plan.error:
        return None
    if not plan.strikes(start.seed, start.number, is_last=job.shots_done + start.shots >= job.shots):
        return None
    message = f"injected fault: the session asked for error:{plan.error:g}, nothing is wrong with {start.resource}"
    return Landed(outcome=None, refused=Refused(message, transient=False))


def told(context: Context, ended: Slice, landed: Landed, verdict: Verdict) -> Told:
    """What the faults of a session did to a slice that ended."""
    plan = _plan(context, verdict.job)
    if plan is None or landed.outcome is None or verdict.job.is_terminal:
        return Told()
    job, lost = verdict.job, plan.lost_of(ended.seed, ended.number, ended.shots)
    notes = [f"{lost} of {ended.shots} shots were lost (injected: lose-shots) and are run again"] if lost else []
    if plan.preempts(ended.number):
        which = f"injected: preemption {ended.number + 1} of {plan.preempt}"
        notes.append(f"preempted ({which}) after {job.shots_done} of {job.shots} shots; no shot is lost")
    return Told("; ".join(notes), plan.preempts(ended.number))


def _plan(context: Context, job: Job) -> FaultPlan | None:
    asked = context.rehearsal_of(job.session_id)
    return None if asked is None or asked.faults == FaultPlan() else asked.faults
