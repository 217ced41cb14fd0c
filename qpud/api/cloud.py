"""The cloud dialect, `/core-fast/api/…`: batches. Jobs are in cloud_jobs.py, devices and tokens in cloud_devices.py.

A session token is the Bearer token. What pasqal-cloud, pulser-pasqal, OVH's connection, QRMI's PasqalCloud and CUDA-Q
call is here (CONTRACTS §3, §4, §6); OVH's users ask under a longer prefix for the same.
"""

from __future__ import annotations

import hashlib
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from qpud.api import cloud_views
from qpud.api.bodies import decode, decoder_of
from qpud.api.cloud_names import named_resources, resource_of
from qpud.api.cloud_wire import (
    BatchIds,
    CanceledBatches,
    CanceledJobs,
    CloudBatch,
    CloudBatchAsk,
    CloudBatchQuery,
    CloudJobAsk,
    CloudStatus,
    Counter,
    Envelope,
    Page,
    Pagination,
    SomeJobsQuery,
)
from qpud.api.native import idempotency_key
from qpud.api.parts import Parts
from qpud.api.query import read_query
from qpud.api.reply import Json
from qpud.api.route import Dialect, Route
from qpud.api.wire_terms import Tags, instant
from qpud.core import verbs
from qpud.core.backend_config import shots_of
from qpud.core.errors import Invalid, NotFound, QpudError
from qpud.core.identity import Identity
from qpud.core.job import TERMINAL, Job, JobState
from qpud.core.verbs import JobRequest

REPEAT_SECONDS = 30.0
"""An equal POST so soon after one whose answer was lost is its retry: pasqal-cloud waits at most 16 s between two."""
V1, V2 = "/core-fast/api/v1", "/core-fast/api/v2"
OVH = f"{V1}/third-party-access/ovh"

_batch_ask = decoder_of(CloudBatchAsk)
_job_asks = decoder_of(list[CloudJobAsk])
_ids = decoder_of(BatchIds)
_tags = decoder_of(Tags)


async def create(parts: Parts, request: Request) -> Response:
    """Submit a batch, closed or open for more jobs; an equal one within 30 s of a lost answer is the first."""
    who, body = parts.caller(request), await request.body()
    ask: CloudBatchAsk = decode(_batch_ask, body)
    _check_ask(ask)
    shots = _configured_shots(ask)
    first = ask.sequence_builder or next((job.sequence for job in ask.jobs if job.sequence), None)
    wanted = verbs.OpenBatch(
        jobs=tuple(_job_request(job, shots) for job in ask.jobs),
        is_open=bool(ask.open) if ask.open is not None or ask.complete is None else not ask.complete,
        sequence=ask.sequence_builder,
        resource=await resource_of(parts, request, ask.device_type or ask.emulator, first),
        tags=tuple(ask.tags or ()),
        project=ask.project_id or None,
    )
    key = idempotency_key(request)
    own = f"cloud {hashlib.sha256(request.url.path.encode() + body).hexdigest()}"
    repeat = REPEAT_SECONDS if key is None else None
    view = await parts.service.open_batch(who, parts.session_ref(request), wanted, key or own, repeat)
    answer = await _answer(parts, who, view)
    if not await request.is_disconnected():  # a gateway that gave up has closed its connection
        parts.service.id_was_told(view.batch.id)
    return answer


def _check_ask(ask: CloudBatchAsk) -> None:
    if ask.webhook is not None:
        raise Invalid("a webhook is not possible here, qpud calls nobody: leave it out and ask for the status")


def _configured_shots(ask: CloudBatchAsk) -> int | None:
    if ask.configuration is not None:
        shots_of(msgspec.json.encode(ask.configuration).decode())
    return None if ask.backend_configuration is None else shots_of(ask.backend_configuration)


def _job_request(ask: CloudJobAsk, shots: int | None = None) -> JobRequest:
    runs = ask.runs or shots
    if runs is None:
        raise Invalid("a job needs runs, the number of its shots")
    return JobRequest(sequence=ask.sequence or "", shots=runs, variables=ask.variables or {})


async def add_jobs(parts: Parts, request: Request) -> Response:
    """Add jobs to an open batch."""
    who, asks = parts.caller(request), decode(_job_asks, await request.body())
    jobs = [_job_request(ask) for ask in asks]
    view = await parts.service.add_jobs(who, request.path_params["batch"], jobs, idempotency_key(request))
    return await _answer(parts, who, view)


async def get_batch(parts: Parts, request: Request) -> Response:
    """One batch with its jobs, oldest first."""
    who = parts.caller(request)
    return await _answer(parts, who, await parts.service.get_batch(who, request.path_params["batch"]))


