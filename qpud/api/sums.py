"""The native dialect's wire types of accounting and shares; see wire.py for what holds of all."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from qpud.api.job_wire import JobView
from qpud.api.wire import SessionView
from qpud.api.wire_terms import Day
from qpud.core.job import JobState
from qpud.core.report import DEFAULT_ROWS, MOST_ROWS, Group


class StateLine(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over jobs in one state."""

    state: JobState
    count: int
    execution_seconds: float
    wait_seconds: float
    shots: int


class UserLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one user had: closed sessions and their jobs."""

    user: str
    user_id: int
    sessions: int
    session_seconds: float
    states: list[StateLine]


class UserPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some users of `total`."""

    users: list[UserLine]
    total: int


class SessionSumLine(msgspec.Struct, frozen=True, kw_only=True):
    """A closed session with the number of its jobs."""

    session: SessionView
    jobs: int


class SessionSumPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some closed sessions of `total`."""

    sessions: list[SessionSumLine]
    total: int


class JobSumLine(msgspec.Struct, frozen=True, kw_only=True):
    """A job of a closed session with its times."""

    job: JobView
    execution_seconds: float
    wait_seconds: float


class JobSumPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some jobs of closed sessions, of `total`."""

    jobs: list[JobSumLine]
    total: int


class ReportLine(msgspec.Struct, frozen=True, kw_only=True):
    """One group of slices; what the report is not grouped by is absent. `resource_type` is the driver, now.

    A job that ran in several rows counts in each, with its wait from submission to first slice. `submitted_at` is of
    the first job, `started_at` of the first slice, `ended_at` of the last. What is wasted was thrown away when a slice
    was cut, and is charged to nobody.
    """

    day: date | UnsetType = UNSET
    user: str | UnsetType = UNSET
    user_id: int | UnsetType = UNSET
    account: str | UnsetType | None = UNSET
    slurm_job: str | UnsetType | None = UNSET
    session: str | UnsetType = UNSET
    job: int | UnsetType = UNSET
    queue: str | UnsetType = UNSET
    resource: str | UnsetType = UNSET
    resource_type: str | UnsetType | None = UNSET
    jobs: int
    slices: int
    shots: int
    qpu_seconds: float
    setup_seconds: float
    wasted_shots: int
    wasted_seconds: float
    wait_seconds: float
    submitted_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None


class ReportPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some rows in the order of `by`, and the sums over all pages; `next` is the offset of the next page."""

    by: list[Group]
    start: datetime | None
    end: datetime | None
    rows: list[ReportLine]
    total: ReportLine
    next: int | None


class ShareLine(msgspec.Struct, frozen=True, kw_only=True):
    """One contender: an account, a user or a session, of one tier of a resource. Parts go from 0 to 1.

    `entitled` is due now, among those of the tier that have work; `served` is the part of what the tier was served
    since the daemon started, `served_seconds` in QPU seconds. `owed_seconds` is what it is behind its due, negative:
    ahead. `usage_seconds` is decayed; sessions have none. Others' sessions show no id.
    """

    resource: str
    tier: int
    kind: str
    account: str | None
    user: str | None
    session: str | None
    weight: float
    entitled: float
    served: float
    served_seconds: float
    owed_seconds: float
    usage_seconds: float | None
    is_active: bool


class SharesView(msgspec.Struct, frozen=True, kw_only=True):
    """Who shares; empty unless `scheduler_type` is share. At most 1000 lines for each resource."""

    scheduler_type: str
    fair_share_by: str
    shares: list[ShareLine]


class AccountingQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which ended sessions or jobs."""

    user: tuple[str, ...] = ()
    session: str | None = None
    slurm_job_id: str | None = None
    state: tuple[JobState, ...] = ()
    ended_after: datetime | None = None
    ended_before: datetime | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    offset: Annotated[int, Meta(ge=0, le=2**31)] = 0


class ReportQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which slices, by the time of their end, and grouped how: day, user, account, slurm_job, session, job, queue,
    resource, several comma-separated; left out: day,user. Filters may hold several names; `end` is exclusive.
    """

    by: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    account: tuple[str, ...] = ()
    queue: tuple[str, ...] = ()
    resource: tuple[str, ...] = ()
    session: tuple[str, ...] = ()
    slurm_job: tuple[str, ...] = ()
    start: Day | None = None
    end: Day | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_ROWS)] = DEFAULT_ROWS
    offset: Annotated[int, Meta(ge=0, le=2**31)] = 0
