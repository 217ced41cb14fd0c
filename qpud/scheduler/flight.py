"""One slice at the resource: launch it or adopt it, attend it, and find out what became of it when nobody answers."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import msgspec

from qpud.context import Context
from qpud.core.errors import QpudError
from qpud.core.job import Job, Reason
from qpud.core.progress import checked
from qpud.core.slices import Outcome, OutcomeState, Slice
from qpud.drivers.base import Driver, Fault, HealthState, Refused, SliceRequest, Undecided, Unreachable
from qpud.scheduler.programs import Loaded, atoms_of, emulation_of
from qpud.store import jobs as jobs_sql
from qpud.store import queries
from qpud.store import slices as slices_sql
from qpud.store.writer import Transaction

log = logging.getLogger(__name__)

T = TypeVar("T")

HEARTBEAT_SECONDS = 10.0
_PATIENCE_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class _Asked(enum.Enum):
    """What the resource was asked about the slice in flight."""

    NOTHING = enum.auto()
    STOP = enum.auto()  # its job is to end
    CUT = enum.auto()  # others are to go first


class Landed(msgspec.Struct, frozen=True, kw_only=True):
    """How a slice came back. `outcome` is None if it never started; `refused` is the resource's word on it."""

    outcome: Outcome | None
    refused: Refused | None = None
    note: str = ""
    is_cut: bool = False  # ended before its time, though its job goes on


