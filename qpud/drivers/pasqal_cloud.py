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
    HealthState,
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
from qpud.drivers.onprem_outcome import Observed, gone, outcome_of
from qpud.drivers.pace import Pace, Rhythm
from qpud.drivers.spec import Built, KeptSpec, read_spec

HEALTH_SECONDS = 5.0
"""Longest time that `health` takes."""
REMEMBERED = 64
"""Slices whose batches are kept in mind."""
PATIENCE = 5
"""So often a finished job is asked for results that are not there yet."""
SETTLE = 2.0
"""Request timeouts after which a lost POST either shows in the list or never will."""
THE_PROGRAMS_FAULT = frozenset({400, 413, 422})
"""Refusals that the same slice would meet again."""


class _Posted(msgspec.Struct):
    """A batch that this daemon posted: when, by the wall and by the monotonic clock; its id once that is known."""

    wall: float
    at: float
    batch_id: str | None = None


class PasqalCloudDriver:
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
        self.name = policy.name
        self.polls = 0
        """Polls of batches since the start of the daemon."""
        self._policy = policy
        self._clock = clock
        self._client = CloudClient(policy, clock)
        self._finder = Finder(policy.name, self._client)
        self._results = Results(policy.name, self._client)
        self._pace = Pace(policy.shot_rate, policy.poll_min, policy.poll_max)
        self._spec = KeptSpec(policy.name, self._fetch_spec)
        self._built = Built(policy.name, workers)
        self._open = False
        self._nudge = asyncio.Event()
        self._posted: dict[str, _Posted] = {}  # by tag

    @property
    def shot_rate(self) -> float:
        """Shots per second: measured, or ShotRate before the first slice."""
        return self._pace.shot_rate

    async def open(self) -> None:
        """Nothing is asked of the cloud yet."""
        self._open = True

    async def close(self) -> None:
        """Close the connections; batches in the cloud go on."""
        self._open = False
        self._nudge.set()
        await self._client.close()

    # -- what the device is
    async def spec(self) -> DeviceSpec:
        """The device spec, at most a minute old while the cloud answers. Raises: Unreachable."""
        return await self._spec.get()

    async def health(self) -> Health:
        """Whether the cloud says that the device is ACTIVE. Never raises."""
        kind = str(self._policy.device_type)
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                answer = await self._client.ask("GET", "/api/v1/devices", params={"device_type": kind})
        except TimeoutError:
            message = f"resource {self.name} did not answer within {HEALTH_SECONDS:g} s"
            return Health(state=HealthState.UNREACHABLE, message=message)
        except Unreachable as fault:
            return Health(state=HealthState.UNREACHABLE, message=fault.message)
        if not answer.ok:
            return Health(state=HealthState.DOWN, message=f"resource {self.name}: {self._finder.sentence(answer)}")
        words = _unavailable(answer.data, kind)
        return Health(state=HealthState.DOWN if words else HealthState.UP, message=words and f"{self.name}: {words}")

    def shots_for(self, seconds: float) -> int:
        """Shots in `seconds` by the measured rate, at least 1."""
        return self._pace.shots_for(seconds)

    # -- a slice
    async def start(self, request: SliceRequest) -> str:
        """Post the slice as a batch, unless an earlier try may have arrived. Raises: Refused, Unreachable."""
        if not self._open:
            raise Refused(f"resource {self.name} is closed", transient=True)
        if request.tag in self._posted and (known := await self.find(request)) is not None:
            return known
        text = await self._built.text(request, await self._spec.get())
        self._nudge.clear()
        self._remember(request.tag, _Posted(self._clock(), time.monotonic()))  # from here on it may arrive
        return await self._post(request, text)

    async def wait(self, device_id: str, request: SliceRequest) -> Outcome:
        """Poll until the batch has ended and its results are there. Raises: Unreachable."""
        posted = self._posted.get(request.tag)
        started = posted.wall if posted and posted.batch_id == device_id else None
        seen = Observed(request=request, clock=self._clock, started_at=started, driver="pasqal-cloud")
        since, rhythm = posted.at if posted else time.monotonic(), Rhythm(self._pace, request.shots)
        if started is None:
            rhythm.hurry()  # it may have ended long ago
        else:
            await self._rest(rhythm, since)
        while True:
            batch = await self._poll(device_id, seen)
            if batch is None and seen.misses > 1:
                return gone(self.name, device_id, seen)
            if batch is not None and batch.phase is not Phase.ACTIVE:
                if (outcome := await self._finished(batch, seen, since)) is not None:
                    return outcome
                rhythm.hurry()
            if batch is not None and batch.status == "PENDING":
                since = time.monotonic()
            await self._rest(rhythm, since)

    async def find(self, request: SliceRequest) -> str | None:
        """The batch of the slice with this tag; None if the cloud certainly does not have it. Raises: Unreachable."""
        if not self._open:
            raise Unreachable(f"resource {self.name} is closed")
        posted = self._posted.get(request.tag)
        if posted is not None and posted.batch_id is not None:
            request = msgspec.structs.replace(request, device_id=posted.batch_id)
        batch_id = await self._finder.find(request)
        if batch_id is None and posted is not None and posted.batch_id is None:
            settled = posted.at + SETTLE * self._policy.request_timeout
            await asyncio.sleep(max(0.0, settled - time.monotonic()))
            batch_id = await self._finder.find(request)
        if batch_id is None:
            self._posted.pop(request.tag, None)
        elif posted is not None:
            posted.batch_id = batch_id
        return batch_id

    async def cancel(self, device_id: str) -> None:
        """Ask the cloud to cancel the batch; that it has ended, or is not known, is harmless here.

        Raises:
            Unreachable: No answer, or our credentials are refused.
        """
        answer = await self._client.ask("PATCH", batch_path(device_id, "/cancel"))
        if answer.status in (401, 403):
            raise Unreachable(f"resource {self.name}: {self._finder.sentence(answer)}")
        self._nudge.set()

    def release(self, job_id: int) -> None:
        """Drop the built sequence."""
        self._built.release(job_id)

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
            raise self._refusal(answer)
        try:
            batch = read_batch(answer.data)
        except BadAnswer as bad:
            raise Unreachable(f"resource {self.name} reports {bad.message} for slice {request.tag}") from None
        self._posted[request.tag].batch_id = batch.id
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

    def _refusal(self, answer: Answer) -> Refused:
        message = f"resource {self.name} refused the slice: {self._finder.sentence(answer)}"
        return Refused(message, transient=answer.status not in THE_PROGRAMS_FAULT)

    # -- wait
    async def _poll(self, batch_id: str, seen: Observed) -> CloudBatch | None:
        if not self._open:
            raise Unreachable(f"resource {self.name} is closed; batch {batch_id} goes on there")
        self.polls += 1
        seen.polls += 1
        batch = await self._finder.look(batch_id)
        if batch is None:
            seen.misses += 1
        elif batch.phase is Phase.UNKNOWN:
            raise Unreachable(f"resource {self.name} reports the unknown status {batch.status} of batch {batch_id}")
        elif batch.status == "PENDING":
            seen.waits()
        return batch

    async def _rest(self, rhythm: Rhythm, since: float) -> None:
        """Pause until the next poll; a cancel cuts it short."""
        try:
            async with asyncio.timeout(rhythm.next(time.monotonic() - since)):
                await self._nudge.wait()
        except TimeoutError:
            return
        self._nudge.clear()
        rhythm.hurry()

    async def _finished(self, batch: CloudBatch, seen: Observed, since: float) -> Outcome | None:
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
            self._learn_rate(job, seen, time.monotonic() - since)
        return outcome_of(self.name, job, seen, "")

    def _learn_rate(self, job: QpuJob, seen: Observed, elapsed: float) -> None:
        run_time = seen.run_time(job)
        if run_time is not None:
            self._pace.learn(seen.request.shots, run_time)
        elif seen.is_ours and not seen.lacking:
            self._pace.learn(seen.request.shots, elapsed)

    # -- bookkeeping
    def _remember(self, tag: str, posted: _Posted) -> None:
        self._posted[tag] = posted
        while len(self._posted) > REMEMBERED:
            del self._posted[next(iter(self._posted))]

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
