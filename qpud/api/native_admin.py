"""The native dialect, `/v1/…`: queue, resources, accounting and administration."""

from __future__ import annotations

from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from qpud import __version__
from qpud.api import job_wire, sums, views, wire
from qpud.api.bodies import decode, decoder_of, optional
from qpud.api.parts import Parts
from qpud.api.query import read_query, selected_resource
from qpud.api.reply import Json
from qpud.api.route import Dialect, Route
from qpud.api.wire_terms import instant, seconds
from qpud.core import report, verbs

_drain_ask = decoder_of(wire.DrainAsk)
_degrade_ask = decoder_of(wire.DegradeAsk)
_reservation_ask = decoder_of(wire.ReservationAsk)


async def show_queue(parts: Parts, request: Request) -> Response:
    """Unfinished jobs in the order in which the scheduler would take them, each with its reason in words."""
    who, _ = parts.caller(request), read_query(request, wire.ResourceQuery)
    entries = await parts.service.queue(who, selected_resource(request))
    return Json(job_wire.QueueView(queue=[views.queue_line(entry) for entry in entries]))


async def show_shares(parts: Parts, request: Request) -> Response:
    """Shares entitled and served, live: accounts, users and sessions in each tier of each resource."""
    who, _ = parts.caller(request), read_query(request, wire.ResourceQuery)
    found = await parts.service.shares(who, selected_resource(request))
    daemon = parts.service.policy.daemon
    lines = [sums.ShareLine(**msgspec.structs.asdict(share)) for share in found]
    return Json(
        sums.SharesView(scheduler_type=daemon.scheduler_type, fair_share_by=daemon.fair_share_by, shares=lines)
    )


async def list_resources(parts: Parts, request: Request) -> Response:
    """All resources with their state."""
    parts.caller(request)
    lines = [views.resource_line(view) for view in await parts.service.resources()]
    return Json(wire.ResourceList(resources=lines, default=parts.service.policy.default_resource))


async def show_spec(parts: Parts, request: Request) -> Response:
    """The current device spec of a resource."""
    parts.caller(request)
    spec = await parts.service.spec(request.path_params["name"], parts.session_ref(request))
    return Json(
        wire.SpecView(
            name=spec.name,
            hash=spec.hash,
            max_runs=spec.max_runs,
            accepts_virtual=spec.accepts_virtual,
            spec=msgspec.Raw(spec.text.encode()),
        )
    )


async def drain(parts: Parts, request: Request) -> Response:
    """Start nothing more on the resource, across restarts too; the slice in flight ends. Administrators only."""
    who = parts.caller(request)
    ask: wire.DrainAsk = optional(_drain_ask, await request.body(), wire.DrainAsk())
    return Json(views.resource_line(await parts.service.drain(who, request.path_params["name"], ask.reason)))


async def down(parts: Parts, request: Request) -> Response:
    """Take the resource out of service, across restarts too; the slice in flight is cut. Administrators only."""
    who = parts.caller(request)
    ask: wire.DrainAsk = optional(_drain_ask, await request.body(), wire.DrainAsk())
    return Json(views.resource_line(await parts.service.down(who, request.path_params["name"], ask.reason)))


async def degrade(parts: Parts, request: Request) -> Response:
    """Let Slurm give out some of the resource's units no more, across restarts too. Administrators only."""
    who, ask = parts.caller(request), decode(_degrade_ask, await request.body())
    return Json(
        views.resource_line(await parts.service.degrade(who, request.path_params["name"], ask.units, ask.reason))
    )


async def resume(parts: Parts, request: Request) -> Response:
    """Undo drain, down and degrade. Administrators only."""
    return Json(views.resource_line(await parts.service.resume(parts.caller(request), request.path_params["name"])))


async def list_reservations(parts: Parts, request: Request) -> Response:
    """All reservations that are not over, the earliest first."""
    parts.caller(request)
    lines = [views.reservation_view(one) for one in await parts.service.reservations()]
    return Json(wire.ReservationList(reservations=lines))


