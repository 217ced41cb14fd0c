"""The preloaded parent: imports once, forks children, carries messages between them and the daemon.

It computes nothing itself, so that it always answers. A child that dies or overruns its time is reported for every
request it had, and validators are forked anew. When the daemon hangs up, everything ends.

Requests  {id, op, …}: validate, build, device_spec → an idle validator; evolve, deal → the job's child.
          {op: release, job}: no answer.
Answers   {id, ok: {…}} | {id, refused: sentence} (the program's fault) | {id, fault: sentence, transient}
          A refused with `last` comes from a child that ends afterwards.
          {id, progress: fraction} before the answer of evolve; first of all {ready: versions} or {failed: sentence}.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from qpud.worker import child, limits
from qpud.worker.sentences import size
from qpud.worker.wire import Lines, Message

VALIDATOR_NICENESS = 10
JOB_NICENESS = 15
KEPT_JOBS = 32  # children that wait between slices; beyond, the oldest idle one goes and is emulated again later


class Settings(NamedTuple):
    """What the daemon decides: number of validators, bytes and seconds of one validation."""

    validators: int
    validation_memory: int
    validation_timeout: float


@dataclass(eq=False)
class Child:
    """A forked child, with the ids of the requests that it has not answered."""

    pid: int
    lines: Lines
    job: int | None = None
    memory: int = 0
    pending: list[int] = field(default_factory=list)
    deadline: float = float("inf")  # monotonic seconds
    overrun: str = ""  # the sentence if the deadline passes
    verdict: str = ""  # why we killed it


class Parent:
    """Carries messages until the daemon hangs up."""

    def __init__(self, daemon: Lines, settings: Settings) -> None:
        self._daemon = daemon
        self._settings = settings
        self._selector = selectors.DefaultSelector()
        self._children: set[Child] = set()
        self._jobs: dict[int, Child] = {}
        self._idle: list[Child] = []
        self._waiting: deque[Message] = deque()

    def run(self) -> None:
        """Serve until the daemon hangs up, then kill all children."""
        self._selector.register(self._daemon, selectors.EVENT_READ)
        for _ in range(self._settings.validators):
            self._fork_validator()
        try:
            while self._turn():
                self._kill_overrunning()
        finally:
            for one in self._children:
                _kill(one, "")

    def _turn(self) -> bool:
        nearest = min((one.deadline for one in self._children), default=float("inf"))
        timeout = None if nearest == float("inf") else max(0.0, nearest - time.monotonic())
        for key, _ in self._selector.select(timeout):
            if not (self._from_daemon() if key.data is None else self._from_child(key.data)):
                return False
        return True

    # From the daemon

    def _from_daemon(self) -> bool:
        requests = self._daemon.receive()
        for request in requests or ():
            self._dispatch(request)
        return requests is not None

    def _dispatch(self, request: Message) -> None:
        operation = request["op"]
        if operation == "evolve":
            self._evolve(request)
        elif operation == "deal":
            self._deal(request)
        elif operation == "release":
            self._release(request["job"])
        else:
            self._waiting.append(request)
            self._feed_validators()

    def _feed_validators(self) -> None:
        while self._idle and self._waiting:
            validator = self._idle.pop()
            seconds = self._settings.validation_timeout
            validator.deadline = time.monotonic() + seconds
            validator.overrun = f"the sequence needs more than ValidationTimeout {seconds:g} s to build"
            self._ask(validator, self._waiting.popleft())

    def _evolve(self, request: Message) -> None:
        self._release(request["job"])
        self._make_room()
        memory, seconds = request["options"]["memory"], request["options"]["seconds"]
        one = self._fork(child.serve_job, memory, JOB_NICENESS)
        one.job = request["job"]
        one.deadline = time.monotonic() + seconds
        one.overrun = f"the emulation needs more than MaxRunTime {seconds:g} s"
        self._jobs[request["job"]] = one
        self._ask(one, request)

    def _deal(self, request: Message) -> None:
        if one := self._jobs.get(request["job"]):
            self._ask(one, request)
        else:
            self._fault(request["id"], f"the emulation of job {request['job']} is gone", transient=True)

    def _release(self, job: int) -> None:
        if one := self._jobs.pop(job, None):
            _kill(one, f"the emulation of job {job} was stopped")

    def _make_room(self) -> None:
        idle = [job for job, one in self._jobs.items() if not one.pending]
        for job in idle[: max(0, len(self._jobs) + 1 - KEPT_JOBS)]:
            self._release(job)

    # From the children

    def _from_child(self, one: Child) -> bool:
        answers = one.lines.receive()
        for answer in answers or ():
            self._pass_on(one, answer)
        if answers is None:
            self._bury(one)
        return True

    def _pass_on(self, one: Child, answer: Message) -> None:
        if "progress" not in answer:
            one.pending.remove(answer["id"])
            one.deadline = float("inf")
            if one.job is None and not answer.pop("last", False):
                self._idle.append(one)
                self._feed_validators()
        self._daemon.send(answer)

    def _bury(self, one: Child) -> None:
        """Report a dead child's open requests; replace a validator."""
        self._selector.unregister(one.lines)
        one.lines.close()
        self._children.discard(one)
        _, status = os.waitpid(one.pid, 0)
        for request_id in one.pending:
            self._report_death(one, request_id, os.waitstatus_to_exitcode(status))
        if one.job is None:
            self._idle = [other for other in self._idle if other is not one]
            self._fork_validator()
        elif self._jobs.get(one.job) is one:
            del self._jobs[one.job]

    def _report_death(self, one: Child, request_id: int, code: int) -> None:
        if one.verdict and one.verdict == one.overrun:
            self._daemon.send({"id": request_id, "refused": one.verdict})
        elif one.verdict:
            self._fault(request_id, one.verdict, transient=False)
        else:
            what = "validating" if one.job is None else "emulating"
            why = f"signal {-code}" if code < 0 else f"exit code {code}"
            memory = f"its memory limit is {size(one.memory)}"
            self._fault(request_id, f"the {what} process ended with {why} ({memory})", transient=True)

    def _kill_overrunning(self) -> None:
        now = time.monotonic()
        for one in self._children:
            if one.deadline <= now:
                one.deadline = float("inf")
                _kill(one, one.overrun)

    def _fault(self, request_id: int, message: str, *, transient: bool) -> None:
        self._daemon.send({"id": request_id, "fault": message, "transient": transient})

    # Children

    def _fork_validator(self) -> None:
        self._idle.append(self._fork(child.serve_validations, self._settings.validation_memory, VALIDATOR_NICENESS))
        self._feed_validators()

    def _fork(self, serve: child.Serve, memory: int, niceness: int) -> Child:
        pid, sock = limits.fork(lambda end: serve(end, memory), memory=memory, niceness=niceness)
        one = Child(pid=pid, lines=Lines(sock), memory=memory)
        self._children.add(one)
        self._selector.register(one.lines, selectors.EVENT_READ, one)
        return one

    def _ask(self, one: Child, request: Message) -> None:
        one.pending.append(request["id"])
        try:
            one.lines.send(request)
        except OSError:  # dead or stopped: its end of stream brings the report
            _kill(one, one.verdict)


def _kill(one: Child, verdict: str) -> None:
    one.verdict = one.verdict or verdict
    with contextlib.suppress(ProcessLookupError):
        os.kill(one.pid, signal.SIGKILL)


def serve(daemon: Lines, settings: Settings) -> None:
    """Freeze what was imported, so that children share it, and run the parent."""
    gc.collect()
    gc.freeze()
    daemon.wait_forever()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the daemon is gone
        Parent(daemon, settings).run()