async def complete(parts: Parts, request: Request) -> Response:
    """Close a batch to more jobs; completing twice changes nothing."""
    who = parts.caller(request)
    return await _answer(parts, who, await parts.service.complete_batch(who, request.path_params["batch"]))


async def cancel(parts: Parts, request: Request) -> Response:
    """Close a batch and stop its unfinished jobs; one that is over stays as it is."""
    who = parts.caller(request)
    return await _answer(parts, who, await parts.service.cancel_batch(who, request.path_params["batch"]))


async def set_tags(parts: Parts, request: Request) -> Response:
    """Give a batch other tags."""
    who, tags = parts.caller(request), decode(_tags, await request.body())
    return await _answer(parts, who, await parts.service.tag_batch(who, request.path_params["batch"], tuple(tags)))


async def _answer(parts: Parts, who: Identity, view: verbs.BatchView) -> Response:
    return Json(Envelope(data=await cloud_views.batch_view(parts, who, view)))


async def get_status(parts: Parts, request: Request) -> Response:
    """The state of a batch and of its jobs: what clients poll."""
    view = await parts.service.get_batch(parts.caller(request), request.path_params["batch"])
    return Json(Envelope(data=cloud_views.status_view(view)))


async def full_results(parts: Parts, request: Request) -> Response:
    """The counts of those jobs of a batch that are DONE, by job id."""
    who = parts.caller(request)
    view = await parts.service.get_batch(who, request.path_params["batch"])
    return Json(Envelope(data=await counts_of(parts, who, view.jobs)))


async def counts_of(parts: Parts, who: Identity, jobs: list[Job]) -> dict[str, msgspec.Raw]:
    """`{"counter": …}` by job id, of those jobs that are DONE; of payloads what they gave."""
    done = [job for job in jobs if job.state is JobState.DONE]
    texts = {job.uid: (await parts.service.results_text(who, job.uid))[1] for job in done}
    return {uid: msgspec.Raw(cloud_views.result_json(text)) for uid, text in texts.items() if text is not None}


async def list_batches(parts: Parts, request: Request) -> Response:
    """The caller's batches, newest first, in pages, without their jobs."""
    who, ask = parts.caller(request), read_query(request, CloudBatchQuery)
    policy = parts.service.policy
    named = [resource for name in ask.device_type for resource in named_resources(policy, name) or [name]]
    which = verbs.BatchFilter(
        user_id=user_of(parts, ask.user_id),
        ids=ask.id,
        is_open=ask.open,
        states=ask.status,
        resources=tuple(named),
        projects=ask.project_id,
        tag=ask.tag,
        after=instant(ask.start_date),
        before=instant(ask.end_date),
        limit=ask.limit,
        offset=ask.offset,
    )
    page = await parts.service.list_batches(who, which)
    project = await cloud_views.project_of(parts, who, who.session_id)
    lines = [cloud_views.batch_line(parts, view, project) for view in page.batches]
    return Json(Page(data=lines, pagination=Pagination(page.total, ask.offset, ask.offset + len(lines))))


def user_of(parts: Parts, asked: tuple[str, ...]) -> int | None:
    """The uid in a filter by users. Raises: NotFound, Invalid: An unknown one, or several."""
    if len(asked) > 1:
        raise Invalid("a filter by several users is not possible: name one")
    return parts.user_id(asked[0]) if asked else None


async def cancel_many(parts: Parts, request: Request) -> Response:
    """Cancel several batches; tells why some were not."""
    who, ask = parts.caller(request), decode(_ids, await request.body())
    done: list[CloudBatch] = []
    errors: dict[str, str] = {}
    for one in dict.fromkeys(ask.batch_ids):
        try:
            view = await _cancel_unless_over(parts, who, one)
        except QpudError as refusal:
            errors[one] = refusal.message
        else:
            done.append(await cloud_views.batch_view(parts, who, view))
    return Json(Envelope(data=CanceledBatches(done, errors)))


async def _cancel_unless_over(parts: Parts, who: Identity, ref: str) -> verbs.BatchView:
    view = await parts.service.get_batch(who, ref)
    if view.state in TERMINAL:
        raise Invalid(f"batch {ref} is {view.state} and cannot be canceled")
    return await parts.service.cancel_batch(who, ref)


async def cancel_jobs(parts: Parts, request: Request) -> Response:
    """Cancel those jobs of a batch that a filter selects; tells why some were not."""
    who = parts.caller(request)
    view, jobs = await _selected(parts, who, request)
    errors = {job.uid: f"job {job.id} is {job.state} and cannot be canceled" for job in jobs if job.is_terminal}
    done = [(await parts.service.cancel_job(who, job.uid)).job for job in jobs if not job.is_terminal]
    project = view.batch.project or await cloud_views.project_of(parts, who, view.batch.session_id)
    return Json(Envelope(data=CanceledJobs(await cloud_views.job_views(parts, done, project), errors)))


