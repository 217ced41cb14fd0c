"""The background verdicts: jobs that were accepted with reason Validating, best first."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from qpud.context import Context
from qpud.core.bars import freed
from qpud.core.errors import Conflict, QpudError
from qpud.core.job import Job, JobState, Reason, move
from qpud.drivers.base import DeviceSpec, Program
from qpud.drivers.workers import Verdict, WorkerFault
from qpud.store import jobs as sql
from qpud.store import queries
from qpud.store.writer import Transaction

log = logging.getLogger(__name__)

DUTY = 0.1  # of the time, while validated jobs wait anyway: submissions and the runner go before
_PATIENCE_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)


class Checker:
    """Asks for the verdicts of one resource's unvalidated jobs, one after the other.

    Args:
        context: The parts of the daemon.
        name: The resource.
    """

    def __init__(self, context: Context, name: str) -> None:
        self._context = context
        self._name = name
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Jobs or the spec changed."""
        self._changed.set()

    async def run(self) -> None:
        """Check until cancelled."""
        failures = 0
        while True:
            if (found := self._next()) is None:
                self._tell("")
                await self._changed.wait()
                self._changed.clear()
                continue
            began = self._context.pulse()
            failures = 0 if await self._check(*found) else failures + 1
            await asyncio.sleep(self._pause(failures, self._context.pulse() - began))

    def _pause(self, failures: int, took: float) -> float:
        """Seconds to wait after a check that took `took` seconds."""
        if failures:
            return _PATIENCE_SECONDS[min(failures, len(_PATIENCE_SECONDS)) - 1]
        return min(1.0, took / DUTY - took) if len(self._context.book.pending[self._name]) else 0.0

    def _next(self) -> tuple[Job, DeviceSpec] | None:
        """The best job that can be checked: one like a QPU that has not told its device yet keeps nobody waiting."""
        if self._name not in self._context.specs:
            return None
        for job_id in self._context.book.unvalidated[self._name].walk():
            job = self._context.book.jobs[job_id]
            if (spec := self._context.spec_for(job)) is not None:
                return job, spec
        return None

    async def _check(self, job: Job, spec: DeviceSpec) -> bool:
        try:
            text, variables, _seed = await queries.program(self._context.store, job.id)
            program = Program(
                sequence=text, sequence_hash=job.sequence_hash, register_hash=job.register_hash, variables=variables
            )
            await self._settle(job, await self._verdict(program, job, spec))
        except (WorkerFault, QpudError) as fault:
            log.warning("a job could not be checked, trying again", extra={"job": job.id, "why": fault.message})
            self._tell(fault.message)
            return False
        self._tell("")
        return True

    def _tell(self, why: str) -> None:
        self._context.book.flights[self._name].unchecked = why

    async def _verdict(self, program: Program, job: Job, spec: DeviceSpec) -> Verdict:
        if spec.max_runs is not None and job.shots > spec.max_runs:
            asked = self._context.rehearsal_of(job.session_id)
            limiting = (asked.like if asked else "") or self._name
            sentence = f"{job.shots} shots exceed max_runs {spec.max_runs} of {limiting}'s device {spec.name}"
            return Verdict(ok=False, sentence=sentence, spec_hash=spec.hash)
        if self._context.policy.resources[self._name].is_opaque:
            return Verdict(ok=True, sentence="", spec_hash=spec.hash)
        return await self._context.validator.verdict(program, job.shots, spec)

    async def _settle(self, job: Job, verdict: Verdict) -> None:
        current = self._context.book.jobs.get(job.id)
        if current is None or current.reason is not Reason.VALIDATING:
            return  # canceled or held meanwhile
        if verdict.ok:
            self._accept(current, verdict.spec_hash)
        else:
            await self._refuse(current, verdict.sentence)

    def _accept(self, job: Job, spec_hash: str) -> None:
        """Let the job run. Stored with its first slice: after a crash before that it is checked once more."""
        reason = Reason.NONE if job.reason is Reason.VALIDATING else job.reason
        self._context.book.update_job(msgspec.structs.replace(job, reason=reason, validated_spec=spec_hash))
        self._context.wake(self._name)

    async def _refuse(self, job: Job, sentence: str) -> None:
        context = self._context
        now = context.clock()
        ended = move(job, JobState.ERROR, Reason.INVALID, now)

        def operation(transaction: Transaction) -> None:
            sql.move(transaction, ended, job.state)
            sql.finish(transaction, ended, sentence)
            sql.add_event(transaction, job.id, now, f"refused: {sentence}")

        def then(_none: None) -> None:
            context.book.touch(ended, now)
            if job.id in context.book.jobs:
                context.book.update_job(ended)
            context.metrics.job_ended(job.resource, job.queue, ended.state)
            context.drivers[job.resource].release(job.id)
            context.waiters.notify(job.id)
            for resource in (self._name, *freed(context.book, job)):
                context.wake(resource)

        try:
            await context.store.write(operation, then)
        except Conflict:
            log.info("a job ended while it was checked", extra={"job": job.id})
