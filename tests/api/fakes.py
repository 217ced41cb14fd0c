"""An in-memory service with real core values, and the small builders of the HTTP tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import httpx
import msgspec
from fake_batches import FakeBatches

from qpud.api.app import App, create_app
from qpud.api.auth import Authenticator
from qpud.core import verbs
from qpud.core.errors import Conflict, Forbidden, LimitExceeded, NotFound, QpudError, Unauthenticated
from qpud.core.identity import Identity, Proof, require_admin
from qpud.core.job import TERMINAL, Job, JobState, Reason, move
from qpud.core.policy import DaemonPolicy, Policy, default_policy
from qpud.core.profile import JobTimes, Profile, SliceTimes, profile
from qpud.core.report import Charges, Group, Report, ReportFilter, ReportRow
from qpud.core.reservations import Reservation
from qpud.core.session import CloseReason, Session
from qpud.core.shares import Share
from qpud.core.terms import AuthType
from qpud.drivers.base import DeviceSpec
from qpud.telemetry.metrics import Metrics

NOW = 1_700_000_000.0
USERS = {0: "root", 1000: "ada", 1001: "bob", 1002: "qops"}
SPEC_TEXT = '{"name":"FRESNEL","max_runs":2000,"rydberg_level":60}'


class FakeService(FakeBatches):
    """The verbs of `qpud.service.Service`, in memory: sessions, jobs, and nothing that runs."""

    urls: tuple[str, ...] = ("http://0.0.0.0:8006",)

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        self.urls: tuple[str, ...] = ("http://127.0.0.1:8006",)
        self.sessions: dict[str, Session] = {}
        self.tokens: dict[str, str] = {}
        self.jobs: dict[int, Job] = {}
        self.asks: dict[int, verbs.JobRequest] = {}
        self.keys: dict[tuple[int, str], list[int]] = {}
        self.counts: dict[int, dict[str, int]] = {}
        self.changed = asyncio.Event()
        self.waiting = asyncio.Event()  # somebody waits for a change
        self.left = asyncio.Event()  # and has stopped waiting
        self.waited_seconds = 0.0
        self.reported: ReportFilter | None = None  # the last report asked for
        self.drained: str | None = None
        self.reserved: dict[str, verbs.Reserved] = {}
        self.alive = True
        self.fails: Exception | None = None
        self.foreseen: list[str] = []

    def identify_token(self, token: str) -> Identity:
        if token not in self.tokens:
            raise Unauthenticated("the session token is unknown, or its session has ended")
        session = self.sessions[self.tokens[token]]
        return Identity(user_id=session.user_id, user=session.user, proof=Proof.TOKEN, session_id=session.id)

    async def open_session(self, who: Identity, ask: verbs.OpenSession) -> verbs.Grant:
        user_id = who.user_id if ask.user_id is None else ask.user_id
        if user_id != who.user_id and not who.may_open_for_others:
            raise Forbidden(f"user {who.user} may not open a session for uid {user_id}")
        for session in self.sessions.values():
            if ask.slurm_job_id and (session.user_id, session.slurm_job_id) == (user_id, ask.slurm_job_id):
                return verbs.Grant(session=session, token=self._token(session), created=False)
        session = a_session(
            id=f"00000000-0000-4000-8000-{len(self.sessions):012d}",
            user_id=user_id,
            user=USERS[user_id],
            slurm_job_id=ask.slurm_job_id,
            queue=ask.queue or "development",
            share=ask.share or 1,
            hint=ask.hint,
            rehearsal=ask.rehearsal,
        )
        self.sessions[session.id] = session
        return verbs.Grant(session=session, token=self._token(session), created=True)

    def _token(self, session: Session) -> str:
        token = f"qpud_{len(self.tokens)}"
        self.tokens[token] = session.id
        return token

    async def get_session(self, who: Identity, ref: str) -> Session:
        session = self.sessions.get(self.tokens.get(ref, ref))
        if session is None or not who.may_see(session.user_id):
            raise NotFound(f"session {ref} does not exist")
        return session

    async def renew_session(self, who: Identity, ref: str) -> Session:
        return await self.get_session(who, ref)

    async def close_session(self, who: Identity, ref: str) -> Session:
        found = self.sessions.get(self.tokens.get(ref, ref))
        if found is None or not (who.may_see(found.user_id) or who.may_open_for_others):
            raise NotFound(f"session {ref} does not exist")
        session = found
        if session.is_open:
            session = msgspec.structs.replace(session, closed_at=NOW + 9, close_reason=CloseReason.MANUAL)
            self.sessions[session.id] = session
        return session

    async def list_sessions(self, who: Identity, which: verbs.SessionFilter) -> list[Session]:
        return [
            session
            for session in self.sessions.values()
            if who.may_see(session.user_id)
            and which.slurm_job_id in (None, session.slurm_job_id)
            and which.active in (None, session.is_open)
        ]

    def foresee(self, sequence: str) -> None:
        self.foreseen.append(sequence)

    async def submit(
        self, who: Identity, session_ref: str | None, asks: list[verbs.JobRequest], key: str | None = None
    ) -> list[Job]:
        if self.fails:
            raise self.fails
        if key is not None and (who.user_id, key) in self.keys:
            return [self.jobs[job] for job in self.keys[who.user_id, key]]
        if session_ref is None:
            raise Forbidden(f"user {who.user} has no open session")
        session = await self.get_session(who, session_ref)
        jobs = [self._accept(session, ask, len(asks)) for ask in asks]
        if key is not None:
            self.keys[who.user_id, key] = [job.id for job in jobs]
        return jobs

    def _accept(self, session: Session, ask: verbs.JobRequest, batch: int) -> Job:
        job = a_job(
            id=len(self.jobs) + 1,
            user_id=session.user_id,
            session_id=session.id,
            shots=ask.shots,
            name=ask.name,
            resource=self.resource_name(ask.resource),
            batch_id="b" if batch > 1 else None,
        )
        self.jobs[job.id] = job
        self.asks[job.id] = ask
        return job

    async def jobs_of_key(self, who: Identity, key: str) -> list[Job]:
        return [self.jobs[job] for job in self.keys.get((who.user_id, key), [])]

    async def get_job(self, who: Identity, ref: str, wait_seconds: float = 0.0) -> Job:
        if wait_seconds:
            await self._wait(wait_seconds)
        job = self.jobs.get(int(ref)) if ref.isdigit() and len(ref) < 10 else None
        job = job or next((each for each in self.jobs.values() if each.uid == ref), None)
        if job is None or not who.may_see(job.user_id):
            raise NotFound(f"job {ref} does not exist")
        return job

    async def _wait(self, seconds: float) -> None:
        self.waiting.set()
        self.waited_seconds = seconds
        try:
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        finally:
            self.left.set()

    async def list_jobs(self, who: Identity, which: verbs.JobFilter) -> verbs.JobPage:
        found = [
            job
            for job in sorted(self.jobs.values(), key=lambda job: -job.id)
            if who.may_see(job.user_id)
            and (not which.states or job.state in which.states)
            and which.user_id in (None, job.user_id)
            and (which.before is None or job.id < which.before)
        ]
        page = found[: which.limit]
        return verbs.JobPage(jobs=page, next=page[-1].id if len(found) > len(page) else None)

    async def cancel_job(self, who: Identity, ref: str) -> verbs.Cancellation:
        job = await self.get_job(who, ref)
        before, asked = job.state, job.reason is Reason.CANCELING
        if job.state is JobState.PENDING:
            job = self.jobs[job.id] = move(job, JobState.CANCELED, Reason.USER, NOW + 5)
        elif job.state is JobState.RUNNING:
            job = self.jobs[job.id] = msgspec.structs.replace(job, reason=Reason.CANCELING)
        return verbs.Cancellation(job=job, before=before, asked_before=asked, message=f"job {job.id} was {before}")

    async def job_logs(self, who: Identity, ref: str) -> list[verbs.LogLine]:
        job = await self.get_job(who, ref)
        return [verbs.LogLine(at=job.submitted_at, text=f"queued in {job.queue}")] if job.shots > 1 else []

    async def result(self, who: Identity, ref: str, wait_seconds: float = 0.0) -> verbs.Result:
        job = await self.get_job(who, ref, wait_seconds)
        one = verbs.SliceView(
            number=0,
            state="DONE",
            shots=job.shots,
            shots_done=job.shots_done,
            started_at=NOW + 1,
            ended_at=NOW + 2,
            qpu_seconds=1.0,
            setup_seconds=0.0,
            device_id="7",
        )
        return verbs.Result(
            job=job,
            counts=self.counts.get(job.id, {}),
            message="the laser tripped" if job.state is JobState.ERROR else "",
            spec_hash="ab",
            seed=7,
            provenance={"driver": "simulated"},
            slices=[one],
            qpu_seconds=1.0,
        )

    async def results_text(self, who: Identity, ref: str) -> tuple[Job, str | None]:
        job = await self.get_job(who, ref)
        if job.state is not JobState.DONE:
            return job, None
        return job, msgspec.json.encode({"counter": self.counts[job.id]}).decode()

    def forecast(self, job: Job) -> verbs.Forecast | None:
        if job.is_terminal:
            return None
        start = None if job.state is JobState.RUNNING else NOW + 60
        return verbs.Forecast(start, start and start + 600, NOW + 160, NOW + 760, "60 s of higher tiers")

    def forecast_at_submission(self, job: Job) -> verbs.Forecast | None:
        return self.forecast(job)

    async def hold_job(self, who: Identity, ref: str) -> Job:
        return msgspec.structs.replace(await self.get_job(who, ref), reason=Reason.HELD)

    async def release_job(self, who: Identity, ref: str) -> Job:
        return await self.get_job(who, ref)

    def resource_name(self, name: str | None) -> str:
        name = name or self.policy.default_resource
        if name not in self.policy.resources:
            raise NotFound(f"resource {name!r} does not exist")
        return name

    async def queue(self, who: Identity, resource: str | None) -> list[verbs.QueueEntry]:
        return [
            verbs.QueueEntry(
                position=position,
                job=job,
                tier=10,
                user=USERS[job.user_id],
                reason=job.reason,
                explanation="next in line",
                waited_seconds=1.5,
                forecast=self.forecast(job),
            )
            for position, job in enumerate(self.jobs.values())
            if job.state not in TERMINAL and resource in (None, job.resource)
        ]

    async def resources(self) -> list[verbs.ResourceView]:
        return [self._view(name) for name in self.policy.resources]

    def _view(self, name: str) -> verbs.ResourceView:
        return verbs.ResourceView(
            name=name,
            driver=self.policy.resources[name].driver,
            state="drained" if self.drained else "up",
            message="",
            device="FRESNEL",
            spec_hash="ab",
            pending=sum(job.state is JobState.PENDING for job in self.jobs.values()),
            running_job=None,
            drained_reason=self.drained,
        )

    async def spec(self, resource: str | None, session_ref: str | None = None) -> DeviceSpec:
        self.resource_name(resource)
        return DeviceSpec(name="FRESNEL", text=SPEC_TEXT, hash="ab", max_runs=2000)

    async def accessible(self, resource: str | None) -> tuple[bool, str]:
        self.resource_name(resource)
        return self.drained is None, self.drained or "up"

    def slots(self, resource: str | None) -> tuple[int, int, int]:
        self.resource_name(resource)
        return 10, 3, 7

    async def drain(self, who: Identity, resource: str, reason: str) -> verbs.ResourceView:
        require_admin(who, f"drain {resource}")
        self.drained = reason
        return self._view(self.resource_name(resource))

    async def down(self, who: Identity, resource: str, reason: str) -> verbs.ResourceView:
        require_admin(who, f"take {resource} down")
        self.drained = reason
        return msgspec.structs.replace(self._view(self.resource_name(resource)), state="down")

    def slurm_trouble(self) -> str:
        return ""

    async def degrade(self, who: Identity, resource: str, units: int, reason: str) -> verbs.ResourceView:
        require_admin(who, f"degrade {resource}")
        view = self._view(self.resource_name(resource))
        return msgspec.structs.replace(view, degraded_units=units, degraded_reason=reason)

    async def resume(self, who: Identity, resource: str) -> verbs.ResourceView:
        require_admin(who, f"resume {resource}")
        self.drained = None
        return self._view(self.resource_name(resource))

    async def reservations(self) -> list[verbs.Reserved]:
        return list(self.reserved.values())

    async def reserve(self, who: Identity, ask: verbs.Reserve) -> verbs.Reserved:
        require_admin(who, f"reserve {ask.resource}")
        starts_at = NOW if ask.starts_at is None else ask.starts_at
        one = Reservation(
            name=ask.name,
            resource=self.resource_name(ask.resource),
            starts_at=starts_at,
            ends_at=starts_at + ask.duration_seconds,
            accounts=ask.accounts,
            users=ask.users,
            duty=ask.duty,
            created_by=who.user,
            created_at=NOW,
        )
        self.reserved[one.name] = verbs.Reserved(reservation=one, is_active=starts_at <= NOW)
        return self.reserved[one.name]

    async def unreserve(self, who: Identity, name: str) -> verbs.Reserved:
        require_admin(who, f"delete reservation {name}")
        if name not in self.reserved:
            raise NotFound(f"reservation {name} does not exist, or is over")
        return self.reserved.pop(name)

    async def cancel_jobs(
        self, who: Identity, which: verbs.JobSelection, *, is_dry: bool = False
    ) -> verbs.Cancellations:
        found = [job for job in self.jobs.values() if who.may_see(job.user_id) and which.selects(job)]
        done = [await self.cancel_job(who, str(job.id)) for job in found if not is_dry]
        return verbs.Cancellations(matched=len(found), canceled=len(done), is_dry=is_dry, jobs=done)

    async def change_queue(self, who: Identity, ref: str, queue: str, *, override: bool = False) -> Job:
        require_admin(who, f"change the queue of job {ref}")
        job = await self.get_job(who, ref)
        if job.shots > 1000 and not override:
            raise LimitExceeded(f"{job.shots} shots exceed MaxShots 1000 of queue {queue}")
        self.jobs[job.id] = msgspec.structs.replace(job, queue=queue)
        return self.jobs[job.id]

    async def reconfigure(self, who: Identity) -> list[str]:
        require_admin(who, "reconfigure")
        return ["Listen needs a restart"]

    async def account_users(self, who: Identity, which: verbs.AccountingFilter) -> tuple[list[verbs.UserSum], int]:
        state = verbs.StateSum(state=JobState.DONE, count=2, execution_seconds=3.6, wait_seconds=1.2, shots=100)
        return [verbs.UserSum(user_id=1000, sessions=1, session_seconds=60.4, states=[state])], 1

    async def account_sessions(
        self, who: Identity, which: verbs.AccountingFilter
    ) -> tuple[list[verbs.SessionSum], int]:
        return [verbs.SessionSum(session=a_session(closed_at=NOW + 60), jobs=2)], 1

    async def account_jobs(self, who: Identity, which: verbs.AccountingFilter) -> tuple[list[verbs.JobSum], int]:
        return [verbs.JobSum(job=a_job(), execution_seconds=2.4, wait_seconds=0.6)], 1

    async def account_report(self, who: Identity, which: ReportFilter) -> Report:
        self.reported = which
        charges = Charges(
            jobs=2,
            slices=5,
            shots=100,
            qpu_seconds=102.5,
            setup_seconds=2.5,
            wasted_shots=3,
            wasted_seconds=3.0,
            wait_seconds=1.5,
            submitted_at=NOW,
            started_at=NOW + 1,
            ended_at=NOW + 103.5,
        )
        known: dict[Group, Any] = {
            Group.DAY: date(2023, 11, 14),
            Group.USER: who.user_id,
            Group.ACCOUNT: None,
            Group.SLURM_JOB: "4242",
            Group.SESSION: "00000000-0000-4000-8000-000000000000",
            Group.JOB: 1,
            Group.QUEUE: "development",
            Group.RESOURCE: "FRESNEL",
        }
        row = ReportRow(key={group: known[group] for group in which.by}, charges=charges)
        return Report(rows=[row], total=charges, next=None)

    async def shares(self, who: Identity, resource: str | None) -> list[Share]:
        return [
            Share(
                resource=self.resource_name(resource),
                tier=10,
                kind="session",
                account=None,
                user="ada",
                session="00000000-0000-4000-8000-000000000000" if who.user_id == 1000 else None,
                weight=3.0,
                entitled=0.6,
                served=0.5,
                served_seconds=120.0,
                owed_seconds=-4.0,
                usage_seconds=None,
                is_active=True,
            )
        ]

    async def profile(self, who: Identity, jobs: tuple[str, ...], session: str | None) -> Profile:
        times = [self._times(await self.get_job(who, ref)) for ref in jobs]
        return profile(times, NOW + 10, None if session is None else NOW - 5)

    def _times(self, job: Job) -> JobTimes:
        one = SliceTimes(
            job_id=job.id,
            number=0,
            shots=job.shots,
            shots_done=job.shots_done,
            state="DONE",
            intended_at=job.submitted_at + 1,
            started_at=job.submitted_at + 1.5,
            ended_at=job.submitted_at + 4,
            qpu_seconds=2.5,
            setup_seconds=0.5,
        )
        facts = {name: getattr(job, name) for name in ("id", "session_id", "name", "resource", "shots_done")}
        return JobTimes(
            **facts, state=job.state, submitted_at=job.submitted_at, ended_at=None, check_seconds=0.25, slices=(one,)
        )

    async def bundle(self, who: Identity, ref: str) -> verbs.Bundle:
        job = await self.get_job(who, ref)
        if not job.is_terminal:
            raise Conflict(f"job {job.id} is {job.state}: only a job that has ended can be bundled")
        slices = [{"number": 0, "counts": self.counts[job.id], "seed": 7}]
        spec, story = ("FRESNEL", SPEC_TEXT), await self.job_logs(who, ref)
        return verbs.Bundle(
            result=await self.result(who, ref), sequence=SEQUENCE, spec=spec, slices=slices, story=story, rehearsal={}
        )

    def health(self) -> verbs.Health:
        return verbs.Health(alive=self.alive, ready=self.alive, heartbeat_age_seconds=0.5, message="")

    # -- what tests do to jobs
    def finish(self, job_id: int, counts: dict[str, int]) -> None:
        """Let a job run to its end."""
        job = move(self.jobs[job_id], JobState.RUNNING, Reason.NONE, NOW + 1)
        job = move(job, JobState.DONE, Reason.NONE, NOW + 2)
        self.jobs[job_id] = msgspec.structs.replace(job, shots_done=sum(counts.values()))
        self.counts[job_id] = counts
        self.changed.set()

    def run(self, job_id: int) -> None:
        """Let a job start."""
        self.jobs[job_id] = move(self.jobs[job_id], JobState.RUNNING, Reason.NONE, NOW + 1)


def a_job(**fields: Any) -> Job:
    """A job with sensible fields."""
    job_id = fields.get("id", 1)
    defaults: dict[str, Any] = {
        "id": job_id,
        "uid": f"00000000-0000-8000-8000-{job_id:012d}",
        "session_id": "00000000-0000-4000-8000-000000000000",
        "user_id": 1000,
        "queue": "development",
        "resource": "FRESNEL",
        "sequence_hash": "cd" * 32,
        "register_hash": "ef" * 32,
        "shots": 100,
        "reason": Reason.PRIORITY,
        "submitted_at": NOW,
    }
    return Job(**defaults | fields)


def a_session(**fields: Any) -> Session:
    """An open session with sensible fields."""
    defaults: dict[str, Any] = {
        "id": "00000000-0000-4000-8000-000000000000",
        "user_id": 1000,
        "user": "ada",
        "queue": "development",
        "opened_at": NOW,
        "last_used_at": NOW,
        "expires_at": NOW + 86400,
    }
    return Session(**defaults | fields)


class FakeMunge:
    """Decodes credentials of the form `MUNGE:<uid>:`."""

    async def decode(self, credential: str, meanwhile: Callable[[], None]) -> int:
        meanwhile()
        word = credential.split(":")[1] if credential.startswith("MUNGE:") else ""
        if not word.isdigit():
            raise Unauthenticated(f"the munge credential is not valid: {word or 'garbage'}")
        return int(word)


class Desk:
    """An application over a FakeService, and clients for it."""

    def __init__(self, *, auth_type: AuthType = AuthType.MUNGE, max_body_size: int = 1 << 20) -> None:
        daemon = DaemonPolicy(auth_type=auth_type, admin_users=("root", "qops"), max_body_size=max_body_size)
        self.policy = msgspec.structs.replace(default_policy(), daemon=daemon)
        self.service = FakeService(self.policy)
        self.metrics = Metrics(("FRESNEL", "EMU_MPS"), tuple(self.policy.queues))
        self.app = self._app()

    def _app(self) -> App:
        authenticator = Authenticator(
            lambda: self.policy,
            FakeMunge(),
            self.service,
            lambda uid: USERS.get(uid, str(uid)),
            lambda name: next((uid for uid, known in USERS.items() if name in (known, str(uid))), None),
        )
        return create_app(
            self.service,  # type: ignore[arg-type]
            authenticator,
            self.metrics,
            lambda: self.policy.daemon.max_body_size,
        )

    @asynccontextmanager
    async def client(self, peer: int | None = None, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
        """A client over TCP, or over the Unix socket as uid `peer`."""
        transport = httpx.ASGITransport(app=_with_peer(self.app, peer))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx.AsyncClient(transport=transport, base_url="http://qpud", headers=named) as client:
            yield client


def _with_peer(app: App, peer: int | None) -> Callable[..., Any]:
    async def wrapped(scope: dict[str, Any], receive: Any, send: Any) -> None:
        scope["state"] = {} if peer is None else {"peer_uid": peer}
        await app(scope, receive, send)

    return wrapped


SEQUENCE = '{"version":"1","name":"adiabatic","register":[]}'


async def a_token(client: httpx.AsyncClient, **body: Any) -> str:
    """Open a session; its token."""
    return str((await client.post("/v1/sessions", json=body)).json()["token"])


def failing(error: QpudError | Exception) -> Desk:
    """A desk whose submissions fail so."""
    desk = Desk()
    desk.service.fails = error
    return desk
