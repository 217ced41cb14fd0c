"""The driver `qrmi`: any resource that the package qrmi supports: Pasqal's, IBM's, IQM's, Alice & Bob's, OQTOPUS.

Of Pasqal's, programs are Pulser's and results counts. Of the others, programs are payloads, handed on as they are, and
results are kept as they come. A session is acquired for each slice and released after it: kept ones may cost, or keep
others out. qrmi lists no tasks: after a lost reply nobody can tell whether a slice runs (`Undecided`), unless its id
is stored. qrmi tells no run times: QPU time is what was seen from here.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from qpud.core.errors import QpudError
from qpud.core.payload import read_payload
from qpud.core.resource import ResourcePolicy
from qpud.core.slices import Outcome, OutcomeState
from qpud.core.terms import PULSER_TYPES
from qpud.drivers.base import (
    Clock,
    DeviceSpec,
    Fault,
    Health,
    HealthState,
    Refused,
    SliceRequest,
    Undecided,
    Unreachable,
    WorkersProtocol,
)
from qpud.drivers.onprem_job import Phase, QpuJob
from qpud.drivers.onprem_outcome import Observed, outcome_of
from qpud.drivers.pace import EAGERNESS
from qpud.drivers.qrmi_process import Lost, QrmiProcess, Told
from qpud.drivers.qrmi_words import PHASES, is_unknown_task, refusal_of, spec_of
from qpud.drivers.remote import RemoteDriver, Submitted, forget_oldest

PATIENCE = 5
"""So often a completed task is asked for a result that is not there yet."""


class _Task(Submitted):
    """A slice that this daemon tried to start: whether the resource certainly refused it; the token of its session."""

    refused: bool = False
    token: str | None = None


class QrmiDriver(RemoteDriver):
    """A resource of qrmi.

    Args:
        policy: Its section: QrmiType, QrmiName, QrmiPython, QrmiEnvironmentFile, RequestTimeout, ShotRate, PollMin,
            PollMax.
        workers: Builds Pulser sequences; its interpreter is the helper's, unless QrmiPython names one.
        clock: Wall time.

    Raises:
        Fault: QrmiType is missing.
    """

    def __init__(self, policy: ResourcePolicy, workers: WorkersProtocol, clock: Clock) -> None:
        if policy.qrmi_type is None:
            raise Fault(f"resource {policy.name}: QrmiType is missing")
        super().__init__(policy, workers, clock, self._fetch_spec, noun="task")
        self._type = policy.qrmi_type
        self._process = QrmiProcess(policy, workers.python)
        self._tasks: dict[str, _Task] = {}  # by tag

    @property
    def _is_pulser(self) -> bool:
        return self._type in PULSER_TYPES

    async def close(self) -> None:
        """End the helper; tasks at the resource go on."""
        await super().close()
        await self._process.close()

    async def health(self) -> Health:
        """Whether qrmi says Online. Never raises."""
        try:
            found = await self._ask("health")
        except Fault as fault:
            return Health(state=HealthState.UNREACHABLE, message=self._sentence(fault))
        status = str(found.get("status"))
        if status == "Online":
            return Health(state=HealthState.UP)
        why = f": {found['reason']}" if found.get("reason") else ""
        return Health(state=HealthState.DOWN, message=f"resource {self.name} is {status.lower()[:40]}{why}"[:300])

    # -- a slice
    async def start(self, request: SliceRequest) -> str:
        """Start the slice as a task, once. Raises: Refused, Unreachable."""
        self._check_takes_slices()
        known = self._tasks.get(request.tag)
        if known is not None and not known.refused:
            return known.id or await self._undecided(request.tag)
        payload = await self._payload_of(request)
        token = await self._acquire()
        self._nudge.clear()
        task = self._tasks[request.tag] = _Task(self._clock(), time.monotonic(), token=token)
        forget_oldest(self._tasks)
        return await self._start(task, payload)

    async def wait(self, device_id: str, request: SliceRequest) -> Outcome:
        """Poll until the task has ended, and give its session back. Raises: Unreachable."""
        task = self._tasks.get(request.tag)
        seen = self._observed(device_id, request, task)
        outcome = await self._until_ended(device_id, seen, self._look, self._finished)
        await self._release(task)
        return outcome

    async def find(self, request: SliceRequest) -> str | None:
        """The task of the slice with this tag, if its id is known; None if the resource refused it.

        Raises:
            Undecided: Its reply was lost, or an earlier daemon died over it: qrmi cannot list tasks.
            Unreachable: The driver is closed.
        """
        self._check_open()
        task = self._tasks.get(request.tag)
        if task is not None and task.refused:
            return None
        known = (task.id if task is not None else None) or request.device_id
        return known or await self._undecided(request.tag)

    async def cancel(self, device_id: str) -> None:
        """Ask qrmi to stop the task; that it has ended, or is not known, is harmless here.

        Raises:
            Unreachable: No answer, or our credentials are refused.
        """
        try:
            await self._ask("stop", task=device_id)
        except Told as told:
            if told.kind == "AuthenticationFailedError":
                raise Unreachable(self._sentence(told)) from told
        self._nudge.set()

    # -- start
    async def _payload_of(self, request: SliceRequest) -> dict[str, Any]:
        if self._is_pulser:
            text = await self._built.text(request, await self._spec.get())
            return {"sequence": text, "job_runs": request.shots}
        try:
            return read_payload(request.program.sequence, self._type)
        except QpudError as wrong:
            raise Refused(f"resource {self.name}: {wrong.message}", transient=False) from wrong

    async def _acquire(self) -> str | None:
        """A session for one slice; None if the environment file brings one. Raises: Refused: nothing ran."""
        try:
            await self._ask("health")  # an answer now makes a lost one later unlikely
            return None if self._process.has_token else str((await self._ask("acquire"))["token"])
        except (Told, Lost) as fault:
            raise Refused(f"resource {self.name} gives no session: {fault.message}", transient=True) from fault

    async def _start(self, task: _Task, payload: dict[str, Any]) -> str:
        try:
            task.id = str((await self._ask("start", payload=payload))["task"])
        except Lost as lost:
            task.refused = not lost.sent
            raise
        except Told as told:
            refused = refusal_of(self.name, told)
            if refused is None:
                raise Unreachable(self._sentence(told)) from told
            task.refused = True
            self._spec.doubt()
            await self._release(task)
            raise refused from told
        return task.id

    async def _release(self, task: _Task | None) -> None:
        """Give the session back; where that fails it expires by itself."""
        if task is None or task.token is None:
            return
        token, task.token = task.token, None
        try:
            await self._ask("release", token=token)
        except (Told, Lost):
            return

    # -- wait
    async def _look(self, task_id: str, seen: Observed) -> QpuJob | None:
        try:
            status = str((await self._ask("status", task=task_id))["status"])
        except Told as told:
            if is_unknown_task(told):
                return None
            raise Unreachable(self._sentence(told)) from told
        if status == "Queued":
            seen.waits()
        return QpuJob(uid=task_id, status=status[:40], phase=PHASES.get(status, Phase.UNKNOWN))

    async def _finished(self, job: QpuJob, seen: Observed) -> Outcome | None:
        """The outcome of an ended task; None if it has to be asked once more."""
        elapsed = seen.elapsed
        result, why = (None, "") if job.phase is Phase.FAILED else await self._result_of(job.uid)
        if job.phase is Phase.DONE and result is None and seen.lacking < PATIENCE:
            seen.lacking += 1
            return None
        if job.phase is Phase.DONE and seen.is_ours and not seen.lacking:
            self._pace.learn(seen.request.shots, elapsed * (EAGERNESS if seen.polls == 1 else 1.0))
        reason = why or (await self._logs_of(job.uid) if job.phase is Phase.FAILED else "")
        return self._outcome(msgspec.structs.replace(job, reason=reason, result=result), seen)

    def _outcome(self, job: QpuJob, seen: Observed) -> Outcome:
        if self._is_pulser or job.phase is Phase.FAILED:
            outcome = outcome_of(self.name, job, seen, "")
        else:
            outcome = self._opaque(job, seen)
        more = {"qrmi": self._process.version, "qrmi_type": str(self._type)}
        return msgspec.structs.replace(outcome, provenance=outcome.provenance | more)

    def _opaque(self, job: QpuJob, seen: Observed) -> Outcome:
        """The result as it came: it stands for all shots, or for none."""
        started, ended, seconds = seen.times(None)
        is_done = job.phase is Phase.DONE and job.result is not None
        state = OutcomeState.DONE if is_done else OutcomeState.FAILED
        if job.phase is Phase.CANCELED:
            state = OutcomeState.CANCELED
        more = f": {job.reason}" if job.reason else ""
        return Outcome(
            state=state,
            counts={},
            started_at=started,
            ended_at=ended,
            qpu_seconds=seconds,
            message="" if is_done else f"resource {self.name} gave no result of task {job.uid}, {job.status}{more}",
            provenance={"driver": seen.driver, "device_job": job.uid, "polls": str(seen.polls)},
            result=job.result if is_done else None,
            result_shots=seen.request.shots if is_done else 0,
        )

    async def _result_of(self, task_id: str) -> tuple[str | None, str]:
        """The result as text, or None and why. Raises: Unreachable."""
        try:
            return str((await self._ask("result", task=task_id))["result"]), ""
        except Told as told:
            return None, told.message[:300]

    async def _logs_of(self, task_id: str) -> str:
        """Why a task failed, if its log tells; "" if there is none to be had."""
        try:
            return " ".join(str((await self._ask("logs", task=task_id))["logs"]).split())[-300:]
        except (Told, Lost):
            return ""

    # -- bookkeeping
    async def _ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        return await self._process.ask(operation, **fields)

    def _sentence(self, fault: Fault) -> str:
        return fault.message if isinstance(fault, Lost) else f"resource {self.name}: qrmi says {fault.message}"

    async def _undecided(self, tag: str) -> str:
        raise Undecided(
            f"resource {self.name}: nobody can tell whether it has slice {tag}: qrmi lists no tasks, and the id of "
            "this one was lost; look there for a task of that time, and cancel the job here if it must not wait"
        )

    async def _fetch_spec(self) -> DeviceSpec:
        try:
            target = (await self._ask("target"))["target"]
        except Told as told:
            raise Unreachable(self._sentence(told)) from told
        return spec_of(self.name, target, is_pulser=self._is_pulser)
