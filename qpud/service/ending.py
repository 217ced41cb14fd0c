"""How jobs are stopped: at once if the resource does not have them, at the end of the slice in flight otherwise."""

from __future__ import annotations

import contextlib

import msgspec

from qpud.core.bars import freed
from qpud.core.batch import Batch, BatchEnd
from qpud.core.errors import Conflict
from qpud.core.job import Job, JobState, Reason, move
from qpud.service.base import Verbs
from qpud.store import batches, queries
from qpud.store import jobs as sql
from qpud.store.writer import Transaction


class EndingVerbs(Verbs):
    """Stopping jobs and closing batches; shared by the verbs on jobs, sessions and batches."""

    async def stop_job(self, job: Job, why: Reason, text: str) -> Job:
        """Cancel an unfinished job.

        Returns:
            The job: CANCELED, or still unfinished with reason Canceling while its slice ends at the resource, or as
            it had ended meanwhile.
        """
        with contextlib.suppress(Conflict):  # the resource took it in the meantime, or it ended
            if not self._context.book.has_resource(job):
                return await self._cancel_now(job, why, text)
        with contextlib.suppress(Conflict):
            await self._ask_to_stop(job, why, text)
        return self._context.book.jobs.get(job.id) or await queries.job(self._context.store, job.id) or job

    async def _cancel_now(self, job: Job, why: Reason, text: str) -> Job:
        context = self._context
        now = context.clock()
        ended = move(job, JobState.CANCELED, why, now)

        def operation(transaction: Transaction) -> None:
            sql.move(transaction, ended, job.state)
            sql.finish(transaction, ended, text)
            sql.add_event(transaction, job.id, now, text)

        await context.store.write(operation, lambda _none: self._ended(ended))
        return ended

    async def _ask_to_stop(self, job: Job, why: Reason, text: str) -> None:
        context = self._context
        now = context.clock()

        def operation(transaction: Transaction) -> None:
            sql.set_reason(transaction, job.id, Reason.CANCELING)
            sql.add_event(transaction, job.id, now, f"asked to stop: {text}")

        def then(_none: None) -> None:
            current = context.book.jobs.get(job.id)
            if current is not None:
                context.book.stopping[job.id] = why
                context.book.update_job(msgspec.structs.replace(current, reason=Reason.CANCELING))
                context.waiters.notify(job.id)
            context.wake(job.resource)

        await context.store.write(operation, then)

    async def end_batch(self, batch: Batch, reason: BatchEnd) -> None:
        """Close a batch to more jobs; those that it has run on."""
        context, now = self._context, self._context.clock()
        await context.store.write(
            lambda transaction: batches.close(transaction, batch.id, now, reason),
            lambda _none: context.book.remove_batch(batch.id),
        )

    def _ended(self, job: Job) -> None:
        context = self._context
        context.book.touch(job, job.ended_at or 0.0)
        if job.id in context.book.jobs:
            context.book.update_job(job)
        context.metrics.job_ended(job.resource, job.queue, job.state)
        if job.resource in context.drivers:
            context.drivers[job.resource].release(job.id)
        context.waiters.notify(job.id)
        for resource in (job.resource, *freed(context.book, job)):
            context.wake(resource)
