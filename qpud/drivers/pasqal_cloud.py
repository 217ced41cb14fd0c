"""The driver `pasqal-cloud`: a QPU or an emulator of the Pasqal cloud, or another qpud that speaks like it.

A slice is a closed batch of one job, with the slice's tag among the batch's tags. POST /batches is never repeated:
after a lost reply `find` lists the batches with that tag. The cloud queues behind others' batches, so that the time
until a batch is seen running is not QPU time. It is polled, near the end that its measured shot rate predicts.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from qpud.core.resource import ResourcePolicy
from qpud.core.slices import Outcome
from qpud.drivers.base import (
    Clock,
    DeviceSpec,
    Fault,
    Health,
    Refused,
    SliceRequest,
    Unreachable,
    WorkersProtocol,
)
from qpud.drivers.cloud import CloudClient, batch_path
from qpud.drivers.cloud_batch import CloudBatch, read_batch
from qpud.drivers.cloud_find import Finder
from qpud.drivers.cloud_result import Results
from qpud.drivers.exchange import TOO_MANY, Answer, Away
from qpud.drivers.onprem_job import BadAnswer, Phase, QpuJob
from qpud.drivers.onprem_outcome import Observed, outcome_of
from qpud.drivers.remote import (
    RemoteDriver,
    Submitted,
    check_credentials,
    forget_oldest,
    health_of,
    refusal_of,
)
from qpud.drivers.spec import read_spec

PATIENCE = 5
"""So often a finished job is asked for results that are not there yet."""
SETTLE = 2.0
"""Request timeouts after which a lost POST either shows in the list or never will."""


class PasqalCloudDriver(RemoteDriver):
    """A device of the Pasqal cloud.

    Args:
        policy: Its section: Url, AuthUrl, CredentialsFile or TokenFile, ProjectId, DeviceType, RequestTimeout,
            ShotRate (first guess), PollMin, PollMax.
        workers: Builds sequences for the device.
        clock: Wall time.

    Raises:
        Fault: A key is missing, or Url cannot be read.
    """

    def __init__(self, policy: ResourcePolicy, workers: WorkersProtocol, clock: Clock) -> None:
        _check(policy)
        super().__init__(policy, workers, clock, self._fetch_spec, noun="batch")
        self._client = CloudClient(policy, clock)
        self._finder = Finder(policy.name, self._client)
        self._results = Results(policy.name, self._client)
        self._posted: dict[str, Submitted] = {}  # by tag

    async def close(self) -> None:
        """Close the connections; batches in the cloud go on."""
        await super().close()
        await self._client.close()

    async def health(self) -> Health:
        """Whether the cloud says that the device is ACTIVE. Never raises."""
        kind = {"device_type": str(self._policy.device_type)}
        return await health_of(
            self.name, self._client.ask("GET", "/api/v1/devices", params=kind), self._why_unavailable
        )

    # -- a slice
    async def start(self, request: SliceRequest) -> str:
        """Post the slice as a batch, unless an earlier try may have arrived. Raises: Refused, Unreachable."""
        self._check_takes_slices()
        if request.tag in self._posted and (known := await self.find(request)) is not None:
            return known
        text = await self._built.text(request, await self._spec.get())
        self._nudge.clear()
        self._posted[request.tag] = Submitted(self._clock(), time.monotonic())  # from here on it may arrive
        forget_oldest(self._posted)
        return await self._post(request, text)

    async def wait(self, device_id: str, request: SliceRequest) -> Outcome:
        """Poll until the batch has ended and its results are there. Raises: Unreachable."""
        seen = self._observed(device_id, request, self._posted.get(request.tag))
        return await self._until_ended(device_id, seen, self._look, self._finished)

    async def find(self, request: SliceRequest) -> str | None:
        """The batch of the slice with this tag; None if the cloud certainly does not have it. Raises: Unreachable."""
        self._check_open()
        posted = self._posted.get(request.tag)
        if posted is not None and posted.id is not None:
            request = msgspec.structs.replace(request, device_id=posted.id)
        batch_id = await self._finder.find(request)
        if batch_id is None and posted is not None and posted.id is None:
            settled = posted.at + SETTLE * self._policy.request_timeout
            await asyncio.sleep(max(0.0, settled - time.monotonic()))
            batch_id = await self._finder.find(request)
        if batch_id is None:
            self._posted.pop(request.tag, None)
        elif posted is not None:
            posted.id = batch_id
        return batch_id

    async def cancel(self, device_id: str) -> None:
        """Ask the cloud to cancel the batch; that it has ended, or is not known, is harmless here.

        Raises:
            Unreachable: No answer, or our credentials are refused.
        """
        answer = await self._client.ask("PATCH", batch_path(device_id, "/cancel"))
        check_credentials(self.name, answer.status, self._finder.sentence(answer))
        self._nudge.set()

    # -- start
    async def _post(self, request: SliceRequest, text: str) -> str:
        try:
            answer = await self._client.ask("POST", "/api/v1/batches", body=self._body(request, text))
        except Away as away:
            if not away.sent or away.status == TOO_MANY:
                self._posted.pop(request.tag, None)
            if away.status == TOO_MANY:
                raise Refused(away.message, transient=True) from away
            raise
        if not answer.ok:
            self._posted.pop(request.tag, None)
            self._spec.doubt()
            raise refusal_of(self.name, answer.status, self._finder.sentence(answer))
        try:
            batch = read_batch(answer.data)
        except BadAnswer as bad:
            raise Unreachable(f"resource {self.name} reports {bad.message} for slice {request.tag}") from None
        self._posted[request.tag].id = batch.id
        return batch.id

    def _body(self, request: SliceRequest, text: str) -> dict[str, Any]:
        return {
            "sequence_builder": text,
            "webhook": None,
            "jobs": [{"runs": request.shots}],
            "open": False,
            "device_type": self._policy.device_type,
            "project_id": self._policy.project_id,
            "tags": [request.tag],
        }

    # -- wait
    async def _look(self, batch_id: str, seen: Observed) -> CloudBatch | None:
        batch = await self._finder.look(batch_id)
        if batch is not None and batch.status == "PENDING":
            seen.waits()
        return batch

    async def _finished(self, batch: CloudBatch, seen: Observed) -> Outcome | None:
        """The outcome of an ended batch; None if it has to be asked once more."""
        job = await self._results.job_of(batch)
        if job.phase not in (Phase.ACTIVE, Phase.UNKNOWN, Phase.FAILED):
            job = msgspec.structs.replace(job, result=await self._results.of(job))
        if _is_behind(job) and seen.lacking < PATIENCE:
            seen.lacking += 1
            return None
        if job.phase in (Phase.ACTIVE, Phase.UNKNOWN):
            job = msgspec.structs.replace(job, status=batch.status, phase=batch.phase)
        if job.phase is Phase.DONE:
            self._learn_rate(job, seen)
        return outcome_of(self.name, job, seen, "")

    def _learn_rate(self, job: QpuJob, seen: Observed) -> None:
        run_time = seen.run_time(job)
        if run_time is not None:
            self._pace.learn(seen.request.shots, run_time)
        elif seen.is_ours and not seen.lacking:
            self._pace.learn(seen.request.shots, seen.elapsed)

    # -- what the device is
    def _why_unavailable(self, answer: Answer) -> str:
        if not answer.ok:
            return f"resource {self.name}: {self._finder.sentence(answer)}"
        words = _unavailable(answer.data, str(self._policy.device_type))
        return words and f"{self.name}: {words}"

    async def _fetch_spec(self) -> DeviceSpec:
        kind = str(self._policy.device_type)
        answer = await self._client.get("/api/v1/devices/specs")
        if not answer.ok:
            raise Unreachable(f"resource {self.name}: {self._finder.sentence(answer)}")
        specs = _specs_of(answer.data)
        if kind not in specs:
            public = await self._client.get("/api/v1/devices/public-specs")
            specs |= _specs_of(public.data)
        if kind not in specs:
            known = ", ".join(sorted(specs)) or "none"
            raise Unreachable(
                f"resource {self.name}: DeviceType {kind} is not among those of the cloud: {known[:300]}"
            )
        return read_spec(self.name, specs[kind], is_emulator=kind.upper().startswith("EMU"))


def _check(policy: ResourcePolicy) -> None:
    needed = {"Url": policy.url, "ProjectId": policy.project_id, "DeviceType": policy.device_type}
    for key, value in needed.items():
        if not value:
            raise Fault(f"resource {policy.name}: {key} is missing")
    if policy.token_file is None and not (policy.auth_url and policy.credentials_file):
        raise Fault(f"resource {policy.name}: AuthUrl and CredentialsFile, or TokenFile, are missing")


def _is_behind(job: QpuJob) -> bool:
    """Whether the job of an ended batch is told to be at work still, or to be done without its result."""
    return job.phase in (Phase.ACTIVE, Phase.UNKNOWN) or (job.phase is Phase.DONE and job.result is None)


def _specs_of(data: Any) -> dict[str, Any]:
    """Device type → spec: of our project as a mapping, of the public as a list of objects."""
    if isinstance(data, dict):
        return dict(data)
    entries = data if isinstance(data, list) else []
    return {str(one.get("device_type")): one.get("specs") for one in entries if isinstance(one, dict)}


def _unavailable(data: Any, kind: str) -> str:
    """Why the device takes no work; "" if it does."""
    device = data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else None
    if device is None:
        return f"the cloud knows no device of type {kind}"
    availability = str(device.get("availability")).upper()
    if availability == "ACTIVE":
        return ""
    return f"the cloud says that {kind} is {availability[:40]}, status {str(device.get('status'))[:40]}"
