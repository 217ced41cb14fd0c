"""The native dialect's wire types, but for jobs (`job_wire.py`), batches and sums. Uids are numbers, users are names.

Bodies tolerate unknown fields; query strings and filters do not, because a misspelt one would be silently ignored.
`qpud/api/openapi.py` makes the document from these types, so their docstrings are part of the API.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from qpud.api.rehearsals import RehearsalAsk, RehearsalView
from qpud.api.wire_terms import Name, Whole
from qpud.core.session import Hint


class SessionAsk(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for a session. `user` is a name or uid; left out, the caller. `share` is in units of 10 %.

    Hints, which reorder and never entitle: `hint`, QPU seconds expected in all, classical seconds expected between two
    jobs, and `nodes` that are held meanwhile.
    """

    user: str | Whole | None = None
    slurm_job_id: str | Whole | None = None
    queue: str | None = None
    share: Annotated[int, Meta(ge=1, le=10)] | None = None
    hint: Hint | None = None
    expected_qpu_seconds: Annotated[float, Meta(ge=0)] | None = None
    expected_classical_seconds: Annotated[float, Meta(ge=0)] | None = None
    nodes: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    account: Name | None = None
    rehearsal: RehearsalAsk | None = None


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session. `close_reason` is manual, idle_timeout, max_lifetime_expired or slurm_job_ended."""

    id: str
    user: str
    user_id: int
    account: str | None
    slurm_job_id: str | None
    queue: str
    share: int
    hint: str
    expected_qpu_seconds: float | None
    expected_classical_seconds: float | None
    nodes: int
    active: bool
    opened_at: datetime | None
    last_used_at: datetime | None
    idle_expires_at: datetime | None
    expires_at: datetime | None
    closed_at: datetime | None
    close_reason: str | None
    rehearsal: RehearsalView | None = None
    qos: str | None = None


class SessionGrant(SessionView, frozen=True, kw_only=True):
    """A session and its token, which can be read only here. `created` is false if it was already open."""

    token: str
    created: bool


class WorkerLine(msgspec.Struct, frozen=True, kw_only=True):
    """A worker on a node of the cluster.

    `state` is Slurm's word with its `reason` while it waits for nodes, then starting, idle or busy with `job_id`.
    """

    slurm_job_id: str
    state: str
    reason: str
    node: str
    job_id: int | None


class ResourceLine(msgspec.Struct, frozen=True, kw_only=True):
    """A resource; `state` is up, down, unreachable or drained, `device` the name in its device spec.

    `workers` are Slurm jobs, of a resource with Launcher = slurm.
    `degraded_units` are share units, of 10, that Slurm does not give out.
    """

    name: str
    driver: str
    state: str
    message: str
    device: str | None
    spec_hash: str | None
    pending: int
    running_job: int | None
    drained_reason: str | None
    workers: list[WorkerLine] = []
    degraded_units: int = 0
    degraded_reason: str | None = None


class ResourceList(msgspec.Struct, frozen=True, kw_only=True):
    """All resources and the default one."""

    resources: list[ResourceLine]
    default: str


class SpecView(msgspec.Struct, frozen=True, kw_only=True):
    """The current device spec: Pulser's abstract representation, with the sha256 of its text."""

    name: str
    hash: str
    max_runs: int | None
    accepts_virtual: bool
    spec: msgspec.Raw


class DrainAsk(msgspec.Struct, frozen=True, kw_only=True):
    """Why the resource is drained or down, for its users."""

    reason: Name = ""


class DegradeAsk(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the resource's ten units Slurm gives out no more, and why."""

    units: int
    reason: Name = ""


class ReservationAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A window for accounts, users or a duty, at least one of them; from `starts_at`, or from now on.

    The duty `qa` is done by sessions with the account `duty:qa`, which only administrators may open.
    """

    name: Name
    resource: str | None = None
    starts_at: datetime | None = None
    duration_seconds: Annotated[float, Meta(gt=0)]
    accounts: list[Name] = []
    users: list[str | Whole] = []
    duty: Annotated[str, Meta(max_length=64, pattern="^[A-Za-z0-9_.-]*$")] = ""


class ReservationView(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation; while it is active only its owners' jobs start on the resource."""

    name: str
    resource: str
    starts_at: datetime | None
    ends_at: datetime | None
    active: bool
    accounts: list[str]
    users: list[str]
    duty: str
    created_by: str
    created_at: datetime | None


class ReservationList(msgspec.Struct, frozen=True, kw_only=True):
    """All reservations that are not over, the earliest first."""

    reservations: list[ReservationView]


class QueuePolicyLine(msgspec.Struct, frozen=True, kw_only=True):
    """A queue: its tier, its limits (null: none) and who may use it (empty: everybody)."""

    name: str
    priority_tier: int
    preempt_mode: str
    slice_seconds: float
    max_shots: int | None
    max_submit_jobs: int | None
    max_jobs_per_user: int | None
    max_qpu_seconds_per_day: float | None
    time_limit: float | None
    allow_accounts: list[str]
    deny_accounts: list[str]
    allow_groups: list[str]
    deny_groups: list[str]
    partitions: list[str]
    qos: list[str] = []


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What this daemon is and offers; `urls` are its TCP addresses as clients on this machine name them.

    `slurm` says in a sentence what Slurm does not show though it should; null if all is well.
    """

    version: str
    api_versions: list[str]
    urls: list[str]
    default_queue: str
    default_resource: str
    max_body_size: int
    queues: list[QueuePolicyLine]
    resources: list[ResourceLine]
    slurm: str | None = None


class Reconfigured(msgspec.Struct, frozen=True, kw_only=True):
    """The new policy is in force; the warnings say what needs a restart."""

    warnings: list[str]


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """The scheduler's own pulse and the store's readiness."""

    alive: bool
    ready: bool
    heartbeat_age_seconds: float
    message: str


class SessionQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which sessions."""

    user: str | None = None
    slurm_job_id: str | None = None
    active: bool | None = None


class ResourceQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which resource; left out: of all."""

    resource: str | None = None