async def reserve(parts: Parts, request: Request) -> Response:
    """Reserve a resource for a window of time. Administrators only."""
    who, ask = parts.caller(request), decode(_reservation_ask, await request.body())
    made = await parts.service.reserve(
        who,
        verbs.Reserve(
            name=ask.name,
            resource=ask.resource or selected_resource(request),
            starts_at=seconds(ask.starts_at),
            duration_seconds=ask.duration_seconds,
            accounts=tuple(ask.accounts),
            users=tuple(_known_user(parts, user) for user in ask.users),
            duty=ask.duty,
        ),
    )
    return Json(views.reservation_view(made), 201)


def _known_user(parts: Parts, user: str | int) -> str:
    """The user's name, as sessions have it. Raises: NotFound."""
    return parts.user_name(parts.user_id(user) or 0)


async def unreserve(parts: Parts, request: Request) -> Response:
    """Delete a reservation, also one that is active. Administrators only."""
    gone = await parts.service.unreserve(parts.caller(request), request.path_params["name"])
    return Json(views.reservation_view(gone))


async def info(parts: Parts, request: Request) -> Response:
    """What this daemon is: version, queues with tier and limits, resources."""
    parts.caller(request)
    policy = parts.service.policy
    return Json(
        wire.Info(
            version=__version__,
            api_versions=["v1"],
            urls=views.urls(parts.service.urls),
            default_queue=policy.default_queue,
            default_resource=policy.default_resource,
            max_body_size=policy.daemon.max_body_size,
            queues=[views.queue_policy_line(queue) for queue in policy.queues.values()],
            resources=[views.resource_line(view) for view in await parts.service.resources()],
            slurm=parts.service.slurm_trouble() or None,
        )
    )


async def reconfigure(parts: Parts, request: Request) -> Response:
    """Reload the policy file whole, or refuse it whole with the reason. Administrators only."""
    return Json(wire.Reconfigured(warnings=await parts.service.reconfigure(parts.caller(request))))


async def account_users(parts: Parts, request: Request) -> Response:
    """Sums per user over closed sessions."""
    rows, total = await parts.service.account_users(parts.caller(request), _accounting(parts, request))
    return Json(sums.UserPage(users=[views.user_line(row, parts.user_name) for row in rows], total=total))


async def account_sessions(parts: Parts, request: Request) -> Response:
    """Closed sessions with the number of their jobs."""
    rows, total = await parts.service.account_sessions(parts.caller(request), _accounting(parts, request))
    idle_timeout = parts.service.policy.daemon.session_idle_timeout
    lines = [sums.SessionSumLine(session=views.session_view(row.session, idle_timeout), jobs=row.jobs) for row in rows]
    return Json(sums.SessionSumPage(sessions=lines, total=total))


async def account_jobs(parts: Parts, request: Request) -> Response:
    """Jobs of closed sessions with their times."""
    rows, total = await parts.service.account_jobs(parts.caller(request), _accounting(parts, request))
    lines = [
        sums.JobSumLine(
            job=views.job_view(row.job, parts.user_name),
            execution_seconds=row.execution_seconds,
            wait_seconds=row.wait_seconds,
        )
        for row in rows
    ]
    return Json(sums.JobSumPage(jobs=lines, total=total))


async def account_report(parts: Parts, request: Request) -> Response:
    """What slices used, from the ledger: charges by day, user, account, Slurm job, session, job, queue, resource."""
    who, which = parts.caller(request), _report_filter(parts, request)
    found = await parts.service.account_report(who, which)
    drivers = {name: str(resource.driver) for name, resource in parts.service.policy.resources.items()}
    return Json(views.report_page(which, found, parts.user_name, drivers))


