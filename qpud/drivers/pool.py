"""The workers of one resource on the cluster's nodes: hired when jobs want them, dismissed when idle.

Each worker is a Slurm job (berth.py) and emulates one job at a time; what it has drawn stays there until the shots
are dealt. Verdicts, device specs and builds are the access node's, so that nobody waits for Slurm to be told no. A
worker that is lost with its node is replaced, and what it emulated begins anew elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qpud.core.resource import ResourcePolicy
from qpud.core.slurm import SlurmAway
from qpud.core.verbs import WorkerView
from qpud.drivers.base import DeviceSpec, Program, SlurmProtocol, WorkersProtocol
from qpud.drivers.berth import Berth
from qpud.drivers.workers import Verdict, WorkerFault

log = logging.getLogger(__name__)

PAUSE_FIRST, PAUSE_MOST = 1.0, 60.0  # between two attempts while no worker starts
ANSWER_SECONDS = 3.0  # for Slurm to refuse a worker: it takes 10 ms, and 9 s to say that it is away
LOOK_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)  # between two looks at jobs that wait: Slurm tells nobody
CLEAN_SECONDS = 5.0
SHORTAGE_SECONDS = 10.0  # that the slice in flight waits before it takes a worker from a job that is ahead of its turn
MOST_DEATHS = 3  # workers in a row that die under a job: maybe it is the job


@dataclass(eq=False)
class Work:
    """One emulation; times are monotonic seconds."""

    wished: float
    began: float | None = None  # None while it waits for a worker
    ended: float | None = None
    berth: Berth | None = None


@dataclass(eq=False)
class _Wish:
    job_id: int
    berth: asyncio.Future[Berth]


class Pool:
    """WorkersProtocol by Slurm jobs.

    Attributes:
        first: The job whose slice is in flight: it goes first.

    Args:
        policy: The resource; Workers, LauncherOptions, WorkerPython, WorkerIdleTime.
        local: The access node's worker.
        slurm: Starts and cancels.
        pulse: Monotonic seconds.
        on_shortage: Told which job, emulated ahead of its turn, has to give its worker up.
    """

    def __init__(
        self,
        policy: ResourcePolicy,
        local: WorkersProtocol,
        slurm: SlurmProtocol,
        pulse: Callable[[], float],
        on_shortage: Callable[[int], None],
    ) -> None:
        self.first: int | None = None
        self._policy = policy
        self._local = local
        self._slurm = slurm
        self._pulse = pulse
        self._on_shortage = on_shortage
        self._options = shlex.split(policy.launcher_options or "")
        self._numbers = itertools.count(1)
        self._berths: list[Berth] = []
        self._wishes: list[_Wish] = []
        self._works: dict[int, Work] = {}
        self._failure = ""  # why the last attempt to start a worker failed
        self._pause = 0.0
        self._retry_at = 0.0
        self._is_wanted = False
        self._gone: set[str] = set()  # Slurm jobs whose worker has ended; Slurm may not know it yet
        self._changed, self._told, self._hired = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._left = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def python(self) -> Path:
        """The interpreter of the access node's worker."""
        return self._local.python

    async def open(self) -> None:
        """Begin to look after workers; none is started before one is wanted."""
        self._tasks = [
            asyncio.create_task(self._tend(), name=f"pool-{self._policy.name}"),
            asyncio.create_task(self._watch(), name=f"pool-watch-{self._policy.name}"),
            asyncio.create_task(self._clean(), name=f"pool-clean-{self._policy.name}"),
        ]

    async def close(self) -> None:
        """End every worker, and cancel what Slurm still has of ours."""
        if not self._tasks:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for berth in list(self._berths):
            self._dismiss(berth)
        await asyncio.gather(*self._leaving, return_exceptions=True)
        with contextlib.suppress(SlurmAway):  # then they end by themselves: their srun is gone
            await self._slurm.cancel_all(self._policy.name)

    def check(self) -> None:
        """Raises: Whatever ended one of its own tasks: the daemon ends with it, workers that nobody tends do not."""
        if (error := self._fatal) is not None:
            raise error

    @property
    def _fatal(self) -> BaseException | None:
        ended = (task for task in self._tasks if task.done() and not task.cancelled())
        return next((error for task in ended if (error := task.exception()) is not None), None)

    @property
    def failure(self) -> str:
        """Why no slice can be run now; "" while a worker answers, waits for nodes or has not been tried."""
        if self._fatal is not None:
            return "its workers are not tended any more: the daemon has to start again"
        return self._local.failure or ("" if self._is_hopeful else self._failure)

    @property
    def view(self) -> list[WorkerView]:
        """The workers, as everybody may see them."""
        return [berth.view for berth in self._berths]

    async def require(self) -> None:
        """See to it that there is a worker, or soon will be, or that Slurm has refused: then `failure` says why."""
        self._is_wanted = True
        self._changed.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                while not (self._failure or self._is_hopeful or any(berth.place for berth in self._berths)):
                    self._told.clear()
                    await self._told.wait()
        self._is_wanted = False

    # -- WorkersProtocol
    async def device_spec(self, device: str) -> DeviceSpec:
        """By the access node's worker."""
        return await self._local.device_spec(device)

    async def validate(self, program: Program, shots: int, spec: DeviceSpec) -> Verdict:
        """By the access node's worker."""
        return await self._local.validate(program, shots, spec)

    async def build(self, program: Program, spec: DeviceSpec) -> str:
        """By the access node's worker."""
        return await self._local.build(program, spec)

    async def evolve(
        self, job_id: int, program: Program, spec: DeviceSpec, *, shots: int, seed: int, options: dict[str, Any]
    ) -> dict[str, str]:
        """As `Workers.evolve`, on a node; waits for a worker, and goes on with another if one is lost."""
        self.release(job_id)
        work = self._works[job_id] = Work(wished=asyncio.get_running_loop().time())
        for death in itertools.count(1):
            berth = await self._take(job_id)
            work.berth, work.began = berth, self._pulse()
            try:
                provenance = await berth.evolve(job_id, program, spec, shots=shots, seed=seed, options=options)
            except WorkerFault as fault:
                if not fault.transient or berth.is_ready:
                    raise
                work.berth = work.began = None  # nothing is charged for what was lost
                if death == MOST_DEATHS:
                    raise
                log.warning(
                    "a worker was lost, its job begins anew", extra={"job": job_id, "slurm_job": berth.slurm_job}
                )
            else:
                break
            finally:
                self._give_back(berth)
        work.ended = self._pulse()
        return {**provenance, "node": berth.node, "slurm_job_id": berth.slurm_job}

    async def deal(self, job_id: int, first_shot: int, shots: int) -> dict[str, int]:
        """Counts of some of the drawn shots. Raises: WorkerFault if their worker is gone (evolve again)."""
        work = self._works.get(job_id)
        if work is None or work.berth is None or not work.berth.is_ready:
            raise WorkerFault(f"the worker that had emulated job {job_id} is gone")
        work.berth.idle_since = asyncio.get_running_loop().time()
        return await work.berth.deal(job_id, first_shot, shots)

    def release(self, job_id: int) -> None:
        """Drop the job's shots; unknown ids are ignored."""
        work = self._works.pop(job_id, None)
        if work is not None and work.berth is not None:
            work.berth.release(job_id)

    # -- in words
    def work(self, job_id: int) -> Work | None:
        """The emulation of a job, if there is one."""
        return self._works.get(job_id)

    def lacks(self, job_id: int) -> str:
        """What the emulation of a job waits for; "" if it does not."""
        work = self._works.get(job_id)
        if work.began is not None if work else not self._is_wanted:
            return ""
        if self._failure and not self._is_hopeful:
            return self._failure
        starting = [berth for berth in self._berths if not berth.is_ready and not berth.is_over]
        if starting:
            return max(starting, key=lambda berth: bool(berth.place)).prospects
        return f"all {len(self._berths)} workers of {self._policy.name} are busy"

    # -- who gets a worker
    async def _take(self, job_id: int) -> Berth:
        wish = _Wish(job_id, asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        self._changed.set()
        try:
            return await wish.berth
        except asyncio.CancelledError:
            if wish.berth.done() and not wish.berth.cancelled():
                self._give_back(wish.berth.result())
            raise
        finally:
            if wish in self._wishes:
                self._wishes.remove(wish)

    def _give_back(self, berth: Berth) -> None:
        berth.job_id, berth.idle_since = None, asyncio.get_running_loop().time()
        self._changed.set()

    def _hand_out(self) -> None:
        free = [berth for berth in self._berths if berth.is_free]
        open_wishes = [wish for wish in self._wishes if not wish.berth.done()]
        for wish in sorted(open_wishes, key=lambda wish: wish.job_id != self.first)[: len(free)]:
            berth = free.pop()
            berth.job_id = wish.job_id
            self._wishes.remove(wish)
            wish.berth.set_result(berth)

    def _take_back(self, now: float) -> None:
        """Let the slice in flight not wait for Slurm while jobs that come later have workers."""
        work = self._works.get(self.first or 0)
        if work is None or work.began is not None or now < work.wished + SHORTAGE_SECONDS:
            return
        ahead = [found for berth in self._berths if berth.is_ready and (found := berth.job_id) is not None]
        if ahead:
            self._on_shortage(max(ahead, key=lambda job_id: self._began(job_id)))

    def _began(self, job_id: int) -> float:
        work = self._works.get(job_id)
        return (work.began if work else None) or 0.0

    # -- how many there are
    async def _tend(self) -> None:
        while True:
            self._changed.clear()
            now = asyncio.get_running_loop().time()
            self._bury(now)
            self._hand_out()
            self._take_back(now)
            self._hire(now)
            self._dismiss_idle(now)
            self._told.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._calm(now)):
                    await self._changed.wait()

    def _calm(self, now: float) -> float:
        """Seconds until something is due that no event tells."""
        due = [berth.idle_since + self._policy.worker_idle_time for berth in self._idle]
        due += [self._retry_at] if self._failure and not self._is_trying else []
        waits = [SHORTAGE_SECONDS] if self._wishes else []
        return max(0.05, min([60.0, *waits, *(at - now for at in due)]))

    def _bury(self, now: float) -> None:
        for berth in [berth for berth in self._berths if berth.is_over]:
            self._forget(berth)
            if berth.has_been_ready:
                log.warning("worker lost", extra={"resource": self._policy.name, "why": berth.last_words})
                continue
            self._failure = f"no worker starts for {self._policy.name}: {berth.last_words}"
            self._pause = min(max(2 * self._pause, PAUSE_FIRST), PAUSE_MOST)
            self._retry_at = now + self._pause
            log.warning(
                "no worker", extra={"resource": self._policy.name, "why": self._failure, "retry_in": self._pause}
            )
        if any(berth.is_ready for berth in self._berths):
            self._failure, self._pause = "", 0.0

    def _hire(self, now: float) -> None:
        busy = sum(berth.job_id is not None for berth in self._berths)
        demand = len(self._wishes) + busy or int(self._is_wanted or bool(self._failure))
        while len(self._berths) < min(self._policy.workers, demand):
            if self._failure and (self._is_trying or now < self._retry_at):
                return  # one attempt at a time
            self._berths.append(self._new())

    @property
    def _is_trying(self) -> bool:
        """Whether a worker is being started; how that ends is an event."""
        return any(not berth.is_ready for berth in self._berths)

    def _new(self) -> Berth:
        name = self._slurm.name(self._policy.name, next(self._numbers))
        python = self._policy.worker_python or Path(sys.executable)
        berth = Berth(self._slurm, name, self._options, python, self._changed.set)
        berth.begin()
        self._hired.set()
        return berth

    @property
    def _idle(self) -> list[Berth]:
        """The workers that are for nobody, and end after WorkerIdleTime."""
        if self._wishes:
            return []
        return [berth for berth in self._berths if berth.job_id is None and (berth.is_ready or berth.is_queued)]

    def _dismiss_idle(self, now: float) -> None:
        for berth in self._idle:
            if now - berth.idle_since >= self._policy.worker_idle_time:
                log.info("idle worker ends", extra={"resource": self._policy.name, "slurm_job": berth.slurm_job})
                self._dismiss(berth)

    def _forget(self, berth: Berth) -> None:
        self._berths.remove(berth)
        self._gone.add(berth.name)
        self._left.set()

    def _dismiss(self, berth: Berth) -> None:
        self._forget(berth)
        task = asyncio.create_task(berth.close(), name="worker-leaves")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    # -- what Slurm says
    @property
    def _is_hopeful(self) -> bool:
        return any(berth.is_ready or berth.is_queued for berth in self._berths)

    async def _watch(self) -> None:
        """See how the jobs of new workers get on."""
        while True:
            await self._hired.wait()
            self._hired.clear()
            for attempt in itertools.count():
                await asyncio.sleep(LOOK_SECONDS[min(attempt, len(LOOK_SECONDS) - 1)])
                if not any(berth.is_waiting for berth in self._berths):
                    break
                await self._look()

    async def _clean(self) -> None:
        """Cancel what an earlier life left, and what outlived its srun: Slurm was away when that ended."""
        while True:
            await self._cancel_left(frozenset(self._gone))
            await self._left.wait()
            self._left.clear()
            await asyncio.gather(*self._leaving, return_exceptions=True)
            await asyncio.sleep(CLEAN_SECONDS)

    async def _cancel_left(self, gone: frozenset[str]) -> None:
        for attempt in itertools.count():
            try:
                left = await self._slurm.cancel_left(self._policy.name, gone)
            except SlurmAway as away:
                if not attempt:  # once: Slurm may be away all night
                    log.warning("Slurm cannot be asked for left workers", extra={"why": away.message})
                await asyncio.sleep(CLEAN_SECONDS)
                continue
            self._gone -= gone
            if left:
                log.warning("left workers cancelled", extra={"resource": self._policy.name, "number": left})
            return

    async def _look(self) -> None:
        with contextlib.suppress(SlurmAway):  # srun will say so itself
            seen = {job.name: job for job in await self._slurm.jobs(self._policy.name)}
            for berth in self._berths:
                berth.seen = seen.get(berth.name, berth.seen)
            self._changed.set()