async def rebatch(parts: Parts, request: Request) -> Response:
    """Submit those jobs of a batch that a filter selects once more, as a new closed batch."""
    who = parts.caller(request)
    view, jobs = await _selected(parts, who, request)
    if not jobs:
        raise Invalid(f"no job of batch {view.batch.id} fits the filter: there is nothing to submit again")
    texts = await parts.service.sequence_texts([view.batch.sequence_hash or "", *(job.sequence_hash for job in jobs)])
    variables, _ = await parts.service.job_details(jobs)
    if gone := [job for job in jobs if job.sequence_hash not in texts]:  # purged since they were selected
        raise NotFound(f"job {gone[0].uid} does not exist")
    wanted = verbs.OpenBatch(
        jobs=tuple(
            JobRequest(sequence=texts[job.sequence_hash], shots=job.shots, variables=variables.get(job.id, {}))
            for job in jobs
        ),
        sequence=texts.get(view.batch.sequence_hash or ""),
        resource=view.batch.resource,
        name=view.batch.name,
        tags=view.batch.tags,
        project=view.batch.project,
    )
    key = idempotency_key(request)
    return await _answer(parts, who, await parts.service.open_batch(who, parts.session_ref(request), wanted, key))


async def _selected(parts: Parts, who: Identity, request: Request) -> tuple[verbs.BatchView, list[Job]]:
    """A batch and those of its jobs that the query string selects."""
    ask = read_query(request, SomeJobsQuery)
    view = await parts.service.get_batch(who, request.path_params["batch"])
    after, before = instant(ask.start_date), instant(ask.end_date)
    return view, [
        job
        for job in view.jobs
        if (not ask.id or job.uid in ask.id)
        and (not ask.status or job.state in ask.status)
        and (ask.min_runs or 0) <= job.shots <= (job.shots if ask.max_runs is None else ask.max_runs)
        and (after or 0.0) <= job.submitted_at <= (before or job.submitted_at)
    ]


route = partial(Route, dialect=Dialect.CLOUD)
EXAMPLE = CloudBatchAsk(sequence_builder='{"version":"1"}', jobs=[CloudJobAsk(runs=500)], device_type="FRESNEL")
Whole = Envelope[CloudBatch]

ROUTES = (
    *(
        route(
            method="POST",
            path=f"{base}/batches",
            endpoint=create,
            keyed=True,
            body=CloudBatchAsk,
            reply=Whole,
            example=EXAMPLE,
        )
        for base in (V1, OVH)
    ),
    route(method="GET", path=f"{V1}/batches", endpoint=list_batches, query=CloudBatchQuery, reply=Page[CloudBatch]),
    *(route(method="GET", path=f"{base}/batches/{{batch}}", endpoint=get_batch, reply=Whole) for base in (V2, OVH)),
    *(
        route(method="GET", path=f"{base}/batches/{{batch}}/status", endpoint=get_status, reply=Envelope[CloudStatus])
        for base in (V1, OVH)
    ),
    route(
        method="GET",
        path=f"{V1}/batches/{{batch}}/full_results",
        endpoint=full_results,
        reply=Envelope[dict[str, Counter]],
    ),
    route(
        method="POST",
        path=f"{V2}/batches/{{batch}}/jobs",
        endpoint=add_jobs,
        keyed=True,
        body=list[CloudJobAsk],
        reply=Whole,
        example=[CloudJobAsk(runs=100)],
    ),
    route(method="PATCH", path=f"{V2}/batches/{{batch}}/complete", endpoint=complete, reply=Whole),
    route(method="PATCH", path=f"{V2}/batches/{{batch}}/cancel", endpoint=cancel, reply=Whole),
    route(
        method="PATCH",
        path=f"{V1}/batches/{{batch}}/tags",
        endpoint=set_tags,
        body=Tags,
        reply=Whole,
        example=["paper"],
    ),
    route(
        method="PATCH",
        path=f"{V1}/batches/cancel",
        endpoint=cancel_many,
        body=BatchIds,
        reply=Envelope[CanceledBatches],
        example=BatchIds(["7c9e6679-7425-40de-944b-e07fc1f90ae7"]),
    ),
    route(
        method="PATCH",
        path=f"{V2}/batches/{{batch}}/cancel/jobs",
        endpoint=cancel_jobs,
        query=SomeJobsQuery,
        reply=Envelope[CanceledJobs],
    ),
    route(
        method="POST",
        path=f"{V1}/batches/{{batch}}/rebatch",
        endpoint=rebatch,
        keyed=True,
        query=SomeJobsQuery,
        reply=Whole,
    ),
)
