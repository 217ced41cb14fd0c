"""The QRMI/Warden dialect: what released `qrmi` clients, SPANK plugins and load sensors send (CONTRACTS §1, §9).

Job ids are i32, uids are text, `results` is JSON text and only there when DONE, and polling routes never answer
with a passing 5xx: these clients retry nothing. Accounting and status are in qrmi_accounting.py.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from qpud.api import forecasts, job_wire
from qpud.api.answering import WholeRequest
from qpud.api.bodies import decode, decoder_of, optional
from qpud.api.native import idempotency_key
from qpud.api.parts import Parts
from qpud.api.query import read_query, selected_resource
from qpud.api.reply import Json
from qpud.api.route import Dialect, Route
from qpud.api.wire_terms import Shots, Whole, moment
from qpud.core import verbs
from qpud.core.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound
from qpud.core.identity import Identity
from qpud.core.job import TERMINAL, Job, JobState
from qpud.core.session import Hint, Session, idle_deadline

LARGEST_UID = 2**32 - 2
NO_LOGS = "There are no logs for this job"


class Accessible(msgspec.Struct, frozen=True):
    """Whether the resource takes work, and a sentence."""

    is_accessible: bool
    message: str


class AccessibleAsk(msgspec.Struct, frozen=True):
    """Drain (false) or resume (true), with the reason."""

    is_accessible: bool
    message: str | None = None


class Slots(msgspec.Struct, frozen=True):
    """Share units: 10 are the whole resource."""

    qpu_slots_total: int
    qpu_slots_used: int
    qpu_slots_available: int


class WardenSessionAsk(msgspec.Struct, frozen=True, kw_only=True):
    """Both client forms: `slurm_job_id` (released) and `scheduler_job_id` with `qpu_slots` (next)."""

    user_id: str | Whole | None = None
    scheduler_job_id: str | Whole | None = None
    slurm_job_id: str | Whole | None = None
    qpu_slots: Annotated[int, Meta(ge=1, le=10)] | None = None
    share: Annotated[int, Meta(ge=1, le=10)] | None = None
    queue: str | None = None
    hint: Hint | None = None


class WardenSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session in Warden's words."""

    id: str
    user_id: str
    scheduler_job_id: str | None
    slurm_job_id: str | None
    created_at: datetime | None
    revoked_at: datetime | None
    revocation_reason: str | None
    idle_expires_at: datetime | None
    expires_at: datetime | None
    qpu_slots: int


class WardenSessionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions."""

    user_id: Annotated[int, Meta(ge=0, le=LARGEST_UID)] | None = None
    scheduler_job_id: str | None = None
    slurm_job_id: str | None = None
    active: bool | None = None


class WardenJobAsk(msgspec.Struct, frozen=True, kw_only=True):
    """A sequence as JSON text (Pulser or AHS) and shots."""

    sequence: str
    shots: Shots


class JobResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A job; `results` is JSON text with integer counts, only when DONE."""

    id: int
    user_id: str
    created_at: datetime | None
    status: JobState
    results: str | None = None


class Specs(msgspec.Struct, frozen=True):
    """The device spec as JSON text."""

    specs: str


class Logs(msgspec.Struct, frozen=True):
    """The job's story as one text."""

    logs: str


class WardenJobQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the caller's jobs."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    before: Annotated[int, Meta(ge=1, le=2**31)] | None = None


_session_ask = decoder_of(WardenSessionAsk)
_job_ask = decoder_of(WardenJobAsk)
_accessible_ask = decoder_of(AccessibleAsk)


async def accessible(parts: Parts, request: Request) -> Response:
    """Whether the resource takes work now."""
    return Json(Accessible(*await parts.service.accessible(selected_resource(request))))


async def set_accessible(parts: Parts, request: Request) -> Response:
    """Drain or resume the resource. Administrators only."""
    who = parts.caller(request)
    ask: AccessibleAsk = decode(_accessible_ask, await request.body())
    name = parts.service.resource_name(selected_resource(request))
    message = ask.message or "Accessibility toggled"
    await (parts.service.resume(who, name) if ask.is_accessible else parts.service.drain(who, name, message))
    return Json(Accessible(ask.is_accessible, message))


