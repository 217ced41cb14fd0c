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
    Refused,
    SliceRequest,
    Unreachable,
    WorkersProtocol,
)
from qpud.drivers.exchange import Answer, Away
from qpud.drivers.onprem import OnPremClient, job_path
from qpud.drivers.onprem_find import Finder
from qpud.drivers.onprem_job import BadAnswer, Phase, QpuJob, read_uid
from qpud.drivers.onprem_outcome import Observed, outcome_of
from qpud.drivers.pace import EAGERNESS
from qpud.drivers.remote import (
    RemoteDriver,
    Submitted,
    check_credentials,
    forget_oldest,
    health_of,
    refusal_of,
)
from qpud.drivers.spec import read_spec


class _Posted(Submitted, kw_only=True):
    """The one job of ours that may be at the QPU; `id` is None while nobody knows whether it arrived."""

    request: SliceRequest
    settled_at: float  # later than this, a lost POST cannot arrive any more


class PasqalQpuDriver(RemoteDriver):
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
        super().__init__(policy, workers, clock, self._fetch_spec)
        self._client = OnPremClient(policy.name, policy.url, policy.token_file, policy.request_timeout)
        self._finder = Finder(policy.name, self._client)
        self._starting = asyncio.Lock()
        self._ours: _Posted | None = None
        self._newest: str | None = None
        self._uids: dict[str, str] = {}  # of the last slices, by tag: the search looks at newer jobs only

    async def close(self) -> None:
        """Close the connections; the job at the QPU goes on."""
        await super().close()
        await self._client.close()

    async def health(self) -> Health:
        """Whether the QPU says UP. Never raises."""
        return await health_of(self.name, self._ask("GET", "/system/operational"), self._why_not_up)

    # -- a slice
    async def start(self, request: SliceRequest) -> str:
        """Submit the slice, if nothing of ours is at the QPU. Raises: Refused, Unreachable."""
        async with self._starting:
            self._check_takes_slices()
            await self._make_sure_it_is_free()
            text = await self._built.text(request, await self._spec.get())
            self._nudge.clear()
            self._ours = self._posting(request)  # from here on it may arrive
            return await self._post(self._ours, text)

    async def wait(self, device_id: str, request: SliceRequest) -> Outcome:
        """Poll until the slice has ended. Raises: Unreachable."""
        seen = self._observed(device_id, request, self._posted(device_id))
        outcome = await self._until_ended(device_id, seen, self._look, self._finish)
        self._settle(device_id)
        return outcome

    async def find(self, request: SliceRequest) -> str | None:
        """The uid of the slice with this tag; None if the QPU certainly does not have it. Raises: Unreachable."""
        self._check_open()
        posted = self._ours if self._ours is not None and self._ours.request.tag == request.tag else None
        newest = self._newest or request.after_device_id
        if (known := self._uids.get(request.tag)) is not None:
            request = msgspec.structs.replace(request, device_id=known)
        uid = await self._finder.find(request, newest)
        if uid is None and posted is not None and posted.id is None:
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
        check_credentials(self.name, answer.status, self._finder.sentence(answer))
        self._nudge.set()

    # -- start
    async def _make_sure_it_is_free(self) -> None:
        if self._ours is None:
            return
        ours = self._ours
        if ours.id is None:
            await self.find(ours.request)
        if self._ours is None or self._ours.id is None:
            return
        job = await self._finder.look(self._ours.id)
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
            raise refusal_of(self.name, answer.status, self._finder.sentence(answer))
        try:
            posted.id = read_uid(answer.data.get("uid") if isinstance(answer.data, dict) else None)
        except BadAnswer as bad:
            raise Unreachable(f"resource {self.name} reports {bad.message} for slice {request.tag}") from None
        self._remember(request.tag, posted.id)
        return posted.id

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

    # -- wait
    async def _look(self, uid: str, seen: Observed) -> QpuJob | None:
        job = await self._finder.look(uid)
        seen.pended = seen.pended or (job is not None and job.status == "PENDING")
        return job

    async def _finish(self, job: QpuJob, seen: Observed) -> Outcome:
        if job.phase is Phase.DONE and seen.is_ours:
            self._learn_rate(job, seen)
        program = await self._program_state(job) if job.phase is Phase.FAILED else ""
        return outcome_of(self.name, job, seen, program)

    def _learn_rate(self, job: QpuJob, seen: Observed) -> None:
        run_time = seen.run_time(job)
        if run_time is not None:
            self._pace.learn(seen.request.shots, run_time)
        elif not seen.pended:
            self._pace.learn(seen.request.shots, seen.elapsed * (EAGERNESS if seen.polls == 1 else 1.0))

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

    def _posting(self, request: SliceRequest, uid: str | None = None) -> _Posted:
        """A job of ours: posted now, or found under `uid`."""
        now = time.monotonic()
        return _Posted(
            self._clock(),
            now,
            uid,
            adopted=uid is not None,
            request=request,
            settled_at=now + self._policy.request_timeout,
        )

    def _posted(self, uid: str) -> _Posted | None:
        return self._ours if self._ours is not None and self._ours.id == uid else None

    def _settle(self, uid: str) -> None:
        """The job has ended: the QPU is free of ours."""
        if self._posted(uid) is not None:
            self._ours = None

    def _learn_of(self, request: SliceRequest, posted: _Posted | None, uid: str | None) -> None:
        """Remember what `find` found, so that nothing is submitted over it."""
        if uid is not None:
            self._remember(request.tag, uid)
        if posted is not None:
            posted.id = uid
            self._ours = posted if uid is not None else None
        elif self._ours is None and uid is not None:
            self._ours = self._posting(request, uid)

    def _remember(self, tag: str, uid: str) -> None:
        self._newest = self._uids[tag] = uid
        forget_oldest(self._uids)

    # -- what the QPU is
    def _why_not_up(self, answer: Answer) -> str:
        if not answer.ok:
            return f"resource {self.name}: {self._finder.sentence(answer)}"
        status = answer.data.get("operational_status") if isinstance(answer.data, dict) else None
        return "" if status == "UP" else f"resource {self.name} says that it is {str(status)[:40]}"

    async def _fetch_spec(self) -> DeviceSpec:
        answer = await self._client.get("/system")
        if not answer.ok:
            raise Unreachable(f"resource {self.name}: {self._finder.sentence(answer)}")
        return read_spec(self.name, answer.data.get("specs") if isinstance(answer.data, dict) else None)
