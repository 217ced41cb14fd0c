"""The native dialect, `/v1/…`: sessions and jobs. Resources and administration are in native_admin.py."""

from __future__ import annotations

import re
from functools import partial

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from qpud.api import forecasts, job_wire, rehearsals, views, wire
from qpud.api.answering import WholeRequest
from qpud.api.bodies import decode, decoder_of, optional
from qpud.api.parts import Parts
from qpud.api.query import read_query, selected_resource
from qpud.api.reply import Json
from qpud.api.route import Dialect, Route
from qpud.api.wire_terms import moment
from qpud.core import verbs
from qpud.core.errors import BadRequest, Invalid
from qpud.core.job import Job, JobState
from qpud.core.session import Hint

LONGEST_KEY = 255
LONGEST_BATCH = 1000
LARGEST_SLURM_JOB = 2**32 - 1

_session_ask = decoder_of(wire.SessionAsk)
_cancel_ask = decoder_of(job_wire.CancelAsk)
_queue_ask = decoder_of(job_wire.QueueAsk)
_text_asks = decoder_of(job_wire.JobAsk | list[job_wire.JobAsk])
_object_asks = decoder_of(job_wire.JobObjectAsk | list[job_wire.JobObjectAsk])
_raw_text = decoder_of(str)


async def open_session(parts: Parts, request: Request) -> Response:
    """Open a session, or return the open one of the same user and Slurm job, with a token."""
    who = parts.caller(request)
    ask: wire.SessionAsk = optional(_session_ask, await request.body(), wire.SessionAsk())
    grant = await parts.service.open_session(
        who,
        verbs.OpenSession(
            user_id=parts.user_id(ask.user),
            slurm_job_id=None if ask.slurm_job_id is None else str(ask.slurm_job_id),
            queue=ask.queue,
            share=ask.share,
            hint=ask.hint or Hint.NONE,
            expected_qpu_seconds=ask.expected_qpu_seconds,
            expected_classical_seconds=ask.expected_classical_seconds,
            nodes=ask.nodes,
            account=ask.account,
            rehearsal=rehearsals.asked(ask.rehearsal),
            for_resource=ask.rehearsal.resource if ask.rehearsal else None,
        ),
    )
    return Json(views.grant_view(grant, _idle_timeout(parts)), 201 if grant.created else 200)


async def list_sessions(parts: Parts, request: Request) -> Response:
    """The caller's sessions, newest first; everybody's for an administrator."""
    who, ask = parts.caller(request), read_query(request, wire.SessionQuery)
    which = verbs.SessionFilter(user_id=parts.user_id(ask.user), slurm_job_id=ask.slurm_job_id, active=ask.active)
    found = await parts.service.list_sessions(who, which)
    return Json([views.session_view(session, _idle_timeout(parts)) for session in found])


async def get_session(parts: Parts, request: Request) -> Response:
    """One session."""
    session = await parts.service.get_session(parts.caller(request), request.path_params["session"])
    return Json(views.session_view(session, _idle_timeout(parts)))


async def close_session(parts: Parts, request: Request) -> Response:
    """Close a session and cancel its unfinished jobs; closing twice changes nothing."""
    session = await parts.service.close_session(parts.caller(request), request.path_params["session"])
    return Json(views.session_view(session, _idle_timeout(parts)))


async def renew_session(parts: Parts, request: Request) -> Response:
    """Follow the session's Slurm job now, as after it gave up nodes; without one nothing changes."""
    session = await parts.service.renew_session(parts.caller(request), request.path_params["session"])
    return Json(views.session_view(session, _idle_timeout(parts)))


def _idle_timeout(parts: Parts) -> float:
    return parts.service.policy.daemon.session_idle_timeout


def foresee(parts: Parts, request: WholeRequest) -> tuple[list[verbs.JobRequest], bool]:
    """What of a submission needs no identity."""
    asks, is_batch = _job_asks(request.whole, selected_resource(request))
    parts.service.foresee(asks[0].sequence)
    return asks, is_batch


async def submit(parts: Parts, request: WholeRequest) -> Response:
    """Submit one job, or a list as one batch, durably; the session by X-Warden-Session or its token as Bearer."""
    who = parts.caller(request)
    asks, is_batch = request.foreseen or _job_asks(request.whole, selected_resource(request))
    jobs = await parts.service.submit(who, parts.session_ref(request), asks, idempotency_key(request))
    foreseen = [parts.service.forecast_at_submission(job) for job in jobs]
    found = [views.job_view(job, parts.user_name, one) for job, one in zip(jobs, foreseen, strict=True)]
    return Json(found if is_batch else found[0], 201, forecasts.headers(foreseen))


