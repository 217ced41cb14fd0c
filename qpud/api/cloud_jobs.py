"""The cloud dialect's jobs: look, cancel, results; CUDA-Q's AHS jobs; and what the dialect does not have."""

from __future__ import annotations

from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from qpud.api import cloud_views
from qpud.api.bodies import decode, decoder_of
from qpud.api.cloud import OVH, V1, V2, counts_of, user_of
from qpud.api.cloud_names import resource_of
from qpud.api.cloud_wire import (
    CloudJob,
    CloudJobQuery,
    CloudStatus,
    Counter,
    CudaqAsk,
    CudaqId,
    CudaqJob,
    Envelope,
    LinkQuery,
    Page,
    Pagination,
    ResultsLink,
)
from qpud.api.errors import JsendError
from qpud.api.links import PATH
from qpud.api.native import idempotency_key
from qpud.api.parts import Parts
from qpud.api.query import read_query
from qpud.api.reply import Json
from qpud.api.route import Dialect, Route
from qpud.api.wire_terms import instant
from qpud.core import verbs
from qpud.core.errors import BadRequest, Invalid, NotFound
from qpud.core.identity import Identity, Proof
from qpud.core.ids import job_id_of
from qpud.core.job import Job, JobState
from qpud.core.verbs import JobRequest

_cudaq_ask = decoder_of(CudaqAsk)
_counter = decoder_of(Counter)


async def list_jobs(parts: Parts, request: Request) -> Response:
    """The caller's jobs, in pages, without their sequences."""
    who, ask = parts.caller(request), read_query(request, CloudJobQuery)
    which = verbs.JobSearch(
        user_id=user_of(parts, ask.user_id),
        ids=tuple(job_id_of(one) or 0 for one in ask.id),
        batch_ids=ask.batch_id,
        states=ask.status,
        projects=ask.project_id,
        least_shots=ask.min_runs,
        most_shots=ask.max_runs,
        failed=ask.errors,
        after=instant(ask.start_date),
        before=instant(ask.end_date),
        oldest_first=ask.order_by_direction.upper() == "ASC",
        limit=ask.limit,
        offset=ask.offset,
    )
    jobs, total = await parts.service.search_jobs(who, which)
    found = await cloud_views.job_views(parts, jobs, await cloud_views.project_of(parts, who, who.session_id))
    return Json(Page(data=found, pagination=Pagination(total, ask.offset, ask.offset + len(found))))


async def get_job(parts: Parts, request: Request) -> Response:
    """One job, with its sequence where that is its own."""
    who = parts.caller(request)
    job = await parts.service.get_job(who, request.path_params["job"])
    return Json(Envelope(data=await _whole(parts, who, job)))


async def cancel_job(parts: Parts, request: Request) -> Response:
    """Stop a job; one that has ended stays as it is."""
    who = parts.caller(request)
    job = (await parts.service.cancel_job(who, request.path_params["job"])).job
    return Json(Envelope(data=await _whole(parts, who, job)))


async def _whole(parts: Parts, who: Identity, job: Job) -> CloudJob:
    batch = (await parts.service.get_batch(who, job.batch_id or job.uid)).batch
    project = batch.project or await cloud_views.project_of(parts, who, job.session_id)
    texts = await parts.service.sequence_texts([job.sequence_hash])
    own = None if job.sequence_hash == batch.sequence_hash else texts.get(job.sequence_hash)
    return (await cloud_views.job_views(parts, [job], project, {job.sequence_hash: own}))[0]


async def get_status(parts: Parts, request: Request) -> Response:
    """The state of a job."""
    job = await parts.service.get_job(parts.caller(request), request.path_params["job"])
    return Json(Envelope(data=CloudStatus(id=job.uid, status=job.state)))


async def results_link(parts: Parts, request: Request) -> Response:
    """Where a job's counts are, by a URL that needs no credential for an hour; null until it is DONE."""
    job = await parts.service.get_job(parts.caller(request), request.path_params["job"])
    link = parts.links.to(request, job.uid, job.user_id, parts.clock()) if job.state is JobState.DONE else None
    return Json(Envelope(data=ResultsLink(link)))