async def slots(parts: Parts, request: Request) -> Response:
    """Share units: total, held by open sessions, available."""
    return Json(Slots(*parts.service.slots(selected_resource(request))))


async def open_session(parts: Parts, request: Request) -> Response:
    """Open a session for a user and scheduler job, or return the open one."""
    who = parts.caller(request)
    ask: WardenSessionAsk = optional(_session_ask, await request.body(), WardenSessionAsk())
    job = ask.scheduler_job_id if ask.scheduler_job_id is not None else ask.slurm_job_id
    grant = await parts.service.open_session(
        who,
        verbs.OpenSession(
            user_id=uid_of(ask.user_id),
            slurm_job_id=None if job is None else str(job),
            queue=ask.queue,
            share=ask.qpu_slots if ask.qpu_slots is not None else ask.share,
            hint=ask.hint or Hint.NONE,
            with_token=False,
        ),
    )
    return Json(session_body(parts, grant.session), 201 if grant.created else 200)


def uid_of(text: str | int | None) -> int | None:
    """The uid in a wire `user_id`. Raises: Invalid."""
    if text is None:
        return None
    if isinstance(text, str) and not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise Invalid(f"user_id {text[:40]!r} is not a numeric uid")
    uid = int(text)
    if not 0 <= uid <= LARGEST_UID:
        raise Invalid(f"user_id {str(uid)[:20]} is outside 0 … {LARGEST_UID}")
    return uid


def session_body(parts: Parts, session: Session) -> WardenSession:
    """A session in Warden's words."""
    idle_timeout = parts.service.policy.daemon.session_idle_timeout
    return WardenSession(
        id=session.id,
        user_id=str(session.user_id),
        scheduler_job_id=session.slurm_job_id,
        slurm_job_id=session.slurm_job_id,
        created_at=moment(session.opened_at),
        revoked_at=moment(session.closed_at),
        revocation_reason=session.close_reason,
        idle_expires_at=moment(idle_deadline(session, idle_timeout)),
        expires_at=moment(session.expires_at),
        qpu_slots=session.share,
    )


async def list_sessions(parts: Parts, request: Request) -> Response:
    """The caller's sessions, newest first; everybody's for an administrator."""
    who, ask = parts.caller(request), read_query(request, WardenSessionQuery)
    which = verbs.SessionFilter(
        user_id=ask.user_id, slurm_job_id=ask.scheduler_job_id or ask.slurm_job_id, active=ask.active
    )
    return Json([session_body(parts, session) for session in await parts.service.list_sessions(who, which)])


async def close_session(parts: Parts, request: Request) -> Response:
    """Close a session, named by the path or by X-Warden-Session; closing twice changes nothing."""
    who = parts.caller(request)
    ref = request.path_params.get("session") or _named_session(parts, request)
    try:
        return Json(session_body(parts, await parts.service.close_session(who, ref)))
    except NotFound:
        raise NotFound("Session not found") from None


def _named_session(parts: Parts, request: Request) -> str:
    ref = parts.session_ref(request)
    if ref is None:
        raise Forbidden("Missing 'X-Warden-Session' header.")
    return ref


async def specs(parts: Parts, request: Request) -> Response:
    """The device spec of the resource, as JSON text."""
    parts.caller(request)
    return Json(Specs((await parts.service.spec(selected_resource(request), parts.session_ref(request))).text))


def foresee(parts: Parts, request: WholeRequest) -> WardenJobAsk:
    """What of a submission needs no identity."""
    ask: WardenJobAsk = decode(_job_ask, request.whole)
    parts.service.foresee(ask.sequence)
    return ask


async def submit(parts: Parts, request: WholeRequest) -> Response:
    """Submit one job to a session."""
    who = parts.caller(request)
    ref = await _usable_session(parts, who, _named_session(parts, request))
    ask: WardenJobAsk = request.foreseen or decode(_job_ask, request.whole)
    job = verbs.JobRequest(sequence=ask.sequence, shots=ask.shots, resource=selected_resource(request))
    jobs = await parts.service.submit(who, ref, [job], idempotency_key(request))
    return Json(job_response(jobs[0]), 201, forecasts.headers([parts.service.forecast_at_submission(jobs[0])]))


