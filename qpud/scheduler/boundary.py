"""What is committed at a slice boundary, in one transaction: the slice that ended and the intent of the next."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from qpud.context import Context
from qpud.core import explain, turns
from qpud.core.bars import freed
from qpud.core.job import Job, JobState, Reason
from qpud.core.progress import Verdict
from qpud.core.slices import Charge, Outcome, OutcomeState, Slice, SliceState
from qpud.store import jobs as jobs_sql
from qpud.store import slices as slices_sql
from qpud.store.writer import Transaction

_STATES = {
    OutcomeState.DONE: SliceState.DONE,
    OutcomeState.CANCELED: SliceState.CANCELED,
    OutcomeState.FAILED: SliceState.FAILED,
}


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A slice that ended at the resource and is not committed yet. `outcome` is None if it never started there."""

    slice: Slice
    outcome: Outcome | None
    verdict: Verdict
    charge: Charge | None = None  # None with the outcome
    queue: str = ""  # of the job when the slice began: its charge belongs there
    note: str = ""  # a sentence for the job's story
    yields: bool = False  # its job goes back into the queue: an injected preemption


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A slice that shall start. `yielding` is the job that it preempts, `previous` who had the resource before."""

    slice: Slice
    job: Job
    yielding: Job | None
    previous: Job | None


Operation = Callable[[Transaction], None]


def operation(ended: Ended | None, start: Start | None, spec_hash: str | None, now: float) -> Operation:
    """The transaction of a boundary.

    Raises, when run:
        Conflict: The job of `start` ended meanwhile; nothing is stored.
    """

    def run(transaction: Transaction) -> None:
        if ended is not None:
            _store_end(transaction, ended, spec_hash, now)
        if start is not None:
            _store_start(transaction, start, now)

    return run


def _store_end(transaction: Transaction, ended: Ended, spec_hash: str | None, now: float) -> None:
    job, outcome, charge = ended.verdict.job, ended.outcome, ended.charge
    shots = 0
    if outcome is None or charge is None:
        slices_sql.drop_intent(transaction, ended.slice.id, now, ended.note)
    else:
        shots = charge.shots
        slices_sql.end(transaction, ended.slice, _STATES[outcome.state], outcome, spec_hash)
        jobs_sql.charge(transaction, job.id, charge.qpu_seconds, outcome.provenance)
        if shots or outcome.qpu_seconds:
            slices_sql.add_to_ledger(transaction, ended.slice, _as_charged(ended), outcome.ended_at, charge)
    jobs_sql.advance(transaction, job, shots)
    _store_story(transaction, ended, now)


def _as_charged(ended: Ended) -> Job:
    """The job in the queue that the slice ran in: it may have changed since."""
    return msgspec.structs.replace(ended.verdict.job, queue=ended.queue or ended.verdict.job.queue)


def _store_story(transaction: Transaction, ended: Ended, now: float) -> None:
    job = ended.verdict.job
    if ended.note:
        jobs_sql.add_event(transaction, job.id, now, ended.note)
    if not job.is_terminal:
        return
    jobs_sql.finish(transaction, job, ended.verdict.message)
    is_told = job.state is JobState.ERROR or job.reason is Reason.TIME_LIMIT
    more = f": {ended.verdict.message}" if is_told else ""
    jobs_sql.add_event(transaction, job.id, now, f"{job.state} with {job.shots_done} of {job.shots} shots{more}")


def _store_start(transaction: Transaction, start: Start, now: float) -> None:
    jobs_sql.start(transaction, start.job, now)
    slices_sql.insert(transaction, start.slice)
    if start.yielding is not None:
        jobs_sql.add_event(transaction, start.yielding.id, now, explain.preempted(start.yielding, start.job))
    if start.job.started_at is None:
        jobs_sql.add_event(transaction, start.job.id, now, explain.started(start.job, now, start.previous))
    elif start.previous is not None and start.previous.id != start.job.id:
        jobs_sql.add_event(transaction, start.job.id, now, explain.resumed(start.job, start.previous))


def publish(context: Context, resource: str, ended: Ended | None, start: Start | None, now: float) -> None:
    """Bring memory up to the committed boundary; runs right after the commit, before anyone waiting."""
    if ended is not None:
        _publish_end(context, ended, now)
    if start is not None:
        _publish_start(context, start, now)
    context.book.leave(resource)
    context.book.flights[resource].slice = start.slice if start else None


def _publish_end(context: Context, ended: Ended, now: float) -> None:
    after = ended.verdict.job
    current = context.book.jobs[after.id]
    # the reason may have changed while the commit was under way: only shots and a final state are the slice's word
    news = {"shots_done": after.shots_done, "qpu_seconds": after.qpu_seconds}
    later = after if after.is_terminal else msgspec.structs.replace(current, **news)
    if ended.outcome is not None and ended.charge is not None:
        context.book.tally.charge(_as_charged(ended), ended.charge.qpu_seconds, ended.outcome.ended_at)
        _count_slice(context, _as_charged(ended), ended.outcome, ended.charge)
    context.book.update_job(later)
    if after.is_terminal:
        _publish_last(context, after, now)
    context.waiters.notify(after.id)


def _publish_last(context: Context, job: Job, now: float) -> None:
    context.metrics.job_ended(job.resource, job.queue, job.state)
    context.drivers[job.resource].release(job.id)
    for resource in freed(context.book, job):
        context.wake(resource)
    context.book.touch(job, now)
    session = context.book.sessions.get(job.session_id)
    if session is not None and session.rehearsal is not None:
        pace = context.book.flights[session.rehearsal.like or job.resource].pace
        context.veils.cover(job, session.rehearsal, now, pace.setup_seconds, pace.shot_rate)


def _count_slice(context: Context, job: Job, outcome: Outcome, charge: Charge) -> None:
    costs = (outcome.qpu_seconds, outcome.setup_seconds)
    context.metrics.slice_ended(job.resource, job.queue, _STATES[outcome.state], charge.shots, *costs)
    if charge.wasted_seconds:
        context.metrics.wasted(job.resource, job.queue, charge.wasted_shots, charge.wasted_seconds)


def _publish_start(context: Context, start: Start, now: float) -> None:
    found = context.book.jobs[start.job.id]
    foreseen = context.forecaster.outcome(found, now)
    job = turns.begin(context.book, found.resource, found.id, now)
    if found.state is JobState.PENDING:
        context.metrics.job_started(job.resource, job.queue, now - job.submitted_at)
        if foreseen is not None:
            context.metrics.forecast_ended(job.resource, job.queue, *foreseen)
        context.waiters.notify(job.id)
    if start.yielding is not None:
        context.metrics.preempted(start.yielding.resource, start.yielding.queue)


def store_cancel(transaction: Transaction, *, found: JobState, job: Job) -> None:
    """Store the end of a job that was asked to stop and has no slice in flight."""
    jobs_sql.move(transaction, job, found)
    jobs_sql.finish(transaction, job, "canceled between two slices")
    jobs_sql.add_event(transaction, job.id, job.ended_at or 0.0, "canceled between two slices")


def publish_cancel(_none: None, *, context: Context, job: Job) -> None:
    """Bring memory up to a committed cancel."""
    context.book.update_job(job)
    _publish_last(context, job, job.ended_at or 0.0)
    context.waiters.notify(job.id)
