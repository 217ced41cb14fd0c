"""The on-prem QPU API, `/api/v1` and `/api/latest`: another qpud, Warden or myQLM before this one (CONTRACTS §5, §8).

JSend envelopes; specs as an object; naive UTC times, as the vendor's. A job's uid is our job id, and so is its
program's. `context.pasqman_job_id` is the idempotency key: FresnelQPU repeats a POST with the same one. Our own
addition is `GET /jobs?pasqman_job_id=`, by which the driver `pasqal-qpu` finds a job whose POST had no answer.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from qpud.api import job_wire
from qpud.api.bodies import decode, decoder_of
from qpud.api.native import LONGEST_KEY
from qpud.api.parts import Parts
from qpud.api.query import read_query, selected_resource
from qpud.api.reply import Json
from qpud.api.route import Dialect, Route
from qpud.api.wire_terms import Shots, moment
from qpud.core import verbs
from qpud.core.identity import Identity
from qpud.core.job import TERMINAL, Job, JobState

T = TypeVar("T")
CANNOT_BE_CANCELED = "3003"  # the vendor's code, sent with HTTP 400


class Jsend(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """The vendor's envelope; clients read `data` only."""

    data: T
    code: int = 200
    status: str = "success"
    message: str = "OK."


class Operational(msgspec.Struct, frozen=True):
    """UP or DOWN."""

    operational_status: str


class System(msgspec.Struct, frozen=True):
    """The device spec, as an object."""

    specs: msgspec.Raw


class JobContext(msgspec.Struct, frozen=True, kw_only=True):
    """The submitter's own ids."""

    batch_id: Annotated[str, Meta(max_length=LONGEST_KEY)] | None = None
    pasqman_job_id: Annotated[str, Meta(max_length=LONGEST_KEY)] | None = None


class QpuJobAsk(msgspec.Struct, frozen=True, kw_only=True):
    """A sequence as JSON text and a number of runs."""

    pulser_sequence: str
    nb_run: Shots
    context: JobContext | None = None


class QpuJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the vendor shows it; `result` is JSON text, `error` (ours) says in words why it failed."""

    uid: int
    status: JobState
    nb_run: int
    result: str | None
    program_id: int
    batch_id: str | None
    context: JobContext
    created_datetime: str | None
    start_datetime: str | None
    end_datetime: str | None
    error: str | None


class QpuProgram(msgspec.Struct, frozen=True, kw_only=True):
    """A program: the same thing as its job."""

    id: int
    status: str
    job_id: int


class CancelRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """The job cannot be canceled any more; `data.status` is its program's state."""

    code: str
    message: str
    detail: str
    data: dict[str, str]
    status: str = "fail"


class KeyQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The job that was submitted with this `context.pasqman_job_id`; left out: the newest 100 jobs."""

    pasqman_job_id: Annotated[str, Meta(max_length=LONGEST_KEY)] | None = None


_job_ask = decoder_of(QpuJobAsk)


async def operational(parts: Parts, request: Request) -> Response:
    """Whether the resource takes work."""
    is_up, message = await parts.service.accessible(selected_resource(request))
    return Json(Jsend(data=Operational("UP" if is_up else "DOWN"), message=message or "OK."))


async def system(parts: Parts, request: Request) -> Response:
    """The device spec of the resource."""
    spec = await parts.service.spec(selected_resource(request), parts.session_ref(request))
    return Json(Jsend(data=System(msgspec.Raw(spec.text.encode()))))


async def submit(parts: Parts, request: Request) -> Response:
    """Submit one job; a repeat with the same `context.pasqman_job_id` returns the first."""
    who = parts.caller(request)
    ask: QpuJobAsk = decode(_job_ask, await request.body())
    context = ask.context or JobContext()
    job = verbs.JobRequest(
        sequence=ask.pulser_sequence, shots=ask.nb_run, resource=selected_resource(request), name=context.batch_id
    )
    jobs = await parts.service.submit(who, parts.session_ref(request), [job], context.pasqman_job_id)
    # A retry may come after the end, and FresnelQPU polls no job that is DONE already: the result goes with it.
    return Json(Jsend(data=await _with_result(parts, who, jobs[0], context.pasqman_job_id)))


def qpu_job(job: Job, result: str | None, key: str | None = None, error: str | None = None) -> QpuJob:
    """A job as the vendor shows it."""
    return QpuJob(
        uid=job.id,
        status=job.state,
        nb_run=job.shots,
        result=result,
        program_id=job.id,
        batch_id=job.name,
        context=JobContext(batch_id=job.name, pasqman_job_id=key),
        created_datetime=_naive(job.submitted_at),
        start_datetime=_naive(job.started_at),
        end_datetime=_naive(job.ended_at),
        error=error,
    )


def _naive(at: float | None) -> str | None:
    time = moment(at)
    return None if time is None else time.replace(tzinfo=None).isoformat()


async def _with_result(parts: Parts, who: Identity, job: Job, key: str | None = None) -> QpuJob:
    if job.state is JobState.DONE:
        return qpu_job(*await parts.service.results_text(who, str(job.id)), key)
    if not job.is_terminal:
        return qpu_job(job, None, key)
    ended = await parts.service.result(who, str(job.id))
    counts = msgspec.json.encode({"counter": ended.counts}).decode() if ended.counts else None
    is_partial = job.state is JobState.CANCELED
    return qpu_job(job, counts if is_partial else None, key, ended.message or None)


async def get_job(parts: Parts, request: Request) -> Response:
    """One job, with its result when DONE and the shots obtained when CANCELED."""
    who = parts.caller(request)
    ask = partial(parts.service.get_job, who, request.path_params["job"])
    job = await parts.waits.hold(request, read_query(request, job_wire.WaitQuery).wait, ask)
    return Json(Jsend(data=await _with_result(parts, who, job)))


async def find_jobs(parts: Parts, request: Request) -> Response:
    """The jobs submitted with a `context.pasqman_job_id`: none, or one."""
    who, key = parts.caller(request), read_query(request, KeyQuery).pasqman_job_id
    if key is None:
        page = await parts.service.list_jobs(who, verbs.JobFilter())
        return Json(Jsend(data=[qpu_job(job, None) for job in page.jobs]))
    jobs = await parts.service.jobs_of_key(who, key)
    return Json(Jsend(data=[await _with_result(parts, who, job, key) for job in jobs]))


async def cancel_job(parts: Parts, request: Request) -> Response:
    """Stop a job; 400 with the vendor's code 3003 when it cannot be canceled any more."""
    who = parts.caller(request)
    done = await parts.service.cancel_job(who, request.path_params["job"])
    if done.before in TERMINAL:
        return _cannot_cancel(done)
    return Json(Jsend(data=await _with_result(parts, who, done.job)))


async def get_program(parts: Parts, request: Request) -> Response:
    """The program of a job."""
    job = await parts.service.get_job(parts.caller(request), request.path_params["program"])
    return Json(Jsend(data=_program(job)))


async def cancel_program(parts: Parts, request: Request) -> Response:
    """Stop the program of a job, as myQLM does at its time-out."""
    done = await parts.service.cancel_job(parts.caller(request), request.path_params["program"])
    if done.before in TERMINAL:
        return _cannot_cancel(done)
    return Json(Jsend(data=_program(done.job)))


def _program(job: Job) -> QpuProgram:
    return QpuProgram(id=job.id, status=_program_state(job.state), job_id=job.id)


def _program_state(state: JobState) -> str:
    return "CREATED" if state is JobState.PENDING else str(state)


def _cannot_cancel(done: verbs.Cancellation) -> Response:
    state = _program_state(done.before)
    message = f"job {done.job.id} is {done.before} and can't be canceled any more"
    refused = CancelRefusal(code=CANNOT_BE_CANCELED, message=message, detail=message, data={"status": state})
    return Json(refused, 400)


def _routes(base: str) -> tuple[Route, ...]:
    route = partial(Route, dialect=Dialect.ONPREM)
    example = QpuJobAsk(pulser_sequence='{"version":"1"}', nb_run=100, context=JobContext(pasqman_job_id="a1b2"))
    one, many, program = Jsend[QpuJob], Jsend[list[QpuJob]], Jsend[QpuProgram]
    up: Any = Jsend[Operational]
    return (
        route(method="GET", path=f"{base}/system/operational", endpoint=operational, reply=up, public=True),
        route(method="GET", path=f"{base}/system", endpoint=system, reply=Jsend[System], public=True),
        route(method="POST", path=f"{base}/jobs", endpoint=submit, body=QpuJobAsk, reply=one, example=example),
        route(method="GET", path=f"{base}/jobs", endpoint=find_jobs, query=KeyQuery, reply=many),
        route(method="GET", path=f"{base}/jobs/{{job}}", endpoint=get_job, query=job_wire.WaitQuery, reply=one),
        route(method="PUT", path=f"{base}/jobs/{{job}}/cancel", endpoint=cancel_job, reply=one),
        route(method="GET", path=f"{base}/programs/{{program}}", endpoint=get_program, reply=program),
        route(method="DELETE", path=f"{base}/programs/{{program}}", endpoint=cancel_program, reply=program),
    )


ROUTES = (*_routes("/api/v1"), *_routes("/api/latest"))