async def _usable_session(parts: Parts, who: Identity, ref: str) -> str:
    try:
        session = await parts.service.get_session(who, ref)
    except (NotFound, BadRequest):
        raise Forbidden("Invalid session.") from None
    if session.user_id != who.user_id:
        raise Forbidden("Invalid session.")
    if not session.is_open:
        raise Forbidden("Session has been revoked.")
    return session.id


def job_response(job: Job, results: str | None = None) -> JobResponse:
    """A job in Warden's words."""
    return JobResponse(
        id=job.id,
        user_id=str(job.user_id),
        created_at=moment(job.submitted_at),
        status=job.state,
        results=results,
    )


async def list_jobs(parts: Parts, request: Request) -> Response:
    """The caller's jobs, newest first, without results: fetch one job for its results."""
    who, ask = parts.caller(request), read_query(request, WardenJobQuery)
    page = await parts.service.list_jobs(who, verbs.JobFilter(limit=ask.limit, before=ask.before))
    return Json([job_response(job) for job in page.jobs])


async def get_job(parts: Parts, request: Request) -> Response:
    """One job, with its results when DONE."""
    who, ref = parts.caller(request), request.path_params["job"]
    with _job_not_found():
        wait = read_query(request, job_wire.WaitQuery).wait if request.scope["query_string"] else 0.0
        if wait > 0:
            await parts.waits.hold(request, wait, partial(parts.service.get_job, who, ref))
        return Json(job_response(*await parts.service.results_text(who, ref)))


async def cancel_job(parts: Parts, request: Request) -> Response:
    """Stop a job; 409 when it has ended or was asked before."""
    who = parts.caller(request)
    with _job_not_found():
        done = await parts.service.cancel_job(who, request.path_params["job"])
    if done.before in TERMINAL:
        raise Conflict(f"Job with status '{done.before}' can't be canceled")
    if done.asked_before:
        raise Conflict("Job with status was already requested to be stopped")
    return Json(job_response(done.job))


async def job_logs(parts: Parts, request: Request) -> Response:
    """The job's story as one text."""
    with _job_not_found():
        lines = await parts.service.job_logs(parts.caller(request), request.path_params["job"])
    return Json(Logs("\n".join(f"{moment(line.at):%Y-%m-%dT%H:%M:%SZ} {line.text}" for line in lines) or NO_LOGS))


class _job_not_found:  # noqa: N801  reads as the phrase it is
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, NotFound):
            raise NotFound("Job not found") from None


route = partial(Route, dialect=Dialect.QRMI)

ROUTES = (
    route(method="GET", path="/accessible", endpoint=accessible, reply=Accessible, public=True),
    route(
        method="POST",
        path="/accessible",
        endpoint=set_accessible,
        body=AccessibleAsk,
        reply=Accessible,
        example=AccessibleAsk(False, "maintenance"),
    ),
    route(method="GET", path="/qpu-slots", endpoint=slots, reply=Slots, public=True),
    route(
        method="POST",
        path="/sessions",
        endpoint=open_session,
        body=WardenSessionAsk,
        reply=WardenSession,
        status=201,
        example=WardenSessionAsk(user_id="1000", slurm_job_id="4242"),
    ),
    route(method="GET", path="/sessions", endpoint=list_sessions, query=WardenSessionQuery, reply=list[WardenSession]),
    route(method="DELETE", path="/sessions", endpoint=close_session, reply=WardenSession),
    route(method="DELETE", path="/sessions/{session}", endpoint=close_session, reply=WardenSession),
    route(method="GET", path="/qpu/specs", endpoint=specs, reply=Specs),
    route(
        method="POST",
        path="/jobs",
        endpoint=submit,
        keyed=True,
        body=WardenJobAsk,
        reply=JobResponse,
        status=201,
        headers=forecasts.HEADERS,
        example=WardenJobAsk(sequence='{"version":"1"}', shots=100),
        foresee=foresee,
        often=True,
    ),
    route(method="GET", path="/jobs", endpoint=list_jobs, query=WardenJobQuery, reply=list[JobResponse]),
    route(method="GET", path="/jobs/{job}", endpoint=get_job, query=job_wire.WaitQuery, reply=JobResponse, often=True),
    route(method="POST", path="/jobs/{job}/cancel", endpoint=cancel_job, reply=JobResponse),
    route(method="GET", path="/jobs/{job}/logs", endpoint=job_logs, reply=Logs),
)
