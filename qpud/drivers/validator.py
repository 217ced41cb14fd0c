"""Pulser's verdicts at submission: cached, shared between equal questions, and rationed when the worker is flooded.

A verdict costs 8 to 13 ms of a worker (facts/EMULATORS.md §4), a submission well under 1 ms. Waiting for verdicts is
therefore paid from a leaky bucket: `BURST_SECONDS` of worker time at once, `REFILL` of each second after that. While
the bucket is empty, jobs are accepted with reason Validating and checked in the background.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from qpud.drivers.base import DeviceSpec, Program, WorkersProtocol
from qpud.drivers.workers import Verdict, WorkerFault

BURST_SECONDS = 0.25
REFILL = 0.02
_REMEMBERED = 8192

OnVerdict = Callable[[str, float], None]


VerdictKey = tuple[str, str, str, bytes]


def verdict_key(program: Program, shots: int, spec: DeviceSpec) -> VerdictKey:
    """What a verdict depends on: sequence, spec, kind of resource, variables.

    An emulator and a QPU with one spec may judge differently; the shots count only where a sequence may bring a
    virtual device, and with it its own max_runs: those of the spec are checked before.
    """
    kind = f"virtual {shots}" if spec.accepts_virtual else "real"
    return program.sequence_hash, spec.hash, kind, _digest(program.variables)


def _digest(variables: dict[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(variables, sort_keys=True).encode()).digest() if variables else b""


class Bucket:
    """A leaky bucket of worker seconds.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._level = BURST_SECONDS
        self._at = clock()

    def has_room(self) -> bool:
        """Whether somebody may wait for a verdict now."""
        now = self._clock()
        self._level = min(BURST_SECONDS, self._level + REFILL * (now - self._at))
        self._at = now
        return self._level > 0

    def take(self, seconds: float) -> None:
        """Pay for a wait; the level may go below zero."""
        self._level -= seconds


class Validator:
    """Verdicts of one worker.

    Args:
        workers: Where Pulser runs.
        clock: Monotonic seconds.
        on_verdict: Told of each verdict: ok, invalid, cached, deferred or fault, and the seconds it took.
    """

    def __init__(self, workers: WorkersProtocol, clock: Callable[[], float], on_verdict: OnVerdict) -> None:
        self._workers = workers
        self._clock = clock
        self._on_verdict = on_verdict
        self._bucket = Bucket(clock)
        self._known: OrderedDict[VerdictKey, Verdict] = OrderedDict()
        self._asked: dict[VerdictKey, asyncio.Task[Verdict]] = {}

    async def within(self, seconds: float, program: Program, shots: int, spec: DeviceSpec) -> Verdict | None:
        """The verdict if it is known, or can be had in time; None means later.

        Args:
            seconds: ValidationWait.
            program: What to check.
            shots: How often it shall run.
            spec: The resource's current device spec.
        """
        key = verdict_key(program, shots, spec)
        if (known := self._known.get(key)) is not None:
            self._on_verdict("cached", 0.0)
            return known
        if seconds <= 0 or not self._bucket.has_room():
            self._on_verdict("deferred", 0.0)
            return None
        return await self._in_time(seconds, self._ask(key, program, shots, spec))

    async def verdict(self, program: Program, shots: int, spec: DeviceSpec) -> Verdict:
        """The verdict, however long it takes.

        Raises:
            WorkerFault: The worker is broken; nothing is known about the program.
        """
        key = verdict_key(program, shots, spec)
        if (known := self._known.get(key)) is not None:
            return known
        return await asyncio.shield(self._ask(key, program, shots, spec))

    async def close(self) -> None:
        """Stop what is being asked."""
        for task in tuple(self._asked.values()):
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def _in_time(self, seconds: float, task: asyncio.Task[Verdict]) -> Verdict | None:
        started = self._clock()
        try:
            async with asyncio.timeout(seconds):  # 3.11's wait_for swallows a cancel that comes with the answer
                return await asyncio.shield(task)
        except (TimeoutError, WorkerFault):
            self._on_verdict("deferred", 0.0)
            return None
        finally:
            self._bucket.take(self._clock() - started)

    def _ask(self, key: VerdictKey, program: Program, shots: int, spec: DeviceSpec) -> asyncio.Task[Verdict]:
        if (task := self._asked.get(key)) is None:
            task = asyncio.get_running_loop().create_task(self._answer(key, program, shots, spec))
            self._asked[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        return task

    async def _answer(self, key: VerdictKey, program: Program, shots: int, spec: DeviceSpec) -> Verdict:
        started = self._clock()
        verdict = await self._workers.validate(program, shots, spec)
        self._on_verdict("ok" if verdict.ok else "invalid", self._clock() - started)
        self._known[key] = verdict
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return verdict

    def _forget(self, key: VerdictKey, task: asyncio.Task[Verdict]) -> None:
        self._asked.pop(key, None)
        if not task.cancelled() and task.exception() is not None:
            self._on_verdict("fault", 0.0)
