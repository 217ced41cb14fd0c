"""What comes next, told to a driver that can prepare it. Nothing is decided, claimed or stored here."""

from __future__ import annotations

from qpud.context import Context
from qpud.core.bars import bar
from qpud.core.errors import QpudError
from qpud.core.job import Job, Reason
from qpud.drivers.base import Coming, Driver, foresighted
from qpud.scheduler.programs import Programs, emulation_of


class Foresight:
    """Tells a driver the next jobs in line; does nothing for one that does not want to know.

    Args:
        context: The parts of the daemon.
        name: The resource.
        driver: Its driver.
        programs: Where programs are read.
    """

    def __init__(self, context: Context, name: str, driver: Driver, programs: Programs) -> None:
        self._context = context
        self._name = name
        self._driver = foresighted(driver)
        self._programs = programs
        self._told: dict[int, Coming] = {}
        self._trouble = ""

    async def tell(self) -> None:
        """Tell the driver what is next in line as things are now."""
        if self._driver is None or not self._driver.ahead:
            return
        jobs = [*self._current(), *self._next(self._driver.ahead)]
        try:
            coming = {job.id: self._told.get(job.id) or await self._coming(job) for job in jobs}
        except QpudError:  # a program cannot be read now: who starts it will say so
            return
        if coming or self._told:
            self._driver.foresee(list(coming.values()))
        self._told = coming

    def has_news(self) -> bool:
        """Whether the driver got into trouble, or out of it, since this was asked last."""
        before, self._trouble = self._trouble, self._driver.trouble if self._driver else ""
        return before != self._trouble

    def is_unmanned(self) -> bool:
        """Whether the slice in flight waits for a worker: nothing of it runs."""
        flown = self._context.book.flights[self._name].job_id
        return self._driver is not None and flown is not None and bool(self._driver.lacks(flown))

    def _current(self) -> list[Job]:
        """The job that has the resource: what was prepared for it is about to be used."""
        current = self._context.book.current(self._name)
        return [] if current is None else [current]

    def _next(self, limit: int) -> list[Job]:
        """The jobs that would start, best first; none while the resource starts nothing."""
        book, context = self._context.book, self._context
        if self._name not in context.specs or book.flights[self._name].shown_state != "up":
            return []
        now = context.clock()
        jobs = (book.jobs[job_id] for job_id in book.pending[self._name].in_order(limit))
        return [job for job in jobs if self._is_checked(job) and bar(book, job, now) is Reason.NONE]

    def _is_checked(self, job: Job) -> bool:
        spec = self._context.spec_for(job)
        return spec is not None and job.validated_spec == spec.hash

    async def _coming(self, job: Job) -> Coming:
        loaded = await self._programs.get(job)
        asked = emulation_of(self._context, job)
        return Coming(job_id=job.id, program=loaded.program, shots=job.shots, seed=loaded.seed, emulation=asked)