async def results(parts: Parts, request: Request) -> Response:
    """The counts of a job, to whoever has the link."""
    ask, uid = read_query(request, LinkQuery), request.path_params["job"]
    owner = parts.links.owner(uid, ask.user, ask.expires, ask.signature, parts.clock())
    who = Identity(user_id=owner, user=parts.user_name(owner), proof=Proof.TOKEN)
    _job, text = await parts.service.results_text(who, uid)
    if text is None:
        raise NotFound(f"job {uid} has no results")
    return Response(cloud_views.result_json(text), media_type="application/json")


async def submit_cudaq(parts: Parts, request: Request) -> Response:
    """Submit an AHS program, as a batch of one job with the same id."""
    who, ask = parts.caller(request), decode(_cudaq_ask, await request.body())
    text = _text(ask.sequence)
    wanted = verbs.OpenBatch(
        jobs=(JobRequest(sequence="", shots=ask.shots),),
        sequence=text,
        resource=await resource_of(parts, request, ask.machine, None),
        project=ask.project_id or None,
    )
    view = await parts.service.open_batch(who, parts.session_ref(request), wanted, idempotency_key(request))
    return Json(Envelope(data=CudaqId(view.batch.id)))


def _text(raw: msgspec.Raw) -> str:
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError:
        raise BadRequest("the body is not UTF-8") from None


async def get_cudaq(parts: Parts, request: Request) -> Response:
    """An AHS job, with its counts once it is DONE."""
    who = parts.caller(request)
    view = await parts.service.get_batch(who, request.path_params["batch"])
    found = await counts_of(parts, who, view.jobs)
    counts = {uid: counter for uid, raw in found.items() if (counter := _counter_in(raw)) is not None}
    return Json(Envelope(data=CudaqJob(id=view.batch.id, status=view.state, result=counts or None)))


def _counter_in(raw: msgspec.Raw) -> dict[str, int] | None:
    """The counts in a result; None if it is a payload's, which has none."""
    try:
        found: Counter = _counter.decode(raw)
    except msgspec.ValidationError:
        return None
    return found.counter


async def no_workloads(parts: Parts, request: Request) -> Response:
    """Workloads are not offered: they are programs that the vendor's own machines run."""
    parts.caller(request)
    raise Invalid("workloads are not possible here: submit a batch of sequences")


route = partial(Route, dialect=Dialect.CLOUD)

ROUTES = (
    *(
        route(method="GET", path=f"{base}/jobs", endpoint=list_jobs, query=CloudJobQuery, reply=Page[CloudJob])
        for base in (V2, OVH)
    ),
    route(method="GET", path=f"{V2}/jobs/{{job}}", endpoint=get_job, reply=Envelope[CloudJob]),
    route(method="PATCH", path=f"{V2}/jobs/{{job}}/cancel", endpoint=cancel_job, reply=Envelope[CloudJob]),
    *(
        route(method="GET", path=f"{base}/jobs/{{job}}/status", endpoint=get_status, reply=Envelope[CloudStatus])
        for base in (V1, OVH)
    ),
    *(
        route(
            method="GET", path=f"{base}/jobs/{{job}}/results_link", endpoint=results_link, reply=Envelope[ResultsLink]
        )
        for base in (V1, OVH)
    ),
    route(method="GET", path=PATH, endpoint=results, query=LinkQuery, reply=Counter, public=True),
    route(
        method="POST",
        path=f"{V1}/cudaq/job",
        endpoint=submit_cudaq,
        keyed=True,
        body=CudaqAsk,
        reply=Envelope[CudaqId],
        example=CudaqAsk(machine="FRESNEL", shots=100, sequence=msgspec.Raw(b'{"setup":{},"hamiltonian":{}}')),
    ),
    route(method="GET", path=f"{V1}/cudaq/job/{{batch}}", endpoint=get_cudaq, reply=Envelope[CudaqJob]),
    route(method="POST", path=f"{V1}/workloads", endpoint=no_workloads, reply=JsendError),
    route(method="GET", path=f"{V2}/workloads/{{workload}}", endpoint=no_workloads, reply=JsendError),
    route(method="PUT", path=f"{V1}/workloads/{{workload}}/cancel", endpoint=no_workloads, reply=JsendError),
)
