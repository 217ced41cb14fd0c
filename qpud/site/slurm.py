"""What Slurm knows of its jobs, asked with `squeue`: it alone has the same form from Slurm 20.11 to 25.11.

Only fields that a job's owner cannot forge are asked together: ids, states, times, names that an administrator chose,
and licences and GRES, which sbatch refuses unless they exist. Names, comments and accounts may hold newlines, and so
whole rows of their own (facts/SLURM.md §2): the account is asked for in a call of its own, the others never, and
`scontrol show job` is not used.

A slurmctld that is down or hangs keeps squeue for 20 s: how that is met is in `slurmcommand.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from qpud.core.slurm import SlurmAway, SlurmHold, SlurmJob, units_of
from qpud.site.slurmcommand import Commands, Heard, ignore
from qpud.site.slurmrest import SlurmRest

log = logging.getLogger(__name__)

REST_SECONDS = 1.0
"""Of the time for one answer, for slurmrestd: the rest is squeue's."""
REMEMBERED_SECONDS = 5.0
"""For which a running job is believed to run on: clients open their session again and again."""

_FIELDS = ("%A", "%U", "%P", "%T", "%D", "%S", "%e", "%W", "%b", "%q", "%Q")
_FORMAT = "\t".join(_FIELDS)
_HOLD = "%A\t%U\t%T\t%r"
_REMEMBERED_JOBS = 4096
_UNKNOWN_JOB = "Invalid job id"


class Slurm:
    """Asks one cluster, as the daemon's own user; with PrivateData=jobs that must be an operator of Slurm.

    Args:
        conf: slurm.conf; None for Slurm's own.
        pulse: Monotonic seconds.
        rest: slurmrestd's socket, for single jobs; None, or while it does not answer: squeue.
        heard: Told how each question ended.
    """

    def __init__(
        self, conf: Path | None, pulse: Callable[[], float], rest: Path | None = None, heard: Heard = ignore
    ) -> None:
        self._rest = None if rest is None else SlurmRest(rest)
        self._is_rest_away = False
        self._commands = Commands(conf, pulse, heard=heard)
        self._pulse = pulse
        self._known: dict[int, tuple[float, SlurmJob]] = {}

    @property
    def is_away(self) -> bool:
        """Whether Slurm did not answer when it was asked last."""
        return self._commands.is_away

    async def look_up(self, number: int) -> SlurmJob | None:
        """A job by its id, an array task by its own; None if Slurm does not know it (any more).

        Raises:
            SlurmAway: No answer within 2 s, or none expected since the last question.
        """
        at, known = self._known.get(number, (0.0, None))
        if known is not None and self._pulse() - at < REMEMBERED_SECONDS:
            return known
        job = await self._commands.ask(self._job(number))
        if job is not None and job.is_running:
            self._remember(job)
        return job

    async def jobs(self) -> dict[int, SlurmJob]:
        """Every job that Slurm remembers, without accounts. Raises: SlurmAway."""
        rows = await self._commands.ask(self._squeue(_FORMAT))
        jobs = [_job_of(row) for row in rows or ()]
        return {job.id: job for job in jobs}

    async def hold_of(self, number: int) -> SlurmHold | None:
        """Whether a job is held, and by whom, as it is now; None if Slurm does not know it. Raises: SlurmAway."""
        return await self._commands.ask(self._hold(number))

    def forget(self, number: int) -> None:
        """Ask anew about a job: its session was closed, so it may have ended."""
        self._known.pop(number, None)

    def _remember(self, job: SlurmJob) -> None:
        if len(self._known) >= _REMEMBERED_JOBS:
            self._known.clear()
        self._known[job.id] = (self._pulse(), job)

    async def _job(self, number: int) -> SlurmJob | None:
        if self._rest is None:
            return await self._job_by_squeue(number)
        try:
            async with asyncio.timeout(REST_SECONDS):
                job = await self._rest.job(number)
        except (SlurmAway, TimeoutError) as failure:
            self._log_rest(str(failure) or f"no answer within {REST_SECONDS:g} s")
            return await self._job_by_squeue(number)
        self._log_rest("")
        return job

    def _log_rest(self, why: str) -> None:
        if why and not self._is_rest_away:
            log.warning("slurmrestd does not serve, squeue is asked instead", extra={"why": why})
        self._is_rest_away = bool(why)

    async def _job_by_squeue(self, number: int) -> SlurmJob | None:
        rows = await self._squeue(_FORMAT, "-j", str(number)) or []
        found = [row for row in rows if row[0] == str(number)]  # an array's id brings all its tasks
        if len(found) != 1:
            return None
        job = _job_of(found[0])
        return msgspec.structs.replace(job, account=await self._account(number)) if job.is_running else job

    async def _hold(self, number: int) -> SlurmHold | None:
        rows = await self._squeue(_HOLD, "-j", str(number)) or []
        found = [row for row in rows if row[0] == str(number) and len(row) == 4 and row[1].isdigit()]
        if len(found) != 1:
            return None
        _number, user_id, state, reason = found[0]
        return SlurmHold(id=number, user_id=int(user_id), state=state, reason=reason)

    async def _account(self, number: int) -> str | None:
        rows = await self._squeue("%A\t%a", "-j", str(number)) or []
        account = next((row[1] for row in rows if row[0] == str(number) and len(row) == 2), "")
        return account if account not in ("", "(null)") else None

    async def _squeue(self, form: str, *which: str) -> list[list[str]] | None:
        """The rows of a listing; None if Slurm does not know the job. Raises: SlurmAway."""
        answer = await self._commands.run("squeue", "--noheader", "--all", "--states=all", f"--format={form}", *which)
        if answer.code == 0:
            return [line.split("\t") for line in answer.out.split("\n") if line]
        if _UNKNOWN_JOB in answer.error:
            return None
        raise SlurmAway(answer.error.strip().replace("\n", " ")[:200] or f"squeue ended with {answer.code}")


def _job_of(row: list[str]) -> SlurmJob:
    """A job from _FIELDS. Raises: SlurmAway, if this squeue prints something else."""
    try:
        number, user_id, partition, state, nodes, started, ends, licenses, gres, qos, priority = row
        return SlurmJob(
            id=int(number),
            user_id=int(user_id),
            partition=partition,
            state=state,
            nodes=max(1, int(nodes)),
            started_at=_moment(started),
            ends_at=_moment(ends),
            units=units_of(licenses, gres),
            qos=qos if qos not in ("", "(null)", "N/A") else None,
            priority=int(priority),
        )
    except ValueError:
        raise SlurmAway(f"squeue printed {' '.join(row)[:100]!r}, not its fields {' '.join(_FIELDS)}") from None


def _moment(text: str) -> float | None:
    return float(text) if text.isdigit() else None