def _job_asks(body: bytes, resource: str | None) -> tuple[list[verbs.JobRequest], bool]:
    try:
        asked = _text_asks.decode(body)
    except (ValueError, RecursionError):  # read again: objects are rare, and this decoder makes the message
        asked = decode(_object_asks, body)
    if not isinstance(asked, list):
        return [_job_request(asked, resource)], False
    if not 0 < len(asked) <= LONGEST_BATCH:
        raise Invalid(f"a batch of {len(asked)} jobs is outside 1 … {LONGEST_BATCH}")
    return [_job_request(one, resource) for one in asked], True


def _job_request(ask: job_wire.JobAsk | job_wire.JobObjectAsk, resource: str | None) -> verbs.JobRequest:
    return verbs.JobRequest(
        sequence=ask.sequence if isinstance(ask, job_wire.JobAsk) else _sequence_text(ask.sequence),
        shots=ask.shots,
        variables=ask.variables or {},
        resource=ask.resource or resource,
        name=ask.name,
        tags=tuple(ask.tags or ()),
        then_release=UNSET if ask.then_release is None else _slurm_job(ask.then_release),
        seed=UNSET if ask.seed is None else ask.seed,
    )


def _slurm_job(named: str | int) -> int:
    if not (re.fullmatch("[0-9]{1,10}", str(named)) and 0 < int(named) < LARGEST_SLURM_JOB):
        raise BadRequest(f"then_release {str(named)[:40]!r} is not the number of a Slurm job")
    return int(named)


def _sequence_text(raw: msgspec.Raw) -> str:
    text = bytes(raw)
    if text.startswith(b'"'):
        return str(decode(_raw_text, text))
    if not text.startswith(b"{"):
        raise Invalid("the body is not valid: expected str or object, in sequence")
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise BadRequest("the body is not UTF-8") from None


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key header. Raises: BadRequest when it is longer than 255 characters."""
    key = request.headers.get("idempotency-key", "").strip() or None
    if key is not None and len(key) > LONGEST_KEY:
        raise BadRequest(f"an Idempotency-Key of {len(key)} characters exceeds {LONGEST_KEY}")
    return key


async def list_jobs(parts: Parts, request: Request) -> Response:
    """The caller's jobs, newest first, in pages; everybody's for an administrator."""
    who, ask = parts.caller(request), read_query(request, job_wire.JobQuery)
    which = verbs.JobFilter(
        states=ask.state,
        user_id=parts.user_id(ask.user),
        session_id=ask.session,
        queue=ask.queue,
        resource=selected_resource(request),
        name=ask.name,
        tag=ask.tag,
        batch_id=ask.batch,
        limit=ask.limit,
        before=ask.before,
    )
    page = await parts.service.list_jobs(who, which)
    jobs = [_view(parts, job) for job in page.jobs]
    return Json(job_wire.JobList(jobs=jobs, next=page.next))


def _view(parts: Parts, job: Job) -> job_wire.JobView:
    return views.job_view(job, parts.user_name, parts.service.forecast(job))


async def get_job(parts: Parts, request: Request) -> Response:
    """One job, by id or uuid; with `wait` as soon as it changes."""
    ask = partial(parts.service.get_job, parts.caller(request), request.path_params["job"])
    job = await parts.waits.hold(request, read_query(request, job_wire.WaitQuery).wait, ask)
    return Json(_view(parts, job))


async def get_result(parts: Parts, request: Request) -> Response:
    """Counts so far and where they come from; with `wait` at the job's end."""
    ask = partial(parts.service.result, parts.caller(request), request.path_params["job"])
    result = await parts.waits.hold(request, read_query(request, job_wire.WaitQuery).wait, ask)
    return Json(views.result_view(result, parts.user_name, parts.service.forecast(result.job)))


async def cancel_job(parts: Parts, request: Request) -> Response:
    """Stop a job; tells what had already run. A job that has ended stays as it is."""
    done = await parts.service.cancel_job(parts.caller(request), request.path_params["job"])
    return Json(views.cancel_view(done, parts.user_name))


async def cancel_jobs(parts: Parts, request: Request) -> Response:
    """Stop all unfinished jobs that a filter selects: the caller's own, everybody's for an administrator."""
    who, ask = parts.caller(request), decode(_cancel_ask, await request.body())
    which = verbs.JobSelection(
        user_id=parts.user_id(ask.user),
        queue=ask.queue,
        resource=ask.resource or selected_resource(request),
        session_id=ask.session,
        state=ask.state,
        name=ask.name,
        batch_id=ask.batch,
    )
    done = await parts.service.cancel_jobs(who, which, is_dry=ask.dry_run)
    return Json(views.cancel_sums(done, parts.user_name))


