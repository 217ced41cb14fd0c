"""The loop of one resource: at each slice boundary commit what ended with the intent of what comes next, then fly it.

One commit for both keeps the gap between two slices at one fsync. Whatever the store or the resource does, a finished
slice stays in memory until it is committed, and nothing else starts before.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import Counter
from functools import partial

import msgspec

from qpud.context import Context
from qpud.core import turns
from qpud.core.errors import Conflict, QpudError
from qpud.core.job import Job, JobState, Reason, move
from qpud.core.progress import Verdict
from qpud.core.slices import Slice
from qpud.drivers.base import Driver, Health, HealthState, Refused
from qpud.scheduler import boundary, faulty
from qpud.scheduler.boundary import Ended, Start
from qpud.scheduler.flight import HEARTBEAT_SECONDS, Crew, Landed
from qpud.scheduler.foresight import Foresight
from qpud.scheduler.programs import Programs
from qpud.store import slices as slices_sql

log = logging.getLogger(__name__)

_RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_ATTEMPTS_PER_LOG_LINE = 12  # about one a minute: the log may lie on the same full disk
_CHECKED_AHEAD = 16
_COOLDOWN_SECONDS = (1.0, 2.0, 5.0, 15.0, 60.0)


class Runner:
    """Decides and flies the slices of one resource.

    Args:
        context: The parts of the daemon.
        name: The resource.
        driver: Its driver.
    """

    def __init__(self, context: Context, name: str, driver: Driver) -> None:
        self.turned_at = context.pulse()
        self._context = context
        self._name = name
        self._driver = driver
        self._changed = asyncio.Event()
        self._programs = Programs(context)
        self._foresight = Foresight(context, name, driver, self._programs)
        self._crew = Crew(context, name, driver, self._changed, self._attend_to_others, self._cut_at)
        self._attempts: Counter[int] = Counter()  # fruitless slices in a row
        self._refusals = 0
        self._cool_until = 0.0
        self._previous: Job | None = None  # who had the resource last: what a newcomer waited behind
        self._idle_since: float | None = None  # wall time of the last slice's end
        self._logged_state = ("up", "")
        self._unreadable: tuple[int, str] | None = None  # the job that cannot be started, and why

    def wake(self) -> None:
        """Jobs, the resource or the policy changed."""
        self._changed.set()

    def report(self, health: Health) -> bool:
        """Take in the driver's word on its resource; returns whether it is up."""
        flight = self._context.book.flights[self._name]
        if self._context.pulse() >= self._cool_until and not self._crew.in_the_dark:
            self._set_state("up" if health.state is HealthState.UP else health.state.value, health.message)
        return flight.state == "up"

    async def run(self, in_flight: list[Slice]) -> None:
        """Reconcile what an earlier daemon left at the resource, then decide and fly until cancelled."""
        for left in in_flight:
            if (ended := await self._adopt(left)) is not None:
                self._context.book.claim(self._name, None)
                await self._commit(ended, None)
                self._let_go()
        ended = None
        while True:
            ended = await self._turn(ended)

    # -- one boundary
    async def _turn(self, ended: Ended | None) -> Ended | None:
        self._changed.clear()
        self._beat()
        await self._stop_stranded()
        await self._hear()
        planned = await self._plan(ended)
        start = planned
        if ended is not None or planned is not None:
            start = await self._commit(ended, planned)
        if start is None:
            await self._foresight.tell()
            await self._rest(is_settled=ended is None and planned is None)
            return None
        return self._end(start.slice, start.job.queue, await self._fly(start))

    async def _fly(self, start: Start) -> Landed:
        self._observe_gap(start)
        job = self._context.book.jobs[start.job.id]
        self._previous = job
        injected = faulty.strike(self._context, start.slice, job)
        landed = injected or await self._crew.fly(start.slice, await self._programs.get(job), job)
        self._idle_since = self._context.clock()
        return landed

    def _let_go(self) -> None:
        """Nobody has the resource; the job whose end is committed is queued again if shots are left."""
        self._context.book.claim(self._name, None)
        self._context.book.leave(self._name)

    async def _adopt(self, left: Slice) -> Ended | None:
        job = self._context.book.jobs.get(left.job_id)
        if job is None:
            log.error("a slice in flight belongs to no unfinished job", extra={"tag": left.tag})
            await self._drop(left)
            return None
        self._context.book.add_slice(left)
        return self._end(left, job.queue, await self._find_out(left, job))

    async def _find_out(self, left: Slice, job: Job) -> Landed:
        attempt = 0
        while True:
            try:
                return await self._crew.adopt(left, await self._programs.get(job), job)
            except QpudError as error:  # the store cannot be read: nothing was asked of the resource yet
                await self._wait_for_store(attempt, error, "a slice that was in flight cannot be read, trying again")
            attempt += 1

    async def _drop(self, left: Slice) -> None:
        now, note = self._context.clock(), "its job had ended before"
        with contextlib.suppress(QpudError):
            await self._context.store.write(
                lambda transaction: slices_sql.drop_intent(transaction, left.id, now, note)
            )

    # -- what comes next
    async def _plan(self, ended: Ended | None) -> Start | None:
        choice = self._choose(ended)
        self._context.book.claim(self._name, choice.job.id if choice else None)
        if choice is None:
            return None
        try:
            loaded = await self._programs.get(choice.job)
        except QpudError as error:
            self._postpone(choice.job, ended, error)
            return None
        if self._unreadable is not None:
            self._unreadable, self._context.book.flights[self._name].message = None, ""
        new = self._intend(choice, loaded.next_number, loaded.seed)
        return Start(slice=new, job=choice.job, yielding=choice.yielding, previous=self._previous)

    def _postpone(self, job: Job, ended: Ended | None, error: QpudError) -> None:
        """The job's program cannot be read: it is tried again at the next turn, and others are once it is held."""
        if ended is not None and ended.slice.job_id == job.id:  # the end of its slice is not committed yet
            self._context.book.claim(self._name, None)
        else:
            self._context.book.give_up(self._name)
        self._context.book.flights[self._name].message = f"job {job.id} cannot start: {error.message}"
        if (job.id, error.message) != self._unreadable:
            log.error("a job cannot start, trying again", extra={"job": job.id, "why": error.message})
        self._unreadable = (job.id, error.message)

    def _choose(self, ended: Ended | None) -> turns.Choice | None:
        flight = self._context.book.flights[self._name]
        if flight.drained is not None or flight.state != "up" or self._context.pulse() < self._cool_until:
            return None
        if self._name not in self._context.specs:  # just started: every job would have to be checked against nothing
            return None
        current = self._current_after(ended)
        if current is not None and not self._is_checked(current):
            current = None  # checked when it is the head of the queue: the end of its slice is not committed yet
        return self._checked_choice(current)

    def _current_after(self, ended: Ended | None) -> Job | None:
        if ended is None or ended.verdict.job.is_terminal or ended.yields:
            return None
        now = self._context.book.jobs[ended.verdict.job.id]
        after = ended.verdict.job
        return msgspec.structs.replace(now, shots_done=after.shots_done, qpu_seconds=after.qpu_seconds)

    def _is_checked(self, job: Job) -> bool:
        """Whether the job's verdict holds for the spec that it has to fit."""
        spec = self._context.spec_for(job)
        return spec is not None and job.validated_spec == spec.hash

    def _checked_choice(self, current: Job | None) -> turns.Choice | None:
        """The best job whose verdict holds for its spec; those before it go to the checker."""
        book, now = self._context.book, self._context.clock()
        while (choice := turns.decide(book, self._name, current, now, self._driver.shots_for)) is not None:
            if self._is_checked(choice.job):
                break
            if not self._has_room_to_check(choice.job):
                return None
            book.update_job(msgspec.structs.replace(choice.job, reason=Reason.VALIDATING))
            self._context.wake(self._name)
        return choice

    def _has_room_to_check(self, job: Job) -> bool:
        """When the spec changes thousands of jobs may have to be checked again: a few at a time, best first."""
        book = self._context.book
        waiting = book.unvalidated[self._name]
        first = waiting.head()
        return len(waiting) < _CHECKED_AHEAD or (first is not None and book.ranks(job) < book.ranks(book.jobs[first]))

    def _intend(self, choice: turns.Choice, number: int, seed: int) -> Slice:
        job = choice.job
        return Slice(
            id=self._context.take_slice_id(),
            job_id=job.id,
            number=number,
            resource=self._name,
            tag=f"{job.uid}.{number}",
            shots=self._shots_of(choice, number),
            first_shot=job.shots_done,
            seed=seed,
            intended_at=self._context.clock(),
        )

    def _shots_of(self, choice: turns.Choice, number: int) -> int:
        asked = self._context.rehearsal_of(choice.job.session_id)
        return choice.shots if asked is None else asked.faults.shots_of(number, choice.shots, choice.job.shots_left)

    # -- what ended
    def _end(self, ended: Slice, queue: str, landed: Landed) -> Ended:
        book = self._context.book
        job = book.jobs[ended.job_id]
        if landed.outcome is None:
            verdict, charge, note = self._verdict_of_refusal(job, landed.refused), None, ""
        else:
            self._refusals = 0
            landing = turns.land(
                book,
                ended,
                landed.outcome,
                attempts=self._attempts[job.id],
                stopping=book.stopping.get(job.id),
                now=self._context.clock(),
                is_cut=landed.is_cut,
            )
            verdict, charge, note = landing.verdict, landing.charge, landing.doubt
            if note:
                log.info("wrong hint", extra={"resource": self._name, "session": job.session_id, "why": note})
        self._count_attempts(verdict)
        fault = faulty.told(self._context, ended, landed, verdict)
        return Ended(
            slice=ended,
            outcome=landed.outcome,
            verdict=verdict,
            charge=charge,
            queue=queue,
            note="; ".join(part for part in (landed.note or note, fault.note) if part),
            yields=fault.yields,
        )

    def _count_attempts(self, verdict: Verdict) -> None:
        if verdict.fruitless and not verdict.job.is_terminal:
            self._attempts[verdict.job.id] += 1
        else:
            self._attempts.pop(verdict.job.id, None)

    def _verdict_of_refusal(self, job: Job, refused: Refused | None) -> Verdict:
        now = self._context.clock()
        if job.reason is Reason.CANCELING:
            why = self._context.book.stopping.get(job.id, Reason.USER)
            return Verdict(job=move(job, JobState.CANCELED, why, now), message="canceled before its slice started")
        if refused is not None and not refused.transient:
            return Verdict(job=move(job, JobState.ERROR, Reason.FAULT, now), message=refused.message)
        if refused is not None:
            self._cool_down(refused.message)
        return Verdict(job=job)

    def _cool_down(self, why: str) -> None:
        seconds = _COOLDOWN_SECONDS[min(self._refusals, len(_COOLDOWN_SECONDS) - 1)]
        self._refusals += 1
        self._cool_until = self._context.pulse() + seconds
        self._set_state("down", why)

    # -- committing
    async def _commit(self, ended: Ended | None, start: Start | None) -> Start | None:
        """Commit a boundary, however long the store is away; returns `start`, or None if its job ended meanwhile."""
        for attempt in itertools.count():
            try:
                await self._write(ended, start)
                if attempt:
                    self._context.book.flights[self._name].message = ""
                    log.info("slice boundaries are stored again", extra={"resource": self._name})
                break
            except Conflict:
                if start is None or start.job.id in self._context.book.jobs:
                    raise  # not a cancel that came first: memory and database disagree, a restart heals that
                self._context.book.give_up(self._name)
                start = None
            except QpudError as error:
                await self._wait_for_store(attempt, error)
        self._forget_ended(ended)
        return start

    async def _write(self, ended: Ended | None, start: Start | None) -> None:
        if ended is None and start is None:
            self._context.book.leave(self._name)
            return
        now = self._context.clock()
        spec = self._context.spec_for(ended.verdict.job) if ended is not None else None
        operation = boundary.operation(ended, start, spec.hash if spec else None, now)
        await self._context.store.write(
            operation, lambda _none: boundary.publish(self._context, self._name, ended, start, now)
        )
        if start is not None:
            self._programs.count_slice(start.job.id)

    async def _wait_for_store(
        self, attempt: int, error: QpudError, what: str = "a slice boundary cannot be stored, trying again"
    ) -> None:
        flight = self._context.book.flights[self._name]
        flight.message = error.message
        if attempt % _ATTEMPTS_PER_LOG_LINE == 0:
            why = {"resource": self._name, "why": error.message}
            log.error(what, extra=why)
        self._beat()
        await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])

    def _forget_ended(self, ended: Ended | None) -> None:
        if ended is not None and ended.verdict.job.is_terminal:
            self._programs.forget(ended.verdict.job.id)

    async def _stop_stranded(self) -> None:
        """Cancel jobs that were asked to stop just as they lost the resource."""
        for job in self._context.book.stranded(self._name):
            why = self._context.book.stopping.get(job.id, Reason.USER)
            ended = move(job, JobState.CANCELED, why, self._context.clock())
            with contextlib.suppress(QpudError):
                await self._context.store.write(
                    partial(boundary.store_cancel, found=job.state, job=ended),
                    partial(boundary.publish_cancel, context=self._context, job=ended),
                )

    # -- waiting
    async def _rest(self, *, is_settled: bool) -> None:
        if not is_settled:
            return  # look once more: the end of the slice may have changed the order
        self._idle_since = None
        cooling = self._cool_until - self._context.pulse()
        if self._cool_until and cooling <= 0:
            self._cool_until = 0.0
            self.report(await self._driver.health())
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(HEARTBEAT_SECONDS, cooling) if cooling > 0 else HEARTBEAT_SECONDS):
                await self._changed.wait()

    def _cut_at(self) -> float | None:
        """When the slice in flight is to be cut, seconds since the epoch; None if it may run to its end."""
        book, now = self._context.book, self._context.clock()
        book.flights[self._name].see_worker(is_missing=self._foresight.is_unmanned(), now=now)
        interruption = turns.interruption(book, self._name, now)
        return None if interruption is None else interruption.at

    def _beat(self) -> None:
        self.turned_at = self._context.pulse()

    async def _attend_to_others(self) -> None:
        """What is done while a slice is in flight, so that the boundary need not do it."""
        self._beat()
        await self._stop_stranded()
        if (head := self._context.book.head(self._name)) is not None:
            with contextlib.suppress(QpudError):  # it will be told when it is to start
                await self._programs.get(head)
        await self._hear()
        await self._foresight.tell()

    async def _hear(self) -> None:
        """Take in what a driver with workers of its own has to say before the monitor asks it."""
        if self._foresight.has_news():
            self.report(await self._driver.health())

    def _observe_gap(self, start: Start) -> None:
        if self._idle_since is not None and start.job.submitted_at < self._idle_since:
            self._context.metrics.gap(self._name, self._context.clock() - self._idle_since)

    def _set_state(self, state: str, message: str) -> None:
        flight = self._context.book.flights[self._name]
        if (flight.state, flight.message) == (state, message):
            return
        if (state, message) != self._logged_state:  # beside other words about the resource it is no news
            level = logging.INFO if state == "up" else logging.WARNING
            why = {"resource": self._name, "state": state, "why": message or "it answers"}
            log.log(level, "resource state", extra=why)
            self._logged_state = state, message
        flight.state, flight.message = state, message
        self._context.show_state(self._name)
        self._changed.set()
