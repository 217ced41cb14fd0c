"""The daemon's side of the worker process: validation and emulation under another interpreter.

One preloaded parent process, which forks children (qpud/worker/). It is started again when it dies, at growing
intervals; who was waiting for an answer gets a WorkerFault at once, and emulated jobs must be evolved again. Who asks
between a death and the restart waits for it: a slice must not fail because it came in that second.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from qpud.drivers.base import DeviceSpec, Program
from qpud.drivers.launch import Launched, Settings, end, launch, listen

log = logging.getLogger(__name__)

START_SECONDS = 120.0  # imports take 3 s warm, 10 s from a cold disk
HANG_SECONDS = 30.0  # beyond every limit that the parent keeps itself
BACKOFF_FIRST, BACKOFF_MOST = 0.1, 60.0
HEALTHY_SECONDS = 30.0  # a parent that lived so long starts the backoff anew
MAX_VALIDATORS = 2
DIED = "the worker process died"
JOB_MEMORY = 8 << 30  # where the caller states no options: the defaults of MaxMemory and MaxRunTime
JOB_SECONDS = 3600.0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Pulser's word on a program: `sentence` is one sentence for the user when it cannot run, else ""."""

    ok: bool
    sentence: str
    spec_hash: str


class WorkerFault(Exception):
    """The worker could not answer; `message` is one sentence.

    Args:
        message: What happened.
        transient: True if the same request may succeed later (a process died), False if it would not (memory, time).
    """

    def __init__(self, message: str, *, transient: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.transient = transient


class _Answer(msgspec.Struct):
    """Any line from the parent (qpud/worker/parent.py)."""

    id: int = 0
    ok: dict[str, Any] | None = None
    refused: str | None = None
    fault: str | None = None
    transient: bool = True
    progress: float | None = None
    ready: dict[str, str] | None = None
    failed: str | None = None


_decode = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.Encoder().encode


class _Refused(WorkerFault):
    """The worker answered: the program's fault."""


class Workers:
    """One preloaded parent process under `python`; it forks a child for each job and children for validation.

    Args:
        python: Interpreter that has Pulser and the emulators.
        validation_memory: Bytes a validating child may allocate (RLIMIT_AS beyond what it inherits).
        validation_timeout: Seconds one validation may take before its child is killed.
    """

    def __init__(self, python: Path, *, validation_memory: int, validation_timeout: float) -> None:
        self._python = python
        self._settings = Settings(
            validators=min(MAX_VALIDATORS, os.cpu_count() or 1),
            validation_memory=validation_memory,
            validation_timeout=validation_timeout,
        )
        self.ready = asyncio.Event()  # set while the parent answers
        self._settled = asyncio.Event()  # set unless the parent is starting, or about to be after a death
        self._failure = "the worker has not been started"
        self._versions: dict[str, str] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._numbers = itertools.count(1)
        self._pending: dict[int, asyncio.Future[_Answer]] = {}
        self._job_of: dict[int, int] = {}  # request → job, of evolutions under way
        self._progress: dict[int, float] = {}
        self._backlog = 0
        self._runner: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None  # the clean-up after the last parent

    async def open(self) -> None:
        """Start the parent; returns at once, requests wait until it is ready. It is restarted if it dies."""
        self.begin()

    def begin(self) -> None:
        """What `open` does."""
        self._settled.clear()
        self._runner = asyncio.create_task(self._keep_running(), name="worker")

    async def close(self) -> None:
        """End the parent and every child."""
        if self._runner is None:
            return
        self._runner.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._runner
        if self._ending is not None:
            await self._ending
        self._settled.set()  # nobody waits for another parent
        self._runner = self._ending = None

    @property
    def python(self) -> Path:
        """The interpreter that has Pulser and the emulators."""
        return self._python

    @property
    def backlog(self) -> int:
        """Validations asked for and not yet answered."""
        return self._backlog

    @property
    def failure(self) -> str:
        """Why the worker does not answer now, in one sentence; "" while it does, is starting or is being replaced."""
        return "" if self.ready.is_set() or not self._settled.is_set() else self._failure

    @property
    def pid(self) -> int | None:
        """The parent's process id, if it runs."""
        return self._process.pid if self._process else None

    async def versions(self) -> dict[str, str]:
        """Versions of the interpreter, Pulser and the emulators by package. Raises: WorkerFault."""
        await self._until_ready()
        return dict(self._versions)

    async def device_spec(self, device: str) -> DeviceSpec:
        """The abstract representation of a Pulser device by name, or of a file. Raises: WorkerFault."""
        found = await self._ask("device_spec", device=device)
        text = found["text"]
        spec_hash = hashlib.sha256(text.encode()).hexdigest()
        return DeviceSpec(name=found["name"], text=text, hash=spec_hash, max_runs=found["max_runs"])

    async def validate(self, program: Program, shots: int, spec: DeviceSpec) -> Verdict:
        """Check a program against a spec, as the resource would run it.

        Never raises for what the user did; too much memory or time is a verdict too, and so is a program that
        kills its validator twice.

        Raises:
            WorkerFault: The worker itself is broken.
        """
        self._backlog += 1
        try:
            await self._twice("validate", shots=shots, **_fields(program, spec))
        except _Refused as refused:
            return Verdict(ok=False, sentence=refused.message, spec_hash=spec.hash)
        finally:
            self._backlog -= 1
        return Verdict(ok=True, sentence="", spec_hash=spec.hash)

    async def build(self, program: Program, spec: DeviceSpec) -> str:
        """The sequence as a QPU takes it: AHS converted, variables assigned, on the spec's device, measured.

        Raises:
            WorkerFault: Not transient if the program cannot be built.
        """
        built = await self._ask("build", **_fields(program, spec))
        text: str = built["text"]
        return text

    async def evolve(
        self,
        job_id: int,
        program: Program,
        spec: DeviceSpec,
        *,
        shots: int,
        seed: int,
        options: dict[str, Any],
    ) -> dict[str, str]:
        """Emulate once in a child of its own and draw all `shots`; the child keeps them until `release`.

        Args:
            job_id: Names the child; a child that has this name is replaced.
            program: What to run.
            spec: Of the resource.
            shots: Of the whole job.
            seed: The same program, shots and seed give the same shots.
            options: `emulator` (qutip, sv, mps, product, random; default: by size), `bond_dim` of mps, `noise` (the
                device's own), `memory` (bytes), `seconds` (wall).

        Returns:
            Provenance: emulator and versions.

        Raises:
            WorkerFault: Refused, killed, out of memory or time. A cancelled call kills the child.
        """
        limits = {"memory": JOB_MEMORY, "seconds": JOB_SECONDS, **options}
        fields = {**_fields(program, spec), "shots": shots, "seed": seed, "options": limits}
        try:
            answer = await self._ask("evolve", job=job_id, **fields)
        except asyncio.CancelledError:
            self.release(job_id)
            raise
        finally:
            self._progress.pop(job_id, None)
        return {**answer["provenance"], "pulser": self._versions.get("pulser", ""), **self._interpreter()}

    def _interpreter(self) -> dict[str, str]:
        return {"python": self._versions["python"]} if "python" in self._versions else {}

    async def deal(self, job_id: int, first_shot: int, shots: int) -> dict[str, int]:
        """Counts of some of the drawn shots. Raises: WorkerFault if the child is gone (evolve again)."""
        answer = await self._ask("deal", job=job_id, first=first_shot, shots=shots)
        counts: dict[str, int] = answer["counts"]
        return counts

    def progress(self, job_id: int) -> float | None:
        """The fraction of an evolution under way, if its emulator tells."""
        return self._progress.get(job_id)

    def release(self, job_id: int) -> None:
        """End the job's child; unknown ids are ignored."""
        if self._writer is not None:
            self._writer.write(_encode({"op": "release", "job": job_id}) + b"\n")

    # Requests

    async def _twice(self, operation: str, **fields: Any) -> None:
        """Ask again once if a process died: others may have killed it. The second time the program is to blame."""
        try:
            await self._ask(operation, **fields)
        except _Refused:
            raise
        except WorkerFault as fault:
            if not fault.transient or not self.ready.is_set():
                raise
            await self._ask(operation, **fields)

    async def _ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        writer = await self._until_ready()
        number = next(self._numbers)
        future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        if operation == "evolve":
            self._job_of[number] = fields["job"]
        try:
            writer.write(_encode({"id": number, "op": operation, **fields}) + b"\n")
            async with asyncio.timeout(self._patience(fields)):
                return _result(await future)
        except TimeoutError:
            raise self._hung(operation) from None
        finally:
            self._pending.pop(number, None)
            self._job_of.pop(number, None)

    def _patience(self, fields: dict[str, Any]) -> float:
        """Seconds in which any answer is due: the parent keeps the limits itself, unless it hangs.

        What asks a validator waits for those before it, each of which may take its time.
        """
        before = len(self._pending) - len(self._job_of)
        seconds = (2 + before / max(1, self._settings.validators)) * self._settings.validation_timeout
        return float(fields.get("options", {}).get("seconds", seconds)) + HANG_SECONDS

    def _hung(self, operation: str) -> WorkerFault:
        """Kill a parent that does not answer: it is started again like one that died."""
        log.error("the worker hangs and is killed", extra={"operation": operation})
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        return WorkerFault("the worker hung and was started again")

    async def _until_ready(self) -> asyncio.StreamWriter:
        await self._settled.wait()  # bounded: a start ends within START_SECONDS
        if self._writer is None or not self.ready.is_set():
            raise WorkerFault(self._failure)
        return self._writer

    def _take(self, answer: _Answer) -> None:
        if answer.ready is not None:
            self._versions = answer.ready
            self.ready.set()
            self._settled.set()
            self._became_ready()
        elif answer.failed is not None:
            self._failure = answer.failed
        elif answer.progress is not None:
            if answer.id in self._job_of:
                self._progress[self._job_of[answer.id]] = answer.progress
        elif (future := self._pending.get(answer.id)) and not future.done():
            future.set_result(answer)

    def _became_ready(self) -> None:
        """Called when the parent answers: nothing more is to be done here."""

    # The process

    async def _keep_running(self) -> None:
        pause, loop = BACKOFF_FIRST, asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self._live()
            pause = BACKOFF_FIRST if loop.time() - began > HEALTHY_SECONDS else min(pause * 2, BACKOFF_MOST)
            log.warning("worker ended", extra={"why": self._failure, "restart_in_seconds": pause})
            await asyncio.sleep(pause)

    async def _live(self) -> None:
        """One life of the parent, to its end; `_failure` tells what that was."""
        self._settled.clear()
        self._failure = DIED
        try:
            await self._run_once()
        except ConnectionError:
            pass  # died with our request in its socket: like any death
        except WorkerFault as refusal:
            self._failure = refusal.message
            self._settled.set()
        except (OSError, TimeoutError, ValueError, msgspec.DecodeError) as broken:  # ValueError: LINE_LIMIT
            self._failure = f"the worker {self._python} cannot be run: {_reason(broken)}"
            self._settled.set()
        finally:
            self._fail_pending()

    async def _launch(self) -> Launched:
        """Start a parent. Raises: OSError, WorkerFault."""
        return await launch(self._python, self._settings)

    async def _run_once(self) -> None:
        launched = await self._launch()
        self._process, self._writer = launched.process, launched.writer
        last_words: deque[str] = deque(maxlen=20)
        listening = asyncio.create_task(listen(launched.process, last_words), name="worker-stderr")
        try:
            async with asyncio.timeout(START_SECONDS):
                self._take_line(await launched.reader.readline())
            while self._take_line(await launched.reader.readline()):
                pass
        finally:
            importing, self._writer = not self._settled.is_set(), None
            if importing and self._failure == DIED:
                self._failure = f"the worker {self._python} ended before it was ready: is it a Python with Pulser?"
            self._settle(importing)
            self._fail_pending()  # before the clean-up, which may take seconds
            self._ending = asyncio.create_task(end(launched, listening, patience=0 if importing else 5))
            await asyncio.shield(self._ending)  # `close` may come now: it waits for it
            self._process = None
        if last_words and not self._failure.startswith("the interpreter"):
            log.warning("worker's last words", extra={"stderr": "\n".join(last_words)})

    def _take_line(self, line: bytes) -> bool:
        if line:
            self._take(_decode(line))
        return bool(line)

    def _settle(self, failed_to_start: bool, /) -> None:
        """After a death, let new requests wait for the next parent; after a failed start, let them fail at once."""
        if failed_to_start:
            self._settled.set()
        else:
            self._settled.clear()

    def _fail_pending(self) -> None:
        self.ready.clear()
        self._progress.clear()
        for future in self._pending.values():
            if not future.done():
                future.set_result(_Answer(fault=self._failure))


def _reason(broken: Exception) -> str:
    if isinstance(broken, OSError) and broken.strerror:
        return broken.strerror.lower()
    return str(broken) or f"it did not start in {START_SECONDS:.0f} s"


def _fields(program: Program, spec: DeviceSpec) -> dict[str, Any]:
    return {"sequence": program.sequence, "variables": program.variables, "spec": spec}


def _result(answer: _Answer) -> dict[str, Any]:
    if answer.refused is not None:
        raise _Refused(answer.refused, transient=False)
    if answer.fault is not None or answer.ok is None:
        raise WorkerFault(answer.fault or "the worker gave no answer", transient=answer.transient)
    return answer.ok