async def change_queue(parts: Parts, request: Request) -> Response:
    """Give an unfinished job another queue, from its next slice on. Administrators only."""
    who, ask = parts.caller(request), decode(_queue_ask, await request.body())
    job = await parts.service.change_queue(who, request.path_params["job"], ask.queue, override=ask.override)
    return Json(_view(parts, job))


async def hold_job(parts: Parts, request: Request) -> Response:
    """Keep a job from starting further slices until it is released."""
    job = await parts.service.hold_job(parts.caller(request), request.path_params["job"])
    return Json(_view(parts, job))


async def release_job(parts: Parts, request: Request) -> Response:
    """Undo a hold."""
    job = await parts.service.release_job(parts.caller(request), request.path_params["job"])
    return Json(_view(parts, job))


async def job_logs(parts: Parts, request: Request) -> Response:
    """The job's story in sentences, oldest first."""
    lines = await parts.service.job_logs(parts.caller(request), request.path_params["job"])
    return Json(job_wire.Story(lines=[job_wire.Line(at=moment(line.at), text=line.text) for line in lines]))


EXAMPLE_JOB = job_wire.JobAsk(
    sequence='{"version":"1","name":"adiabatic","register":[]}', shots=500, name="adiabatic 3x3", tags=["paper"]
)

route = partial(Route, dialect=Dialect.NATIVE)

ROUTES = (
    route(
        method="POST",
        path="/v1/sessions",
        endpoint=open_session,
        body=wire.SessionAsk,
        reply=wire.SessionGrant,
        status=201,
        example=wire.SessionAsk(queue="development", hint=Hint.QC_HEAVY, slurm_job_id="4242"),
    ),
    route(
        method="GET",
        path="/v1/sessions",
        endpoint=list_sessions,
        query=wire.SessionQuery,
        reply=list[wire.SessionView],
    ),
    route(method="GET", path="/v1/sessions/{session}", endpoint=get_session, reply=wire.SessionView),
    route(method="DELETE", path="/v1/sessions/{session}", endpoint=close_session, reply=wire.SessionView),
    route(method="POST", path="/v1/sessions/{session}/renew", endpoint=renew_session, reply=wire.SessionView),
    route(
        method="POST",
        path="/v1/jobs",
        endpoint=submit,
        keyed=True,
        body=job_wire.JobAsk | list[job_wire.JobAsk],
        reply=job_wire.JobView | list[job_wire.JobView],
        status=201,
        headers=forecasts.HEADERS,
        example=EXAMPLE_JOB,
        foresee=foresee,
        often=True,
    ),
    route(method="GET", path="/v1/jobs", endpoint=list_jobs, query=job_wire.JobQuery, reply=job_wire.JobList),
    route(
        method="GET",
        path="/v1/jobs/{job}",
        endpoint=get_job,
        query=job_wire.WaitQuery,
        reply=job_wire.JobView,
        often=True,
    ),
    route(method="DELETE", path="/v1/jobs/{job}", endpoint=cancel_job, reply=job_wire.CancelView),
    route(method="POST", path="/v1/jobs/{job}/cancel", endpoint=cancel_job, reply=job_wire.CancelView),
    route(
        method="POST",
        path="/v1/jobs/cancel",
        endpoint=cancel_jobs,
        body=job_wire.CancelAsk,
        reply=job_wire.CancelSums,
        example=job_wire.CancelAsk(queue="development", state=JobState.PENDING),
    ),
    route(
        method="POST",
        path="/v1/jobs/{job}/queue",
        endpoint=change_queue,
        body=job_wire.QueueAsk,
        reply=job_wire.JobView,
        example=job_wire.QueueAsk(queue="production"),
    ),
    route(method="POST", path="/v1/jobs/{job}/hold", endpoint=hold_job, reply=job_wire.JobView),
    route(method="POST", path="/v1/jobs/{job}/release", endpoint=release_job, reply=job_wire.JobView),
    route(method="GET", path="/v1/jobs/{job}/logs", endpoint=job_logs, reply=job_wire.Story),
    route(
        method="GET",
        path="/v1/jobs/{job}/result",
        endpoint=get_result,
        query=job_wire.WaitQuery,
        reply=job_wire.ResultView,
    ),
)