class Crew:
    """Flies the slices of one resource.

    Args:
        context: The parts of the daemon.
        name: The resource.
        driver: Its driver.
        changed: Set when a job of the resource may have been asked to stop.
        others: Awaited at each change and at least every HEARTBEAT_SECONDS.
        cut_at: When the slice in flight is to be cut for others, seconds since the epoch; None while it is not.
    """

    def __init__(
        self,
        context: Context,
        name: str,
        driver: Driver,
        changed: asyncio.Event,
        others: Callable[[], Awaitable[None]],
        cut_at: Callable[[], float | None],
    ) -> None:
        self.in_the_dark = False  # a slice is UNKNOWN: nothing else may start
        self._context = context
        self._name = name
        self._driver = driver
        self._changed = changed
        self._others = others
        self._cut_at = cut_at
        self._newest_id: str | None = None  # of the slices that this resource is known to have taken

    async def fly(self, flying: Slice, loaded: Loaded, job: Job) -> Landed:
        """Hand a committed slice to the resource and wait for its end, however long that takes."""
        request = self.request(flying, loaded, job)
        try:
            device_id = None if self._has_to_stay(job.id) else await self._launch(request, flying)
        except Refused as refused:
            self._context.metrics.driver_error(self._name, "refused")
            return Landed(outcome=None, refused=refused, note=f"{self._name} refused a slice: {refused.message}")
        if device_id is None:
            return Landed(outcome=None, note="stopped before its slice started")
        await self._record_running(flying, device_id)
        return await self._attend(device_id, request, flying)

    async def adopt(self, left: Slice, loaded: Loaded, job: Job) -> Landed:
        """Find out what became of a slice that an earlier daemon left in flight, and see it to its end."""
        self._newest_id = await queries.newest_device_id(self._context.store, self._name)
        request = self.request(left, loaded, job)
        device_id = await self._find(request, left, "the daemon was restarted")
        if device_id is None:
            return Landed(outcome=None, note="the daemon was restarted while a slice ran; its shots are run again")
        await self._record_running(left, device_id)
        return await self._attend(device_id, request, left)

    def request(self, flying: Slice, loaded: Loaded, job: Job) -> SliceRequest:
        """What the driver is told of a slice."""
        session = self._context.book.sessions.get(job.session_id)
        asked = session.rehearsal if session else None
        lost = 0 if asked is None else asked.faults.lost_of(loaded.seed, flying.number, flying.shots)
        return SliceRequest(
            tag=flying.tag,
            job_id=job.id,
            batch_id=job.batch_id or job.session_id,
            program=loaded.program,
            shots=flying.shots - lost,
            first_shot=flying.first_shot,
            job_shots=job.shots,
            seed=loaded.seed,
            slurm_job_id=session.slurm_job_id if session else None,
            device_id=flying.device_id,
            after_device_id=self._newest_id,
            emulation=emulation_of(self._context, job),
        )

    # -- start
    async def _launch(self, request: SliceRequest, flying: Slice) -> str | None:
        """The resource's id of the slice, or None if the job was asked to stop before the slice could start."""
        for attempt in itertools.count():
            try:
                return await self._start(request)
            except Unreachable as fault:
                found = await self._find(request, flying, fault.message)
            if found is not None or self._is_stopped(flying.job_id):
                break
            await self._pause(attempt)
        return found

    async def _start(self, request: SliceRequest) -> str:
        return await self._patiently(self._honestly(self._driver.start(request), request.tag))

    async def _honestly(self, what: Coroutine[Any, Any, T], tag: str) -> T:
        """A driver's answer; after a bug of it, whether the slice is there is not known. Raises: Fault."""
        try:
            return await what
        except Fault:
            raise
        except Exception as error:
            if not self.in_the_dark:  # else it was said: it may be asked again all night
                log.exception("driver fault, the slice is in doubt", extra={"resource": self._name, "tag": tag})
            raise Undecided(f"the driver of {self._name} failed ({type(error).__name__}: {error})"[:300]) from error

    async def _find(self, request: SliceRequest, flying: Slice, why: str) -> str | None:
        for attempt in itertools.count():
            try:
                found = await self._patiently(self._honestly(self._driver.find(request), request.tag))
            except Fault as fault:
                why = fault.message
                if isinstance(fault, Undecided) and self._is_stopped(flying.job_id):
                    found = None  # a person has looked, and gave it up
                    break
            else:
                break
            await self._lose_sight(flying, why)
            await self._pause(attempt)
        self._see_again()
        return found

    # -- attend
    async def _attend(self, device_id: str, request: SliceRequest, flying: Slice) -> Landed:
        asked = _Asked.NOTHING
        atoms = atoms_of(request.program)
        for attempt in itertools.count():
            waiting = asyncio.ensure_future(self._driver.wait(device_id, request))
            try:
                asked = await self._watch(waiting, device_id, flying, asked)
                outcome = self._outcome_of(waiting)
            except Unreachable as fault:
                if isinstance(fault, Undecided) and self._is_stopped(flying.job_id):
                    self._see_again()
                    return Landed(outcome=None, note=f"given up: {fault.message}")
                await self._lose_sight(flying, fault.message)
                await self._pause(attempt)
                await self._until_it_answers()
                continue
            finally:
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            break
        self._see_again()
        return self._landed(checked(outcome, request.shots, atoms), request.shots, asked is _Asked.CUT)

    def _outcome_of(self, waiting: asyncio.Future[Outcome]) -> Outcome:
        """What the driver said. Raises: Unreachable."""
        try:
            return waiting.result()
        except Unreachable:
            raise
        except (Exception, asyncio.CancelledError) as error:  # nobody here cancels a wait that is done
            return self._driver_fault(error)

    async def _watch(self, waiting: asyncio.Future[Outcome], device_id: str, flying: Slice, asked: _Asked) -> _Asked:
        while not waiting.done():
            cut_in = self._seconds_to_cut()
            wish = self._wish(flying, cut_in)
            if asked is _Asked.NOTHING and wish is not _Asked.NOTHING and await self._ask_to_cancel(device_id):
                asked = wish
            self._changed.clear()
            await self._others()
            change = asyncio.ensure_future(self._changed.wait())
            either: set[asyncio.Future[Any]] = {waiting, change}
            patience = min(HEARTBEAT_SECONDS, cut_in) if cut_in > 0 else HEARTBEAT_SECONDS
            try:
                await asyncio.wait(either, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            finally:
                change.cancel()
        return asked

    def _seconds_to_cut(self) -> float:
        """Seconds until the slice is to be cut, 0 or less if it is due."""
        cut_at = self._cut_at()
        return HEARTBEAT_SECONDS if cut_at is None else cut_at - self._context.clock()

    def _wish(self, flying: Slice, cut_in: float) -> _Asked:
        if self._is_stopped(flying.job_id):
            return _Asked.STOP
        return _Asked.CUT if cut_in <= 0 else _Asked.NOTHING

    async def _ask_to_cancel(self, device_id: str) -> bool:
        try:
            await self._driver.cancel(device_id)
        except Fault:
            return False
        except Exception:  # a driver's bug must not pass for the end of the slice
            log.exception("driver fault at cancel", extra={"resource": self._name})
            return False
        return True

    def _driver_fault(self, error: BaseException) -> Outcome:
        log.error("driver fault", exc_info=error, extra={"resource": self._name})
        now = self._context.clock()
        message = f"the driver of {self._name} failed ({type(error).__name__}: {error})"
        return Outcome(
            state=OutcomeState.FAILED,
            counts={},
            started_at=now,
            ended_at=now,
            qpu_seconds=0.0,
            message=message[:300],
            transient=True,
        )

    def _landed(self, outcome: Outcome, shots: int, is_cut: bool) -> Landed:
        if outcome.state is not OutcomeState.FAILED:
            obtained = outcome.shots
            note = f"its slice was cut with {obtained} of {shots} shots" if is_cut and obtained < shots else ""
            if is_cut and self._context.book.flights[self._name].is_unmanned:
                note = "its slice gave way while it waited for a worker"
            return Landed(outcome=outcome, note=note, is_cut=is_cut)
        self._context.metrics.driver_error(self._name, "failed")
        return Landed(outcome=outcome, note=f"a slice failed on {self._name}: {outcome.message}")

    # -- in the dark
    async def _lose_sight(self, flying: Slice, why: str) -> None:
        flight = self._context.book.flights[self._name]
        flight.message = why
        if self.in_the_dark:
            return
        self.in_the_dark = True
        flight.state = "unreachable"
        self._context.metrics.driver_error(self._name, "unreachable")
        self._context.metrics.resource_state(self._name, "unreachable")
        self._context.reshow()
        log.warning("slice unknown", extra={"resource": self._name, "tag": flying.tag, "why": why})
        with contextlib.suppress(QpudError):
            now, text = self._context.clock(), f"{self._name} does not answer: {why}"
            await self._context.store.write(partial(_store_unknown, flying=flying, at=now, text=text))

    async def _until_it_answers(self) -> None:
        """Return when the resource can be asked again; its slice may still run for long."""
        for attempt in itertools.count():
            health = await self._driver.health()
            if health.state is not HealthState.UNREACHABLE:
                break
            self._context.book.flights[self._name].message = health.message
            await self._pause(attempt)
        self._see_again()

    def _see_again(self) -> None:
        if not self.in_the_dark:
            return
        self.in_the_dark = False
        flight = self._context.book.flights[self._name]
        flight.state, flight.message = "up", ""
        self._context.show_state(self._name)

    async def _pause(self, attempt: int) -> None:
        await self._patiently(asyncio.sleep(_PATIENCE_SECONDS[min(attempt, len(_PATIENCE_SECONDS) - 1)]))

    async def _patiently(self, what: Coroutine[Any, Any, T]) -> T:
        """Await something that may take long, and attend to the others meanwhile."""
        task = asyncio.ensure_future(what)
        try:
            while not task.done():
                await self._others()
                await asyncio.wait({task}, timeout=HEARTBEAT_SECONDS)
            return task.result()
        finally:
            task.cancel()

    async def _record_running(self, flying: Slice, device_id: str) -> None:
        self._newest_id = device_id
        now = self._context.clock()
        try:
            await self._context.store.write(
                lambda transaction: slices_sql.set_running(transaction, flying.id, device_id, now)
            )
        except QpudError as error:  # harmless: the tag finds the slice as well
            log.warning("device id not stored", extra={"resource": self._name, "why": error.message})

    def _has_to_stay(self, job_id: int) -> bool:
        """Whether a slice that was intended must not start: its job was asked to stop, or the resource taken down."""
        return self._is_stopped(job_id) or self._context.book.flights[self._name].is_down

    def _is_stopped(self, job_id: int) -> bool:
        job = self._context.book.jobs.get(job_id)
        return job is not None and job.reason is Reason.CANCELING


def _store_unknown(transaction: Transaction, *, flying: Slice, at: float, text: str) -> None:
    slices_sql.set_unknown(transaction, flying.id)
    jobs_sql.add_event(transaction, flying.job_id, at, text)
