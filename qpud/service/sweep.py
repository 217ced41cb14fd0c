"""Compares open sessions with Slurm's jobs: what hooks miss (a dead node, a killed slurmstepd) ends here.

One `squeue` every two minutes, and when a job should have ended. Nothing is closed because Slurm is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from qpud.context import Context
from qpud.core.errors import QpudError
from qpud.core.session import CloseReason, Session
from qpud.core.slurm import SlurmJob, has_ended, job_number
from qpud.service.sessions import SessionVerbs
from qpud.service.slurm import follow
from qpud.site.slurm import Slurm

log = logging.getLogger(__name__)

EVERY_SECONDS = 120.0
"""Between two sweeps when nothing is due."""
PAUSE_SECONDS = 5.0
"""Between two sweeps at least."""


class Sweep:
    """Watches the sessions of Slurm jobs.

    Args:
        context: The parts of the daemon; its `expect` is set here.
        sessions: Closes them.
    """

    def __init__(self, context: Context, sessions: SessionVerbs) -> None:
        self._context = context
        self._sessions = sessions
        self._changed = asyncio.Event()
        context.expect = self._changed.set

    async def run(self) -> None:
        """Sweep until cancelled; without SlurmLookup there is nothing to do."""
        if self._context.slurm is None:
            return
        while True:
            await self._sweep_or_log(self._context.slurm)
            await asyncio.sleep(PAUSE_SECONDS)
            await self._until_due()

    async def sweep(self, slurm: Slurm) -> None:
        """Close each session whose Slurm job is over, and move the end of the others to their job's.

        Raises:
            SlurmAway: Nothing was done.
        """
        found = [(one, job_number(one.slurm_job_id)) for one in self._context.book.sessions.values()]
        held = [(session, number) for session, number in found if number is not None]
        if not held:
            return
        jobs = await slurm.jobs()
        for session, number in held:
            await self._compare(slurm, session, jobs.get(number), number)

    async def _compare(self, slurm: Slurm, session: Session, listed: SlurmJob | None, number: int) -> None:
        if has_ended(session, listed):  # asked again by its id: a listing may be older than the session
            slurm.forget(number)
            listed = await slurm.look_up(number)
        if has_ended(session, listed):
            what = {"session": session.id, "user": session.user, "slurm_job": number}
            log.info("session of an ended Slurm job", extra={**what, "state": listed.state if listed else "unknown"})
            await self._sessions.end_session(session, CloseReason.SLURM)
            self._context.metrics.session_swept()
        elif listed is not None:
            await follow(self._context, session, listed)

    async def _sweep_or_log(self, slurm: Slurm) -> None:
        try:
            await self.sweep(slurm)
        except QpudError as failure:
            log.info("sessions could not be compared with Slurm, trying again", extra={"why": failure.message})

    async def _until_due(self) -> None:
        """Wait until a job should have ended, at most EVERY_SECONDS."""
        deadline = self._context.pulse() + EVERY_SECONDS
        while (seconds := min(self._seconds_to_next_end(), deadline - self._context.pulse())) > 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()

    def _seconds_to_next_end(self) -> float:
        grace, now = self._context.policy.daemon.slurm_grace_time, self._context.clock()
        ends = [one.expires_at - grace for one in self._context.book.sessions.values() if one.slurm_started_at]
        return min(ends, default=now + EVERY_SECONDS) - now
