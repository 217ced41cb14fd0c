"""Keeps in the admin comment of each Slurm job when its QPU work ends: squeue's and scontrol's users see it there.

Only jobs for which Slurm vouched, and which had QPU work: another job's comment is none of qpud's business. At most
one comment for a job in 30 s, and one a second in total. A Slurm that obeys nobody is left in peace ever longer.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict

import msgspec

from qpud.context import Context
from qpud.core.errors import QpudError
from qpud.core.session import Session
from qpud.core.slurm import SlurmAway, SlurmForbidden, SlurmRefused, job_number
from qpud.core.slurmcomment import Stage, Work, is_worth_telling, stage_of, text_of
from qpud.site.slurmcontrol import SlurmControl
from qpud.store import queries

ROUND_SECONDS = 5.0
MOST_OF_A_ROUND = 5
EVERY_SECONDS = 30.0
"""Between two comments of one job at least."""
AFTER_REFUSAL_SECONDS = 600.0
"""After which a job whose comment Slurm refused is tried again: without slurmdbd, each refusal for a job that has
shrunk takes five seconds, and releases and reservations wait for them."""
IDLE_SECONDS = 60.0
"""A session without work for this long is done, until it submits again."""
FIRST_PAUSE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 3600.0
"""For which nothing is told after Slurm refused, twice as long each time."""
_NEWEST = 8  # of a session's unfinished jobs: they end last


class _Told(msgspec.Struct, frozen=True):
    at: float  # monotonic seconds
    work: Work


class SlurmComments:
    """Writes the comments.

    Args:
        context: The parts of the daemon.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told: dict[int, _Told] = {}
        self._resources: dict[str, set[str]] = {}  # by session: those it ever used
        self._pause_until = 0.0
        self._pause = FIRST_PAUSE_SECONDS

    async def run(self) -> None:
        """Write until cancelled; without SlurmControl there is nothing to do."""
        control = self._context.slurm_control
        while control is not None:
            if self._context.policy.daemon.slurm_comments and self._context.pulse() >= self._pause_until:
                await self._round_or_pause(control)
            await asyncio.sleep(ROUND_SECONDS)

    async def round(self, control: SlurmControl) -> int:
        """Write the comments that are due, those first that waited longest; returns how many.

        Raises:
            SlurmAway: Some may be written.
            SlurmForbidden: Slurm takes no comments from this daemon.
        """
        jobs = self._jobs()
        self._forget_others(jobs)
        number_told = 0
        for number in sorted(jobs, key=self._told_at):
            if number_told < MOST_OF_A_ROUND and self._is_due(number):
                number_told += await self._tell(control, number, jobs[number])
        return number_told

    async def _tell(self, control: SlurmControl, number: int, sessions: list[Session]) -> bool:
        work, told = await self._work(sessions), self._told.get(number)
        if work is None or not is_worth_telling(told.work if told else None, work, self._context.clock()):
            return False
        self._told[number] = _Told(self._context.pulse(), work)  # also if it fails: never too often
        try:
            await control.comment(number, text_of(work, _site_time))
        except SlurmForbidden:
            raise
        except SlurmRefused:  # the job has just ended, or was shrunk
            self._told[number] = _Told(self._context.pulse() + AFTER_REFUSAL_SECONDS, work)
            return False
        return True

    async def _work(self, sessions: list[Session]) -> Work | None:
        """The QPU work of a Slurm job's sessions; None if there was none, or it paused just now."""
        context, now = self._context, self._context.clock()
        newest = [job for session in sessions for job in context.book.newest_jobs_of_session(session.id, _NEWEST)]
        for session in sessions:
            await self._recall(session)
        for job in newest:
            self._resources[job.session_id].add(job.resource)
        resources = set[str]().union(*(self._resources[session.id] for session in sessions))
        used_at = max(session.last_used_at for session in sessions)
        if not resources or (not newest and now - used_at < IDLE_SECONDS):
            return None
        forecasts = [context.forecaster.of(job, now) for job in newest]
        ends = [forecast.end for forecast in forecasts if forecast is not None and forecast.end is not None]
        ends_at = max(ends) if len(ends) == len(newest) and ends else None
        stage = stage_of(bool(newest), ends_at, now)
        return Work(
            resources=tuple(sorted(resources)),
            share=min(10, sum(session.share for session in sessions)),
            hint=sessions[0].hint,
            stage=stage,
            ends_at=ends_at if stage is Stage.LATER else None,
        )

    async def _recall(self, session: Session) -> None:
        """What a session used before this daemon started, or before it was seen here."""
        if session.id not in self._resources:
            self._resources[session.id] = set(await queries.resources_of(self._context.store, session.id))

    def _jobs(self) -> dict[int, list[Session]]:
        """The open sessions of each Slurm job that Slurm vouched for, the job's own one first."""
        found: defaultdict[int, list[Session]] = defaultdict(list)
        for session in self._context.book.sessions.values():
            number = job_number(session.slurm_job_id)
            if number is not None and session.slurm_started_at is not None:
                found[number].append(session)
        return found

    def _forget_others(self, jobs: dict[int, list[Session]]) -> None:
        self._told = {number: told for number, told in self._told.items() if number in jobs}
        open_ones = {session.id for sessions in jobs.values() for session in sessions}
        self._resources = {one: names for one, names in self._resources.items() if one in open_ones}

    def _told_at(self, number: int) -> float:
        return self._told[number].at if number in self._told else 0.0

    def _is_due(self, number: int) -> bool:
        return number not in self._told or self._context.pulse() - self._told[number].at >= EVERY_SECONDS

    async def _round_or_pause(self, control: SlurmControl) -> None:
        try:
            if await self.round(control):
                self._pause = FIRST_PAUSE_SECONDS
                self._context.slurm_troubles.pop("comments", None)
        except SlurmForbidden as refusal:
            self._context.slurm_troubles["comments"] = refusal.message
            self._pause_until = self._context.pulse() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        except (SlurmAway, QpudError):
            self._pause_until = self._context.pulse() + ROUND_SECONDS  # said once, where it was noticed


def _site_time(at: float) -> str:
    """A moment as Slurm's commands show it, in the site's time; today's without the date."""
    there, today = time.localtime(at), time.localtime()
    is_today = there[:3] == today[:3]
    return time.strftime("%H:%M" if is_today else "%Y-%m-%dT%H:%M", there)
