"""The QRMI/Warden dialect's administration: `/status` and `/accounting…` (CONTRACTS §9). Times are whole seconds."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from qpud.api.parts import Parts
from qpud.api.query import read_query, selected_resource
from qpud.api.reply import Json
from qpud.api.route import Dialect, Route
from qpud.api.wire_terms import moment, seconds
from qpud.core import verbs
from qpud.core.identity import require_admin
from qpud.core.job import JobState
from qpud.core.session import Session


class CurrentJob(msgspec.Struct, frozen=True, kw_only=True):
    """The job that has the resource."""

    id: int
    session_id: str
    user_id: str
    started_at: datetime | None
    backend_id: str


class OpenSession(msgspec.Struct, frozen=True, kw_only=True):
    """One open session."""

    id: str
    user_id: str
    created_at: datetime | None
    slurm_job_id: str | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What the resource does now."""

    pending_jobs_count: int
    current_job: CurrentJob | None
    open_sessions: list[OpenSession]


class Pagination(msgspec.Struct, frozen=True, kw_only=True):
    """Where this page lies among all rows."""

    total: int
    start: int
    end: int


class SessionSums(msgspec.Struct, frozen=True, kw_only=True):
    """Closed sessions of one user."""

    count: int
    total_duration: int


class StatusSums(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of one user in one state."""

    status: JobState
    count: int
    execution_time: int
    wait_time: int
    shots: int


class JobSums(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of one user."""

    count: int
    execution_time: int
    wait_time: int
    shots: int
    per_status: list[StatusSums]


class UserRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one user had."""

    user_id: str
    sessions: SessionSums
    jobs: JobSums


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One closed session."""

    id: str
    user_id: str
    created_at: datetime | None
    revoked_at: datetime | None
    slurm_job_id: str | None
    total_duration: int
    jobs_count: int


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a closed session."""

    id: int
    user_id: str
    session_id: str
    status: JobState
    shots: int
    execution_time: int
    wait_time: int


class UserRows(msgspec.Struct, frozen=True, kw_only=True):
    """A page of users."""

    data: list[UserRow]
    pagination: Pagination


class SessionRows(msgspec.Struct, frozen=True, kw_only=True):
    """A page of sessions."""

    data: list[SessionRow]
    pagination: Pagination


class JobRows(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs."""

    data: list[JobRow]
    pagination: Pagination


class RowsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows; `start_datetime` and `end_datetime` are the older names of `ended_after` and `ended_before`."""

    user_ids: tuple[int, ...] = ()
    ended_after: datetime | None = None
    ended_before: datetime | None = None
    start_datetime: datetime | None = None
    end_datetime: datetime | None = None
    slurm_job_id: str | None = None
    session_id: str | None = None
    status: tuple[JobState, ...] = ()
    limit: Annotated[int, Meta(ge=1, le=100)] = 100
    offset: Annotated[int, Meta(ge=0, le=2**31)] = 0


async def status(parts: Parts, request: Request) -> Response:
    """What the resource does now. Administrators only."""
    who = parts.caller(request)
    require_admin(who, "read the status")
    name = parts.service.resource_name(selected_resource(request))
    queue = await parts.service.queue(who, name)
    sessions = await parts.service.list_sessions(who, verbs.SessionFilter(active=True))
    views = [view for view in await parts.service.resources() if view.name == name]
    return Json(
        Status(
            pending_jobs_count=sum(view.pending for view in views),
            current_job=_current(queue),
            open_sessions=[_open_session(session) for session in sessions],
        )
    )


def _open_session(session: Session) -> OpenSession:
    return OpenSession(
        id=session.id,
        user_id=str(session.user_id),
        created_at=moment(session.opened_at),
        slurm_job_id=session.slurm_job_id,
    )


def _current(queue: list[verbs.QueueEntry]) -> CurrentJob | None:
    running = next((entry.job for entry in queue if entry.job.state is JobState.RUNNING), None)
    if running is None:
        return None
    return CurrentJob(
        id=running.id,
        session_id=running.session_id,
        user_id=str(running.user_id),
        started_at=moment(running.started_at),
        backend_id=running.resource,
    )


async def users(parts: Parts, request: Request) -> Response:
    """Sums per user over closed sessions."""
    which = _filter(request)
    rows, total = await parts.service.account_users(parts.caller(request), which)
    return Json(UserRows(data=[_user_row(row) for row in rows], pagination=_pagination(which, len(rows), total)))


async def sessions(parts: Parts, request: Request) -> Response:
    """Closed sessions."""
    which = _filter(request)
    rows, total = await parts.service.account_sessions(parts.caller(request), which)
    data = [_session_row(row) for row in rows]
    return Json(SessionRows(data=data, pagination=_pagination(which, len(rows), total)))


async def jobs(parts: Parts, request: Request) -> Response:
    """Jobs of closed sessions."""
    which = _filter(request)
    rows, total = await parts.service.account_jobs(parts.caller(request), which)
    return Json(JobRows(data=[_job_row(row) for row in rows], pagination=_pagination(which, len(rows), total)))


def _filter(request: Request) -> verbs.AccountingFilter:
    ask = read_query(request, RowsQuery)
    return verbs.AccountingFilter(
        user_ids=ask.user_ids,
        session_id=ask.session_id,
        slurm_job_id=ask.slurm_job_id,
        states=ask.status,
        ended_after=seconds(ask.ended_after or ask.start_datetime),
        ended_before=seconds(ask.ended_before or ask.end_datetime),
        limit=ask.limit,
        offset=ask.offset,
    )


def _pagination(which: verbs.AccountingFilter, rows: int, total: int) -> Pagination:
    return Pagination(total=total, start=which.offset, end=which.offset + rows)


def _user_row(row: verbs.UserSum) -> UserRow:
    return UserRow(
        user_id=str(row.user_id),
        sessions=SessionSums(count=row.sessions, total_duration=round(row.session_seconds)),
        jobs=JobSums(
            count=sum(state.count for state in row.states),
            execution_time=round(sum(state.execution_seconds for state in row.states)),
            wait_time=round(sum(state.wait_seconds for state in row.states)),
            shots=sum(state.shots for state in row.states),
            per_status=[_status_sums(state) for state in row.states],
        ),
    )


def _status_sums(state: verbs.StateSum) -> StatusSums:
    return StatusSums(
        status=state.state,
        count=state.count,
        execution_time=round(state.execution_seconds),
        wait_time=round(state.wait_seconds),
        shots=state.shots,
    )


def _session_row(row: verbs.SessionSum) -> SessionRow:
    session = row.session
    ended = session.opened_at if session.closed_at is None else session.closed_at
    return SessionRow(
        id=session.id,
        user_id=str(session.user_id),
        created_at=moment(session.opened_at),
        revoked_at=moment(session.closed_at),
        slurm_job_id=session.slurm_job_id,
        total_duration=round(ended - session.opened_at),
        jobs_count=row.jobs,
    )


def _job_row(row: verbs.JobSum) -> JobRow:
    return JobRow(
        id=row.job.id,
        user_id=str(row.job.user_id),
        session_id=row.job.session_id,
        status=row.job.state,
        shots=row.job.shots,
        execution_time=round(row.execution_seconds),
        wait_time=round(row.wait_seconds),
    )


route = partial(Route, dialect=Dialect.QRMI, method="GET", query=RowsQuery)

ROUTES = (
    Route(dialect=Dialect.QRMI, method="GET", path="/status", endpoint=status, reply=Status),
    route(path="/accounting", endpoint=users, reply=UserRows),
    route(path="/accounting/users", endpoint=users, reply=UserRows),
    route(path="/accounting/sessions", endpoint=sessions, reply=SessionRows),
    route(path="/accounting/jobs", endpoint=jobs, reply=JobRows),
)
