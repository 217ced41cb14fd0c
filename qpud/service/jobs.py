"""Verbs on jobs: look, wait, cancel, hold, release, logs, result."""

from __future__ import annotations

import asyncio

import msgspec

from qpud.core import explain, verbs
from qpud.core.errors import BadRequest, Conflict
from qpud.core.identity import Identity
from qpud.core.job import Job, JobState, Reason
from qpud.core.plan import tier
from qpud.drivers.base import foresighted
from qpud.service.ending import EndingVerbs
from qpud.store import jobs as sql
from qpud.store import queries
from qpud.store.writer import Transaction

LONGEST_WAIT_SECONDS = 300.0
_LONGEST_QUEUE = 1000  # entries of one answer
_ENTRIES_IN_A_ROW = 100  # then others have their turn
_HELD = frozenset({Reason.HELD, Reason.HELD_ADMIN})


class JobVerbs(EndingVerbs):
    """Jobs."""

    async def get_job(self, who: Identity, ref: str, wait_seconds: float = 0.0) -> Job:
        """One job; with `wait_seconds` > 0 returns as soon as its state changes, or after that time.

        Raises:
            NotFound: No such job, or another user's.
        """
        job = await self._job(who, ref)
        if wait_seconds > 0:
            found = job.state
            job = await self._wait(job, wait_seconds, lambda now: now.state is not found)
        return self._explained(job)

    async def list_jobs(self, who: Identity, which: verbs.JobFilter) -> verbs.JobPage:
        """The caller's jobs, newest first; everybody's for an administrator.

        Raises:
            BadRequest: A page of less than 1 or more than 1000 jobs.
        """
        if not 1 <= which.limit <= 1000:
            raise BadRequest(f"limit {which.limit} is outside 1 … 1000")
        if not who.is_admin:
            which = msgspec.structs.replace(which, user_id=who.user_id)
        found = await queries.jobs(self._context.store, which)
        page = [self._listed(job) for job in found[: which.limit]]
        return verbs.JobPage(jobs=page, next=page[-1].id if len(found) > which.limit else None)

    def _listed(self, job: Job) -> Job:
        return self._explained(self._as_seen(self._context.book.jobs.get(job.id, job)))

    async def cancel_job(self, who: Identity, ref: str) -> verbs.Cancellation:
        """Stop a job; tells what had already run. Ended jobs stay as they are: no error here, dialects decide."""
        job = await self._job(who, ref)
        asked_before = job.reason is Reason.CANCELING
        if job.is_terminal or asked_before:
            return _cancellation(job, job, asked_before)
        why = Reason.USER if who.user_id == job.user_id else Reason.ADMIN
        after = await self.stop_job(job, why, f"canceled by {who.user}")
        if after.is_terminal and after.state is not JobState.CANCELED:  # it ended before the wish arrived
            return _cancellation(after, after, asked_before=False)
        return _cancellation(job, after, asked_before=False)

    async def job_logs(self, who: Identity, ref: str) -> list[verbs.LogLine]:
        """The job's story in sentences, oldest first."""
        job = await self._job(who, ref)
        store = self._context.store
        slices, _spec = await queries.slices(store, job.id)
        session = self._context.book.sessions.get(job.session_id) or await queries.session(store, job.session_id)
        first = explain.submitted(job, session.queue if session else job.queue)
        lines = [first, *(await queries.events(store, job.id)), *explain.slice_lines(slices)]
        lines.sort(key=lambda line: line.at)
        if self._veil(job) is not None:
            return await self._without_end(job, lines)
        job = self._context.book.jobs.get(job.id) or await self._job(who, ref)  # it may have ended meanwhile
        if not job.is_terminal:
            lines.append(verbs.LogLine(at=self._context.clock(), text=self._explanation(job)))
        return lines

    async def _without_end(self, job: Job, lines: list[verbs.LogLine]) -> list[verbs.LogLine]:
        """The story of a job whose end is covered."""
        ended = await queries.job(self._context.store, job.id)
        at = (ended.ended_at if ended else None) or self._context.clock()
        text = "its result is on its way: the session asked for the times of a QPU, or for a delay (injected)"
        return [*(line for line in lines if line.at < at), verbs.LogLine(at=self._context.clock(), text=text)]

    async def results_text(self, who: Identity, ref: str) -> tuple[Job, str | None]:
        """A job and, once DONE, the JSON text {"counter": {bits: n}} that the wire calls results."""
        job = await self._job(who, ref)
        if job.state is not JobState.DONE:
            return self._explained(job), None
        return job, await queries.final_counts(self._context.store, job.id)

    async def result(self, who: Identity, ref: str, wait_seconds: float = 0.0) -> verbs.Result:
        """Counts so far and provenance; with `wait_seconds` > 0 waits for the job's end at most so long."""
        job = await self._job(who, ref)
        if wait_seconds > 0:
            job = await self._wait(job, wait_seconds, lambda now: now.is_terminal)
        store = self._context.store
        texts = await queries.texts(store, job.id)
        slices, spec_hash = await queries.slices(store, job.id)
        is_covered = self._veil(job) is not None
        return verbs.Result(
            job=self._explained(job),
            counts={} if is_covered else await queries.counts_so_far(store, job.id),
            result=None if is_covered else await queries.raw_result(store, job.id),
            message="" if is_covered else texts.message,
            spec_hash=spec_hash or job.validated_spec,
            seed=texts.seed,
            provenance=texts.provenance,
            slices=slices,
            tags=texts.tags,
            variables=texts.variables,
            qpu_seconds=texts.qpu_seconds,
        )

    async def hold_job(self, who: Identity, ref: str) -> Job:
        """Keep a job from starting further slices, until released.

        Raises:
            Conflict: It has ended, or is being canceled.
        """
        job = await self._job(who, ref)
        if job.is_terminal or job.reason is Reason.CANCELING:
            raise Conflict(f"job {job.id} is {job.state} and cannot be held")
        is_own = who.user_id == job.user_id and job.reason is not Reason.HELD_ADMIN
        return await self._set_reason(job, Reason.HELD if is_own else Reason.HELD_ADMIN, f"held by {who.user}")

    async def release_job(self, who: Identity, ref: str) -> Job:
        """Undo a hold.

        Raises:
            Conflict: It is not held, or held by an administrator and the caller is none.
        """
        job = await self._job(who, ref)
        if job.reason not in _HELD:
            raise Conflict(f"job {job.id} is not held")
        if job.reason is Reason.HELD_ADMIN and not who.is_admin:
            raise Conflict(f"job {job.id} was held by an administrator: only an administrator can release it")
        after = Reason.NONE if job.validated_spec else Reason.VALIDATING
        return await self._set_reason(job, after, f"released by {who.user}")

    async def queue(self, who: Identity, resource: str | None) -> list[verbs.QueueEntry]:
        """Unfinished jobs of one resource (None: all) in the scheduler's order, at most 1000.

        Jobs whose resource is not configured any more are shown too: nothing else tells that they wait.
        """
        gone = self._context.book.resources_gone
        names = [*self.policy.resources, *gone]
        if resource is not None:
            names = [resource if resource in gone else self.resource_name(resource)]
        entries: list[verbs.QueueEntry] = []
        for name in names:
            jobs = self._queue_of(name)[: _LONGEST_QUEUE - len(entries)]
            foreseen = self._context.forecaster.in_order(name, jobs, self._context.clock())
            for position, (job, forecast) in enumerate(zip(jobs, foreseen, strict=True)):
                entries.append(self._entry(who, position, job, forecast))
                if position % _ENTRIES_IN_A_ROW == _ENTRIES_IN_A_ROW - 1:
                    await asyncio.sleep(0)
        return entries

    # -- parts
    def _queue_of(self, resource: str) -> list[Job]:
        book = self._context.book
        if resource in book.resources_gone:
            return [job for job in book.jobs.values() if job.resource == resource][:_LONGEST_QUEUE]
        current = book.current(resource)
        ordered = [current] if current else []
        ordered += [book.jobs[job_id] for job_id in book.pending[resource].in_order(_LONGEST_QUEUE)]
        if len(ordered) < _LONGEST_QUEUE:
            seen = {job.id for job in ordered}
            ordered += [job for job in book.jobs.values() if job.resource == resource and job.id not in seen]
        return ordered[:_LONGEST_QUEUE]

    def _entry(self, who: Identity, position: int, job: Job, forecast: verbs.Forecast | None) -> verbs.QueueEntry:
        shown, word = job, self._reason_of(job)
        if not who.may_see(job.user_id):
            shown = msgspec.structs.replace(job, name=None, uid="", session_id="", sequence_hash="")
        waited = (job.started_at or self._context.clock()) - job.submitted_at
        return verbs.QueueEntry(
            position=position,
            job=shown,
            tier=self._tier(job),
            user=self._context.names(job.user_id),
            reason=word,
            explanation=self._explanation(job, word),
            waited_seconds=waited,
            forecast=forecast,
        )

    def _tier(self, job: Job) -> int:
        order = self._context.book.pending.get(job.resource)
        return tier(job, self.policy.queues) if order is None else order.tier_of(job)

    def _explained(self, job: Job) -> Job:
        return job if job.is_terminal else msgspec.structs.replace(job, reason=self._reason_of(job))

    def _reason_of(self, job: Job) -> Reason:
        """Why an unfinished job waits now."""
        reason = explain.reason(job, self._context.book, self._context.clock())
        return Reason.WORKER if reason is Reason.NONE and self._worker_lacks(job) else reason

    def _explanation(self, job: Job, word: Reason | None = None) -> str:
        if (
            word in (None, Reason.NONE, Reason.WORKER)
            and job.reason is Reason.NONE
            and (why := self._worker_lacks(job))
        ):
            return f"waits: {why}"
        word = Reason.NONE if word is Reason.WORKER else word
        driver = foresighted(self._context.drivers.get(job.resource))
        done = driver.preparing(job.id) if driver else ""
        sentence = explain.sentence(job, self._context.book, self.policy, self._context.clock(), word)
        return f"{sentence}; {done}" if done else sentence

    def _worker_lacks(self, job: Job) -> str:
        """What the worker of a job that has its turn waits for."""
        flight = self._context.book.flights.get(job.resource)
        driver = foresighted(self._context.drivers.get(job.resource))
        return driver.lacks(job.id) if driver and flight and flight.job_id == job.id else ""

    async def _wait(self, job: Job, seconds: float, is_over: explain.Condition) -> Job:
        context = self._context
        deadline = context.pulse() + min(seconds, LONGEST_WAIT_SECONDS)
        while (
            not (is_over(job) or job.is_terminal) and (left := deadline - context.pulse()) > 0 and context.waiters.open
        ):
            until = self._veil(job)
            await context.waiters.wait(job.id, left if until is None else min(left, until - context.clock() + 0.001))
            job = await self._job_by_id(job.id) or job
        return job

    async def _set_reason(self, job: Job, reason: Reason, text: str) -> Job:
        context = self._context

        def operation(transaction: Transaction) -> None:
            sql.set_reason(transaction, job.id, reason)
            sql.add_event(transaction, job.id, context.clock(), text)

        def then(_none: None) -> None:
            if (current := context.book.jobs.get(job.id)) is not None:
                context.book.update_job(msgspec.structs.replace(current, reason=reason))
            context.waiters.notify(job.id)
            context.wake(job.resource)

        await context.store.write(operation, then)
        return self._explained(context.book.jobs.get(job.id, job))


def _cancellation(found: Job, after: Job, asked_before: bool) -> verbs.Cancellation:
    return verbs.Cancellation(
        job=after,
        before=found.state,
        asked_before=asked_before,
        message=explain.cancellation(found, after, asked_before),
    )
