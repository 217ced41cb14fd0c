"""Slurm's programs, run so that a slurmctld that is down or hangs costs who asks a moment, and nobody else anything.

Such a slurmctld keeps squeue and scontrol for 20 s. So every question has its time, then its process is killed, and
questions are refused at once until `scontrol ping` says UP, which is tried every 2 s, by the next who asks.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from qpud.core.slurm import SlurmAway

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
"""For one answer, all its processes together."""
RETRY_SECONDS = 2.0
"""Between two attempts to reach a Slurm that did not answer."""
MOST_AT_ONCE = 4
"""Questions under way; others wait for their turn, so that nobody floods slurmctld through qpud."""

T = TypeVar("T")
Heard = Callable[[str, float], None]
"""Told how a question ended (answered or away) and after how many seconds."""


def ignore(_outcome: str, _seconds: float) -> None:
    """Tell nobody."""


class Answer(NamedTuple):
    """What a program printed, and its exit code."""

    code: int
    out: str
    error: str

    @property
    def complaint(self) -> str:
        """Why it failed, on one line of at most 200 characters."""
        return " ".join(self.error.split())[:200] or f"exit code {self.code}"


class Commands:
    """Runs the programs of one cluster with a clean environment, as the daemon's own user.

    Args:
        conf: slurm.conf; None for Slurm's own.
        pulse: Monotonic seconds.
        at_once: Questions under way.
        patience: Seconds for one answer.
        heard: Told how each question ended.
    """

    def __init__(
        self,
        conf: Path | None,
        pulse: Callable[[], float],
        *,
        at_once: int = MOST_AT_ONCE,
        patience: float = PATIENCE_SECONDS,
        heard: Heard = ignore,
    ) -> None:
        self.is_away = False
        self._environment = environment(conf)
        self._pulse = pulse
        self._turn = asyncio.Semaphore(at_once)
        self._patience = patience
        self._heard = heard
        self._retry_at = 0.0

    async def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Ask within the time that is left to Slurm. Raises: SlurmAway."""
        asked_at = self._pulse()
        try:
            found = await self._in_turn(question)
        except SlurmAway:
            self._heard("away", self._pulse() - asked_at)
            raise
        self._heard("answered", self._pulse() - asked_at)
        return found

    async def run(self, *command: str) -> Answer:
        """Run a program to its end; it is killed if the caller is cancelled. Raises: SlurmAway, if it cannot run."""
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
        return Answer(process.returncode or 0, out.decode(errors="replace"), error.decode(errors="replace"))

    async def _in_turn(self, question: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self._patience):
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
            async with asyncio.timeout(self._patience):
                return await question
        except TimeoutError:
            raise self._fallen(f"no answer within {self._patience:g} s") from None
        except SlurmAway as failure:
            raise self._fallen(failure.message) from None

    async def _require_up(self) -> None:
        if not self.is_away:
            return
        if self._pulse() < self._retry_at:
            raise SlurmAway("Slurm does not answer")
        self._retry_at = self._pulse() + RETRY_SECONDS  # those who come meanwhile are refused at once
        answer = await self._in_time(self.run("scontrol", "ping"))
        if "is UP" not in answer.out:
            raise self._fallen("scontrol ping says DOWN")
        self.is_away = False
        log.info("Slurm answers again")

    def _fallen(self, why: str) -> SlurmAway:
        if not self.is_away:
            log.warning("Slurm does not answer", extra={"why": why})
        self.is_away = True
        self._retry_at = self._pulse() + RETRY_SECONDS
        return SlurmAway(f"Slurm does not answer ({why})")


def environment(conf: Path | None) -> dict[str, str]:
    """Nothing of SQUEUE_* or SLURM_*, which change what squeue prints; times in seconds since the epoch."""
    kept = {name: os.environ[name] for name in ("PATH", "SLURM_CONF") if name in os.environ}
    chosen = {"SLURM_CONF": str(conf)} if conf is not None else {}
    return {"PATH": os.defpath, **kept, **chosen, "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}