def _report_filter(parts: Parts, request: Request) -> report.ReportFilter:
    ask, selected = read_query(request, sums.ReportQuery), selected_resource(request)
    return report.ReportFilter(
        by=report.groups(ask.by) or report.DEFAULT_GROUPS,
        user_ids=parts.user_ids(ask.user),
        accounts=ask.account,
        queues=ask.queue,
        resources=ask.resource or ((selected,) if selected else ()),
        sessions=ask.session,
        slurm_jobs=ask.slurm_job,
        start=instant(ask.start),
        end=instant(ask.end),
        limit=ask.limit,
        offset=ask.offset,
    )


def _accounting(parts: Parts, request: Request) -> verbs.AccountingFilter:
    ask = read_query(request, sums.AccountingQuery)
    return verbs.AccountingFilter(
        user_ids=parts.user_ids(ask.user),
        session_id=ask.session,
        slurm_job_id=ask.slurm_job_id,
        states=ask.state,
        ended_after=seconds(ask.ended_after),
        ended_before=seconds(ask.ended_before),
        limit=ask.limit,
        offset=ask.offset,
    )


route = partial(Route, dialect=Dialect.NATIVE)

ROUTES = (
    route(method="GET", path="/v1/queue", endpoint=show_queue, query=wire.ResourceQuery, reply=job_wire.QueueView),
    route(
        method="GET",
        path="/v1/shares",
        endpoint=show_shares,
        query=wire.ResourceQuery,
        reply=sums.SharesView,
    ),
    route(method="GET", path="/v1/resources", endpoint=list_resources, reply=wire.ResourceList),
    route(method="GET", path="/v1/resources/{name}/spec", endpoint=show_spec, reply=wire.SpecView),
    route(
        method="POST",
        path="/v1/resources/{name}/drain",
        endpoint=drain,
        body=wire.DrainAsk,
        reply=wire.ResourceLine,
        example=wire.DrainAsk(reason="laser alignment until 14:00"),
    ),
    route(
        method="POST",
        path="/v1/resources/{name}/down",
        endpoint=down,
        body=wire.DrainAsk,
        reply=wire.ResourceLine,
        example=wire.DrainAsk(reason="vacuum is gone"),
    ),
    route(
        method="POST",
        path="/v1/resources/{name}/degrade",
        endpoint=degrade,
        body=wire.DegradeAsk,
        reply=wire.ResourceLine,
        example=wire.DegradeAsk(units=4, reason="two lasers of five"),
    ),
    route(method="POST", path="/v1/resources/{name}/resume", endpoint=resume, reply=wire.ResourceLine),
    route(method="GET", path="/v1/reservations", endpoint=list_reservations, reply=wire.ReservationList),
    route(
        method="POST",
        path="/v1/reservations",
        endpoint=reserve,
        body=wire.ReservationAsk,
        reply=wire.ReservationView,
        status=201,
        example=wire.ReservationAsk(name="qa-monday", resource="FRESNEL", duration_seconds=3600.0, duty="qa"),
    ),
    route(method="DELETE", path="/v1/reservations/{name}", endpoint=unreserve, reply=wire.ReservationView),
    route(method="GET", path="/v1/info", endpoint=info, reply=wire.Info),
    route(method="POST", path="/v1/reconfigure", endpoint=reconfigure, reply=wire.Reconfigured),
    route(
        method="GET",
        path="/v1/accounting/users",
        endpoint=account_users,
        query=sums.AccountingQuery,
        reply=sums.UserPage,
    ),
    route(
        method="GET",
        path="/v1/accounting/sessions",
        endpoint=account_sessions,
        query=sums.AccountingQuery,
        reply=sums.SessionSumPage,
    ),
    route(
        method="GET",
        path="/v1/accounting/jobs",
        endpoint=account_jobs,
        query=sums.AccountingQuery,
        reply=sums.JobSumPage,
    ),
    route(
        method="GET",
        path="/v1/accounting/report",
        endpoint=account_report,
        query=sums.ReportQuery,
        reply=sums.ReportPage,
    ),
)
