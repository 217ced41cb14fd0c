"""The driver `pasqal-qpu`: a Pasqal QPU, or another qpud, behind the on-prem API of facts/CONTRACTS.md §8.

Submitting cancels the job submitted before, so that there is one job of ours at the QPU, ever: POST /jobs is never
repeated, and after a lost reply nothing is submitted until `find` has told what became of it. Every job carries its
slice's tag as `context.pasqman_job_id`. The QPU cannot call us: it is polled, near the end that its measured shot
rate predicts.
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
from qpud.drivers.exchange import Answer, Away
from qpud.drivers.onprem import OnPremClient, job_path
from qpud.drivers.onprem_find import Finder
from qpud.drivers.onprem_job import BadAnswer, Phase, QpuJob, read_uid
from qpud.drivers.onprem_outcome import Observed, gone, outcome_of
from qpud.drivers.pace import EAGERNESS, Pace, Rhythm
from qpud.drivers.spec import Built, KeptSpec, read_spec

HEALTH_SECONDS = 5.0
"""Longest time that `health` takes."""
REMEMBERED = 64
"""Slices whose uids are kept in mind."""
THE_PROGRAMS_FAULT = frozenset({400, 413, 422})
"""Refusals that the same slice would meet again."""


class _Posted:
    """The one job of ours that may be at the QPU; `uid` is None while nobody knows whether it arrived."""

    def __init__(self, request: SliceRequest, now: float, timeout: float, uid: str | None = None) -> None:
        self.request = request
        self.uid = uid
        self.adopted = uid is not None  # submitted by an earlier daemon: its start is not known
        self.at = time.monotonic()
        self.wall = now
        self.settled_at = self.at + timeout  # later than this, a lost POST cannot arrive any more


class PasqalQpuDriver:
    """A QPU behind the on-prem API.

    Args:
        policy: Its section: Url, TokenFile, RequestTimeout, ShotRate (first guess), PollMin, PollMax.
        workers: Builds sequences for the device.
        clock: Wall time.

    Raises:
        Fault: Url is missing or cannot be read.
    """

    def __init__(self, policy: ResourcePolicy, workers: WorkersProtocol, clock: Clock) -> None:
        if policy.url is None:
            raise Fault(f"resource {policy.name}: Url is missing")
        self.name = policy.name
        self.polls = 0
        """Polls of jobs since the start of the daemon."""
        self._policy = policy
        self._clock = clock
        self._client = OnPremClient(policy.name, policy.url, policy.token_file, policy.request_timeout)
        self._finder = Finder(policy.name, self._client)
        self._pace = Pace(policy.shot_rate, policy.poll_min, policy.poll_max)
        self._open = False
        self._spec = KeptSpec(policy.name, self._fetch_spec)
        self._built = Built(policy.name, workers)
        self._starting = asyncio.Lock()
        self._ours: _Posted | None = None
        self._newest: str | None = None
        self._uids: dict[str, str] = {}  # of the last slices, by tag: the search looks at newer jobs only
        self._nudge = asyncio.Event()

    @property
    def shot_rate(self) -> float:
        """Shots per second: measured, or ShotRate before the first slice."""
        return self._pace.shot_rate

    async def open(self) -> None:
        """Nothing is asked of the QPU yet."""
        self._open = True

    async def close(self) -> None:
        """Close the connections; the job at the QPU goes on."""
        self._open = False
        self._nudge.set()
        await self._client.close()

    # -- what the QPU is
    async def spec(self) -> DeviceSpec:
        """The QPU's device spec, at most SPEC_SECONDS old while it answers. Raises: Unreachable."""
        return await self._spec.get()

    async def health(self) -> Health:
        """Whether the QPU says UP. Never raises."""
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                answer = await self._ask("GET", "/system/operational")
        except TimeoutError:
            message = f"resource {self.name} did not answer within {HEALTH_SECONDS:g} s"
            return Health(state=HealthState.UNREACHABLE, message=message)
        except Unreachable as fault:
            return Health(state=HealthState.UNREACHABLE, message=fault.message)
        if not answer.ok:
            return Health(state=HealthState.DOWN, message=f"resource {self.name}: {self._finder.sentence(answer)}")
        status = answer.data.get("operational_status") if isinstance(answer.data, dict) else None
        if status == "UP":
            return Health(state=HealthState.UP)
        return Health(state=HealthState.DOWN, message=f"resource {self.name} says that it is {str(status)[:40]}")

    def shots_for(self, seconds: float) -> int:
        """Shots in `seconds` by the measured rate, at least 1."""
        return self._pace.shots_for(seconds)

    # -- a slice
    async def start(self, request: SliceRequest) -> str:
        """Submit the slice, if nothing of ours is at the QPU. Raises: Refused, Unreachable."""
        async with self._starting:
            if not self._open:
                raise Refused(f"resource {self.name} is closed", transient=True)
            await self._make_sure_it_is_free()
            text = await self._built.text(request, await self._spec.get())
            self._nudge.clear()
            self._ours = _Posted(request, self._clock(), self._policy.request_timeout)  # from here on it may arrive
            return await self._post(self._ours, text)

    async def wait(self, device_id: str, request: SliceRequest) -> Outcome:
        """Poll until the slice has ended. Raises: Unreachable."""
        posted = self._posted(device_id)
        known = posted is not None and not posted.adopted
        seen = Observed(request=request, clock=self._clock, started_at=posted.wall if posted and known else None)
        since, rhythm = posted.at if posted else time.monotonic(), Rhythm(self._pace, request.shots)
        if known:
            await self._rest(rhythm, since)
        else:
            rhythm.hurry()  # it may have ended long ago
        while True:
            job = await self._poll(device_id, seen)
            if job is None and seen.misses > 1:
                self._settle(device_id)
                return gone(self.name, device_id, seen)
            if job is not None and job.phase is Phase.UNKNOWN:
                raise Unreachable(f"resource {self.name} reports the unknown status {job.status} of job {device_id}")
            if job is not None and job.phase is not Phase.ACTIVE:
                return await self._finish(job, seen, since)
            await self._rest(rhythm, since)

    async def find(self, request: SliceRequest) -> str | None:
        """The uid of the slice with this tag; None if the QPU certainly does not have it. Raises: Unreachable."""
        if not self._open:
            raise Unreachable(f"resource {self.name} is closed")
        posted = self._ours if self._ours is not None and self._ours.request.tag == request.tag else None
        newest = self._newest or request.after_device_id
        if (known := self._uids.get(request.tag)) is not None:
            request = msgspec.structs.replace(request, device_id=known)
        uid = await self._finder.find(request, newest)
        if uid is None and posted is not None and posted.uid is None:
            await asyncio.sleep(max(0.0, posted.settled_at - time.monotonic()))
            uid = await self._finder.find(request, newest)
        self._learn_of(request, posted, uid)
        return uid

    async def cancel(self, device_id: str) -> None:
        """Ask the QPU to cancel; that it cannot any more (3003), or knows no such job, is harmless here.

        Raises:
            Unreachable: No answer.
        """
        answer = await self._ask("PUT", job_path(device_id, "/cancel"))
        if answer.status in (401, 403):
            raise Unreachable(f"resource {self.name}: {self._finder.sentence(answer)}")
        self._nudge.set()

    def release(self, job_id: int) -> None:
        """Drop the built sequence."""
        self._built.release(job_id)

    # -- start
    async def _make_sure_it_is_free(self) -> None:
        if self._ours is None:
            return
        ours = self._ours
        if ours.uid is None:
            await self.find(ours.request)
        if self._ours is None or self._ours.uid is None:
            return
        job = await self._finder.look(self._ours.uid)
        if job is not None and job.phase in (Phase.ACTIVE, Phase.UNKNOWN):
            raise Refused(
                f"resource {self.name} is still at job {job.uid} of slice {ours.request.tag}", transient=True
            )
        self._ours = None

    async def _post(self, posted: _Posted, text: str) -> str:
        request = posted.request
        context = {"batch_id": request.slurm_job_id or request.batch_id, "pasqman_job_id": request.tag}
        body = {"nb_run": request.shots, "pulser_sequence": text, "context": context}
        try:
            answer = await self._ask("POST", "/jobs", body)
        except Away as away:
            return await self._reconcile(posted, away)
        if not answer.ok:
            self._ours = None
            self._spec.doubt()
            raise self._refusal(answer)
        try:
            posted.uid = read_uid(answer.data.get("uid") if isinstance(answer.data, dict) else None)
        except BadAnswer as bad:
            raise Unreachable(f"resource {self.name} reports {bad.message} for slice {request.tag}") from None
        self._remember(request.tag, posted.uid)
        return posted.uid

    async def _reconcile(self, posted: _Posted, away: Away) -> str:
        """No usable answer to POST /jobs: settle it here if the QPU did answer something, else leave it to `find`."""
        if not away.sent:
            self._ours = None
            raise away
        if not away.answered:
            raise away
        posted.settled_at = time.monotonic()
        uid = await self.find(posted.request)
        if uid is None:
            raise Refused(away.message, transient=True) from away
        return uid

    def _refusal(self, answer: Answer) -> Refused:
        message = f"resource {self.name} refused the slice: {self._finder.sentence(answer)}"
        return Refused(message, transient=answer.status not in THE_PROGRAMS_FAULT)

    # -- wait
    async def _poll(self, device_id: str, seen: Observed) -> QpuJob | None:
        if not self._open:
            raise Unreachable(f"resource {self.name} is closed; job {device_id} goes on there")
        self.polls += 1
        seen.polls += 1
        job = await self._finder.look(device_id)
        seen.misses = seen.misses + 1 if job is None else 0
        seen.pended = seen.pended or (job is not None and job.status == "PENDING")
        return job

    async def _rest(self, rhythm: Rhythm, since: float) -> None:
        """Pause until the next poll; a cancel cuts it short."""
        try:
            async with asyncio.timeout(rhythm.next(time.monotonic() - since)):
                await self._nudge.wait()
        except TimeoutError:
            return
        self._nudge.clear()
        rhythm.hurry()

    async def _finish(self, job: QpuJob, seen: Observed, since: float) -> Outcome:
        elapsed = time.monotonic() - since
        posted = self._posted(job.uid)
        if job.phase is Phase.DONE and posted is not None and not posted.adopted:
            self._learn_rate(job, seen, elapsed)
        program = await self._program_state(job) if job.phase is Phase.FAILED else ""
        self._settle(job.uid)
        return outcome_of(self.name, job, seen, program)

    def _learn_rate(self, job: QpuJob, seen: Observed, elapsed: float) -> None:
        run_time = seen.run_time(job)
        if run_time is not None:
            self._pace.learn(seen.request.shots, run_time)
        elif not seen.pended:
            self._pace.learn(seen.request.shots, elapsed * (EAGERNESS if seen.polls == 1 else 1.0))

    async def _program_state(self, job: QpuJob) -> str:
        """What became of the program of a failed job; "" if that cannot be had."""
        if job.program_id is None:
            return ""
        try:
            answer = await self._ask("GET", f"/programs/{job.program_id}")
        except Unreachable:
            return ""
        status = answer.data.get("status") if answer.ok and isinstance(answer.data, dict) else ""
        return str(status or "").upper()[:40]

    # -- bookkeeping
    async def _ask(self, method: str, path: str, body: Any = None) -> Answer:
        return await self._client.ask(method, path, body=body)

    def _posted(self, uid: str) -> _Posted | None:
        return self._ours if self._ours is not None and self._ours.uid == uid else None

    def _settle(self, uid: str) -> None:
        """The job has ended: the QPU is free of ours."""
        if self._posted(uid) is not None:
            self._ours = None

    def _learn_of(self, request: SliceRequest, posted: _Posted | None, uid: str | None) -> None:
        """Remember what `find` found, so that nothing is submitted over it."""
        if uid is not None:
            self._remember(request.tag, uid)
        if posted is not None:
            posted.uid = uid
            self._ours = posted if uid is not None else None
        elif self._ours is None and uid is not None:
            self._ours = _Posted(request, self._clock(), self._policy.request_timeout, uid)

    def _remember(self, tag: str, uid: str) -> None:
        self._newest = self._uids[tag] = uid
        while len(self._uids) > REMEMBERED:
            del self._uids[next(iter(self._uids))]

    async def _fetch_spec(self) -> DeviceSpec:
        answer = await self._client.get("/system")
        if not answer.ok:
            raise Unreachable(f"resource {self.name}: {self._finder.sentence(answer)}")
        return read_spec(self.name, answer.data.get("specs") if isinstance(answer.data, dict) else None)
