"""What Slurm knows of its jobs, asked with `squeue`: it alone has the same form from Slurm 20.11 to 25.11.

Only fields that a job's owner cannot forge are asked together: ids, states, times, names that an administrator chose,
and licences and GRES, which sbatch refuses unless they exist. Names, comments and accounts may hold newlines, and so
whole rows of their own (facts/SLURM.md §2): the account is asked for in a call of its own, the others never, and
`scontrol show job` is not used.

A slurmctld that is down or hangs keeps squeue for 20 s. So every question has 2 s, then its process is killed, and
questions are refused at once until `scontrol ping` says UP, which is tried every 2 s, by the next who asks.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from qpud.core.slurm import SlurmAway, SlurmJob, units_of
from qpud.site.slurmrest import SlurmRest

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
"""For one answer, all its processes together."""
REST_SECONDS = 1.0
"""Of these, for slurmrestd: the rest is squeue's."""
RETRY_SECONDS = 2.0
"""Between two attempts to reach a Slurm that did not answer."""
REMEMBERED_SECONDS = 5.0
"""For which a running job is believed to run on: clients open their session again and again."""
MOST_AT_ONCE = 4
"""Questions under way; others wait for their turn, so that nobody floods slurmctld through qpud."""

_FIELDS = ("%A", "%U", "%P", "%T", "%D", "%S", "%e", "%W", "%b")
_FORMAT = "\t".join(_FIELDS)
_REMEMBERED_JOBS = 4096
_UNKNOWN_JOB = "Invalid job id"

T = TypeVar("T")


class _Answer(NamedTuple):
    code: int
    out: str
    error: str


class Slurm:
    """Asks one cluster, as the daemon's own user; with PrivateData=jobs that must be an operator of Slurm.

    Args:
        conf: slurm.conf; None for Slurm's own.
        pulse: Monotonic seconds.
        rest: slurmrestd's socket, for single jobs; None, or while it does not answer: squeue.
    """

    def __init__(self, conf: Path | None, pulse: Callable[[], float], rest: Path | None = None) -> None:
        self._rest = None if rest is None else SlurmRest(rest)
        self._is_rest_away = False
        self._environment = _environment(conf)
        self._pulse = pulse
        self._turn = asyncio.Semaphore(MOST_AT_ONCE)
        self._known: dict[int, tuple[float, SlurmJob]] = {}
        self._is_away = False
        self._retry_at = 0.0

    async def look_up(self, number: int) -> SlurmJob | None:
        """A job by its id, an array task by its own; None if Slurm does not know it (any more).

        Raises:
            SlurmAway: No answer within 2 s, or none expected since the last question.
        """
        at, known = self._known.get(number, (0.0, None))
        if known is not None and self._pulse() - at < REMEMBERED_SECONDS:
            return known
        job = await self._ask(self._job(number))
        if job is not None and job.is_running:
            self._remember(job)
        return job

    async def jobs(self) -> dict[int, SlurmJob]:
        """Every job that Slurm remembers, without accounts. Raises: SlurmAway."""
        rows = await self._ask(self._squeue(_FORMAT))
        jobs = [_job_of(row) for row in rows or ()]
        return {job.id: job for job in jobs}

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

    async def _account(self, number: int) -> str | None:
        rows = await self._squeue("%A\t%a", "-j", str(number)) or []
        account = next((row[1] for row in rows if row[0] == str(number) and len(row) == 2), "")
        return account if account not in ("", "(null)") else None

    async def _squeue(self, form: str, *which: str) -> list[list[str]] | None:
        """The rows of a listing; None if Slurm does not know the job. Raises: SlurmAway."""
        answer = await self._run("squeue", "--noheader", "--all", "--states=all", f"--format={form}", *which)
        if answer.code == 0:
            return [line.split("\t") for line in answer.out.split("\n") if line]
        if _UNKNOWN_JOB in answer.error:
            return None
        raise SlurmAway(answer.error.strip().replace("\n", " ")[:200] or f"squeue ended with {answer.code}")

    # -- whether it answers
    async def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Ask within the time that is left to Slurm. Raises: SlurmAway."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            question.close()
            raise SlurmAway("too many questions to Slurm wait: try again in a moment") from None
        try:
            await self._require_up()
            return await self._in_time(question)
        finally:
            question.close()
            self._turn.release()

    async def _in_time(self, question: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await question
        except TimeoutError:
            raise self._fallen(f"no answer within {PATIENCE_SECONDS:g} s") from None
        except SlurmAway as failure:
            raise self._fallen(failure.message) from None

    async def _require_up(self) -> None:
        if not self._is_away:
            return
        if self._pulse() < self._retry_at:
            raise SlurmAway("Slurm does not answer")
        self._retry_at = self._pulse() + RETRY_SECONDS  # those who come meanwhile are refused at once
        answer = await self._in_time(self._run("scontrol", "ping"))
        if "is UP" not in answer.out:
            raise self._fallen("scontrol ping says DOWN")
        self._is_away = False
        log.info("Slurm answers again")

    def _fallen(self, why: str) -> SlurmAway:
        if not self._is_away:
            log.warning("Slurm does not answer", extra={"why": why})
        self._is_away = True
        self._retry_at = self._pulse() + RETRY_SECONDS
        return SlurmAway(f"Slurm does not answer ({why})")

    async def _run(self, *command: str) -> _Answer:
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=null, stdout=pipe, stderr=pipe, env=self._environment
            )
        except OSError as why:
            raise SlurmAway(f"{command[0]}: {why.strerror}") from None
        try:
            out, error = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return _Answer(process.returncode or 0, out.decode(errors="replace"), error.decode(errors="replace"))


def _environment(conf: Path | None) -> dict[str, str]:
    """Nothing of SQUEUE_* or SLURM_*, which change what squeue prints; times in seconds since the epoch."""
    kept = {name: os.environ[name] for name in ("PATH", "SLURM_CONF") if name in os.environ}
    chosen = {"SLURM_CONF": str(conf)} if conf is not None else {}
    return {"PATH": os.defpath, **kept, **chosen, "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}


def _job_of(row: list[str]) -> SlurmJob:
    """A job from _FIELDS. Raises: SlurmAway, if this squeue prints something else."""
    try:
        number, user_id, partition, state, nodes, started, ends, licenses, gres = row
        return SlurmJob(
            id=int(number),
            user_id=int(user_id),
            partition=partition,
            state=state,
            nodes=max(1, int(nodes)),
            started_at=_moment(started),
            ends_at=_moment(ends),
            units=units_of(licenses, gres),
        )
    except ValueError:
        raise SlurmAway(f"squeue printed {' '.join(row)[:100]!r}, not its fields {' '.join(_FIELDS)}") from None


def _moment(text: str) -> float | None:
    return float(text) if text.isdigit() else None
