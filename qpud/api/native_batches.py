"""The native dialect, `/v1/batches`: batches open and closed, jobs added, completed, canceled."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from qpud.api import views
from qpud.api.batch_wire import BatchAsk, BatchJobAsk, BatchList, BatchQuery, BatchView
from qpud.api.bodies import decode, decoder_of
from qpud.api.native import idempotency_key
from qpud.api.parts import Parts
from qpud.api.query import read_query, selected_resource
from qpud.api.reply import Json
from qpud.api.route import Dialect, Route
from qpud.api.wire_terms import moment
from qpud.core import verbs
from qpud.core.batch import idle_deadline
from qpud.core.verbs import JobRequest

_batch_ask = decoder_of(BatchAsk)
_job_asks = decoder_of(list[BatchJobAsk])


async def open_batch(parts: Parts, request: Request) -> Response:
    """Open a batch, with or without jobs, durably; `open: false` closes it at once. The session as for a job."""
    who, ask = parts.caller(request), decode(_batch_ask, await request.body())
    wanted = verbs.OpenBatch(
        jobs=tuple(_job_request(job) for job in ask.jobs or ()),
        is_open=ask.open,
        sequence=ask.sequence,
        resource=ask.resource or selected_resource(request),
        name=ask.name,
        tags=tuple(ask.tags or ()),
    )
    view = await parts.service.open_batch(who, parts.session_ref(request), wanted, idempotency_key(request))
    return Json(_shown(parts, view), 201)


async def add_jobs(parts: Parts, request: Request) -> Response:
    """Add jobs to an open batch, durably; 409 when it is closed."""
    who, asks = parts.caller(request), decode(_job_asks, await request.body())
    jobs = [_job_request(ask) for ask in asks]
    view = await parts.service.add_jobs(who, request.path_params["batch"], jobs, idempotency_key(request))
    return Json(_shown(parts, view), 201)


async def complete(parts: Parts, request: Request) -> Response:
    """Close a batch to more jobs; completing twice changes nothing."""
    return Json(_shown(parts, await parts.service.complete_batch(parts.caller(request), request.path_params["batch"])))


async def cancel(parts: Parts, request: Request) -> Response:
    """Close a batch and stop its unfinished jobs; those that have ended stay as they are."""
    return Json(_shown(parts, await parts.service.cancel_batch(parts.caller(request), request.path_params["batch"])))


async def get_batch(parts: Parts, request: Request) -> Response:
    """One batch with its jobs, oldest first."""
    return Json(_shown(parts, await parts.service.get_batch(parts.caller(request), request.path_params["batch"])))


async def list_batches(parts: Parts, request: Request) -> Response:
    """The caller's batches, newest first, in pages; everybody's for an administrator."""
    who, ask = parts.caller(request), read_query(request, BatchQuery)
    selected = selected_resource(request)
    which = verbs.BatchFilter(
        is_open=ask.open,
        states=ask.state,
        resources=() if selected is None else (selected,),
        tag=ask.tag,
        limit=ask.limit,
        offset=ask.offset,
    )
    page = await parts.service.list_batches(who, which)
    return Json(BatchList(batches=[_shown(parts, view) for view in page.batches], total=page.total))


def _shown(parts: Parts, view: verbs.BatchView) -> BatchView:
    batch, timeout = view.batch, parts.service.policy.daemon.batch_idle_timeout
    return BatchView(
        id=batch.id,
        open=batch.is_open,
        state=view.state,
        resource=batch.resource,
        name=batch.name,
        tags=list(batch.tags),
        session_id=batch.session_id,
        created_at=moment(batch.opened_at),
        idle_expires_at=idle_deadline(batch, timeout) if batch.is_open else None,
        closed_at=moment(batch.closed_at),
        close_reason=batch.close_reason,
        jobs=[views.job_view(job, parts.user_name, parts.service.forecast(job)) for job in view.jobs],
    )


def _job_request(ask: BatchJobAsk) -> JobRequest:
    return JobRequest(
        sequence=ask.sequence or "",
        shots=ask.shots,
        variables=ask.variables or {},
        name=ask.name,
        tags=tuple(ask.tags or ()),
    )


route = partial(Route, dialect=Dialect.NATIVE)

ROUTES = (
    route(
        method="POST",
        path="/v1/batches",
        endpoint=open_batch,
        keyed=True,
        body=BatchAsk,
        reply=BatchView,
        status=201,
        example=BatchAsk(sequence='{"version":"1"}', jobs=[BatchJobAsk(shots=500)]),
    ),
    route(method="GET", path="/v1/batches", endpoint=list_batches, query=BatchQuery, reply=BatchList),
    route(method="GET", path="/v1/batches/{batch}", endpoint=get_batch, reply=BatchView),
    route(
        method="POST",
        path="/v1/batches/{batch}/jobs",
        endpoint=add_jobs,
        keyed=True,
        body=list[BatchJobAsk],
        reply=BatchView,
        status=201,
        example=[BatchJobAsk(shots=100, variables={"detuning": [-30.0, 22.0]})],
    ),
    route(method="POST", path="/v1/batches/{batch}/complete", endpoint=complete, reply=BatchView),
    route(method="POST", path="/v1/batches/{batch}/cancel", endpoint=cancel, reply=BatchView),
)
