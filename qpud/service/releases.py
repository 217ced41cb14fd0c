"""Releases held Slurm jobs once the jobs they wait for have ended: `qpud submit --then-release`.

However those ended, since a Slurm job that stays held for ever helps nobody: it can look itself how they did. What is
to be released is stored with the jobs, so that a restart goes on with it; while Slurm is away it is tried again.
Nothing here costs a submission or the end of a job anything: for each Slurm job one task waits for one job at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from qpud.context import Context
from qpud.core.errors import QpudError
from qpud.core.slurm import HELD, SlurmHold, SlurmRefused, not_releasable
from qpud.service.held import HeldVerbs
from qpud.store import releases as sql
from qpud.store.releases import Promise

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 300.0
"""Between two attempts; each pause is twice the one before."""
_LONGEST_WAIT_SECONDS = 3600.0


class Releases:
    """Keeps the promises.

    Args:
        context: The parts of the daemon; its `promise` is set here.
        verbs: Whose turns are shared with submissions.
        first_pause: Seconds before a second attempt.
    """

    def __init__(self, context: Context, verbs: HeldVerbs, first_pause: float = FIRST_PAUSE_SECONDS) -> None:
        self._context = context
        self._verbs = verbs
        self._first_pause = first_pause
        self._promises: dict[int, Promise] = {}
        self._told: set[int] = set()  # Slurm was told to release these; its answer, or our record of it, may be lost
        self._new: asyncio.Queue[int] = asyncio.Queue()
        context.promise = self._add

    async def run(self) -> None:
        """Release until cancelled; without SlurmControl there is nothing to do."""
        left = await sql.unsettled(self._context.store)
        if self._context.slurm_control is None:
            if left:
                log.warning(
                    "held Slurm jobs are not released without SlurmControl = yes", extra={"jobs": sorted(left)}
                )
            return
        for number, promise in left.items():
            self._add(number, promise.user_id, sorted(promise.jobs))
        async with asyncio.TaskGroup() as tasks:
            while True:
                number = await self._new.get()
                tasks.create_task(self._keep(number), name=f"release {number}")

    def _add(self, number: int, user_id: int, jobs: Sequence[int]) -> None:
        if number not in self._promises:
            self._promises[number] = Promise(user_id, set())
            self._new.put_nowait(number)
        self._promises[number].jobs.update(jobs)

    async def _keep(self, number: int) -> None:
        """Keep one promise."""
        pause, told = self._first_pause, ""
        while number in self._promises:
            await self._all_ended(number)
            try:
                async with self._verbs.release_turn(number):
                    await self._settle(number)
            except QpudError as failure:
                if failure.message != told:
                    told = failure.message
                    await self._tell(number, f"Slurm job {number} is not released yet: {told}; it is tried again")
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _all_ended(self, number: int) -> None:
        while (job_id := self._unfinished(number)) is not None:
            await self._context.waiters.wait(job_id, _LONGEST_WAIT_SECONDS)

    def _unfinished(self, number: int) -> int | None:
        book = self._context.book
        return next((job_id for job_id in self._promises[number].jobs if job_id in book.jobs), None)

    async def _settle(self, number: int) -> None:
        """Release a Slurm job unless another job came meanwhile; what became of it is stored.

        Raises:
            QpudError: Slurm is away or refused, or the disk is full: nothing is settled.
        """
        context = self._context
        if self._unfinished(number) is not None or context.slurm is None:
            return
        outcome = await self._outcome(number, await context.slurm.hold_of(number))
        at = context.clock()

        def then(_none: None) -> None:
            del self._promises[number]
            self._told.discard(number)

        await context.store.write(lambda transaction: sql.settle(transaction, number, at, outcome), then)

    async def _outcome(self, number: int, hold: SlurmHold | None) -> str:
        context, user_id = self._context, self._promises[number].user_id
        user = context.names(user_id)
        if not self._was_released(number, hold):
            if why := not_releasable(number, user_id, user, hold):
                log.info("a Slurm job was not released", extra={"slurm_job": number, "user": user, "why": why})
                return f"Slurm job {number} was not released: {why}"
            await self._release(number, user)
        ended = await sql.endings(context.store, number)
        states = ", ".join(f"{count} {state}" for state, count in sorted(ended.items()))
        return f"Slurm job {number} was released: all jobs that it waited for have ended ({states})"

    def _was_released(self, number: int, hold: SlurmHold | None) -> bool:
        """Whether an earlier try did it, although that could not be told or stored."""
        return number in self._told and (hold is None or hold.reason not in HELD)

    async def _release(self, number: int, user: str) -> None:
        if self._context.slurm_control is None:
            return
        self._told.add(number)
        try:
            await self._context.slurm_control.release(number, user)
        except SlurmRefused:
            self._told.discard(number)
            raise

    async def _tell(self, number: int, text: str) -> None:
        jobs, at = sorted(self._promises[number].jobs), self._context.clock()
        log.warning("a Slurm job is not released yet", extra={"slurm_job": number, "why": text})
        try:
            await self._context.store.write(lambda transaction: sql.tell(transaction, jobs, at, text))
        except QpudError as failure:
            log.warning("the story of jobs could not be stored", extra={"why": failure.message})
