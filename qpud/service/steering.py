"""Verbs that steer jobs: cancel many by a filter, change of queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from qpud.core import explain, limits, verbs
from qpud.core.errors import BadRequest, Conflict, Forbidden, Invalid
from qpud.core.identity import Identity, require_admin
from qpud.core.job import TERMINAL, Job, Reason
from qpud.service import admission
from qpud.service.jobs import JobVerbs
from qpud.store import admin as admin_sql
from qpud.store import jobs as sql
from qpud.store.writer import Transaction

log = logging.getLogger(__name__)

_AT_ONCE = 256  # those that are stopped together share their commits
_LISTED = 1000


class SteeringVerbs(JobVerbs):
    """Many jobs at once, and jobs on their way to another queue."""

    async def cancel_jobs(
        self, who: Identity, which: verbs.JobSelection, *, is_dry: bool = False
    ) -> verbs.Cancellations:
        """Stop all unfinished jobs that a filter selects: the caller's own, everybody's for an administrator.

        Args:
            who: The caller.
            which: At least one of its fields.
            is_dry: Only tell which they are.

        Raises:
            BadRequest: The filter is empty, or asks for jobs that have ended.
            Forbidden: Another user's jobs, and the caller is no administrator.
        """
        _check_selection(which)
        if which.user_id not in (None, who.user_id) and not who.is_admin:
            other = self._context.names(which.user_id or 0)
            raise Forbidden(f"user {who.user} may cancel his own jobs only, not those of {other}")
        if not who.is_admin:
            which = msgspec.structs.replace(which, user_id=who.user_id)
        found = [job for job in self._candidates(which) if which.selects(job)]
        if is_dry:
            would = [_foreseen(job) for job in found[:_LISTED]]
            return verbs.Cancellations(matched=len(found), is_dry=True, jobs=would)
        done: list[verbs.Cancellation] = []
        for start in range(0, len(found), _AT_ONCE):
            ids = (str(job.id) for job in found[start : start + _AT_ONCE])
            done += await asyncio.gather(*(self.cancel_job(who, ref) for ref in ids))
        return _counted(done)

    async def change_queue(self, who: Identity, ref: str, queue: str, *, override: bool = False) -> Job:
        """Give an unfinished job another queue, from its next slice on.

        Args:
            who: The caller.
            ref: The job.
            queue: Where to; its limits apply to the shots left.
            override: Whether the limits of the new queue are passed over.

        Raises:
            Forbidden: Not an administrator on the Unix socket; or the queue is closed to the job's user or account.
            NotFound: No such job.
            Invalid: No such queue.
            Conflict: The job has ended, or is being canceled.
            LimitExceeded: A limit of the new queue.
        """
        require_admin(who, f"change the queue of job {ref[:40]}")
        job = await self._job(who, ref)
        if queue not in self.policy.queues:
            raise Invalid(f"queue {queue[:64]!r} does not exist: there are {', '.join(self.policy.queues)}")
        if job.is_terminal or job.reason is Reason.CANCELING:
            raise Conflict(f"job {job.id} is {job.state} and cannot change its queue")
        if job.queue == queue:
            return self._explained(job)
        if not override:
            await self._check_move(job, queue)
        await self._move(who, job, queue, override)
        log.info("queue changed", extra={"job": job.id, "queue": queue, "user": who.user, "override": override})
        return self._explained(self._context.book.jobs.get(job.id, job))

    def _candidates(self, which: verbs.JobSelection) -> Iterable[Job]:
        book = self._context.book
        return book.jobs_of_session(which.session_id) if which.session_id else list(book.jobs.values())

    async def _check_move(self, job: Job, queue: str) -> None:
        context = self._context
        session = context.book.sessions.get(job.session_id)
        if session is None:
            raise Conflict(f"job {job.id} is being canceled with its session")
        await admission.check_access(context, self.policy.queues[queue], job.user_id, session.account or "")
        loads = context.book.tally.loads(job.user_id, queue, session.account or "")
        binding = limits.bounds(self.policy, session, queue, loads)[:1]  # what user and account have stays the same
        asked = [(job.resource, job.shots_left)]
        limits.admit(binding, asked, admission.rates(context), context.book.tally, context.clock())

    async def _move(self, who: Identity, job: Job, queue: str, override: bool) -> None:
        context = self._context
        now = context.clock()
        past_limits = ", past its limits" if override else ""
        text = f"moved from queue {job.queue} to queue {queue} by {who.user}{past_limits}"

        def operation(transaction: Transaction) -> None:
            sql.set_queue(transaction, job.id, queue)
            sql.add_event(transaction, job.id, now, text)
            admin_sql.record(transaction, now, who.user, "queue", f"job {job.id}", text)

        def then(_none: None) -> None:
            if (current := context.book.jobs.get(job.id)) is not None:
                context.book.update_job(msgspec.structs.replace(current, queue=queue))
            context.waiters.notify(job.id)
            context.wake(job.resource)

        await context.store.write(operation, then)


def _check_selection(which: verbs.JobSelection) -> None:
    if which.is_empty:
        raise BadRequest("a cancel by filter needs a filter: user, queue, resource, session, state, name or batch")
    if which.state in TERMINAL:
        raise BadRequest(f"jobs in state {which.state} have ended: state may be PENDING or RUNNING")


def _foreseen(job: Job) -> verbs.Cancellation:
    asked_before = job.reason is Reason.CANCELING
    return verbs.Cancellation(
        job=job, before=job.state, asked_before=asked_before, message=explain.would_cancel(job, asked_before)
    )


def _counted(done: list[verbs.Cancellation]) -> verbs.Cancellations:
    ended = sum(one.before in TERMINAL for one in done)
    stopping = sum(not one.job.is_terminal for one in done)
    canceled = len(done) - ended - stopping
    return verbs.Cancellations(
        matched=len(done), canceled=canceled, stopping=stopping, ended=ended, jobs=done[:_LISTED]
    )
