"""The native dialect's wire types. Times are RFC 3339 in UTC, uids are numbers, users are names.

Bodies tolerate unknown fields; query strings and filters do not, because a misspelt one would be silently ignored.
`qpud/api/openapi.py` makes the document from these types, so their docstrings are part of the API.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from qpud.api.rehearsals import RehearsalAsk, RehearsalView, Seed
from qpud.core.errors import BadRequest
from qpud.core.job import JobState
from qpud.core.session import Hint

Shots = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Name = Annotated[str, Meta(max_length=255)]
Whole = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""An integer that every JSON reader keeps exactly."""
Variable = Whole | float | list[Whole | float] | dict[str, Whole]
"""A number, a list of numbers, or the atoms of a mappable register."""
Tags = Annotated[list[Name], Meta(max_length=32)]
Day = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, examples=["2026-11-24", "2026-11-24T10:00:00Z"])]
"""A moment in a query string: a date is its first moment, a time without zone is UTC."""


def moment(at: float | None) -> datetime | None:
    """Seconds since the epoch as a wire time; None for never, as an unlimited expiry is."""
    if at is None or at > 253402300799.0:  # the end of year 9999
        return None
    return datetime.fromtimestamp(at, UTC)


def seconds(at: datetime | None) -> float | None:
    """A wire time as seconds since the epoch; a time without zone is taken as UTC."""
    if at is None:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def instant(day: str | None) -> float | None:
    """A `Day` as seconds since the epoch. Raises: BadRequest when it is none."""
    if day is None:
        return None
    try:
        return seconds(datetime.fromisoformat(day))
    except (ValueError, OverflowError):
        raise BadRequest(f"{day[:40]!r} is no time: write it as 2026-11-24 or 2026-11-24T10:00:00Z, UTC") from None


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


class JobAsk(msgspec.Struct, frozen=True, kw_only=True):
    """One sequence × shots. `sequence` is an abstract representation or AHS program, as JSON text or as an object.

    `then_release` is a held Slurm job of the caller's, released once all jobs that name it have ended.
    The same program, shots and `seed` give the same counts on an emulator of one version; a QPU knows no seed.
    """

    sequence: str
    shots: Shots
    variables: dict[str, Variable] | None = None
    resource: str | None = None
    name: Name | None = None
    tags: Tags | None = None
    then_release: str | Whole | None = None
    seed: Seed | None = None


class JobObjectAsk(msgspec.Struct, frozen=True, kw_only=True):
    """The same with the sequence as an object, whose text is kept verbatim: no float is read and written again."""

    sequence: msgspec.Raw
    shots: Shots
    variables: dict[str, Variable] | None = None
    resource: str | None = None
    name: Name | None = None
    tags: Tags | None = None
    then_release: str | Whole | None = None
    seed: Seed | None = None


class ForecastView(msgspec.Struct, frozen=True, kw_only=True):
    """When a job will start and end: typically, and at the latest in nine of ten cases. `reason` is what it waits for.

    The start is null once it has started; all times are null if nobody knows, as for a held job.
    """

    start: datetime | None
    start_latest: datetime | None
    end: datetime | None
    end_latest: datetime | None
    reason: str


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job. `reason` says why it waits or why it ended. A job between two slices is RUNNING.

    `forecast` is null once it has ended.
    """

    id: int
    uid: str
    state: JobState
    reason: str
    name: str | None
    resource: str
    queue: str
    user: str
    user_id: int
    session_id: str
    batch_id: str | None
    shots: int
    shots_done: int
    sequence_hash: str
    submitted_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    forecast: ForecastView | None = None


class JobList(msgspec.Struct, frozen=True, kw_only=True):
    """Some jobs, newest first; `next` is the `before` of the next page, null on the last."""

    jobs: list[JobView]
    next: int | None


class CancelView(JobView, frozen=True, kw_only=True):
    """A job after a cancel: the state found, whether a cancel was already under way, and what it came to."""

    before: JobState
    asked_before: bool
    message: str


class CancelAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which unfinished jobs to cancel: at least one field beside `dry_run`, which only tells which they are."""

    user: str | Whole | None = None
    queue: str | None = None
    resource: str | None = None
    session: str | None = None
    state: JobState | None = None
    name: str | None = None
    batch: str | None = None
    dry_run: bool = False


class CanceledLine(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a cancel of many: the state found, the state now, what had run, and what it came to."""

    id: int
    user: str
    before: JobState
    state: JobState
    shots: int
    shots_done: int
    message: str


class CancelSums(msgspec.Struct, frozen=True, kw_only=True):
    """The truth about a cancel of many: `matched` = `canceled` + `stopping` + `ended`, unless it was a dry run.

    Canceled ones run no more, stopping ones have a slice in flight that is ending, ended ones had ended otherwise
    before. The first 1000 are listed, oldest first.
    """

    dry_run: bool
    matched: int
    canceled: int
    stopping: int
    ended: int
    jobs: list[CanceledLine]


class QueueAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another queue for a job, from its next slice on; `override` passes over the limits of the queue."""

    queue: str
    override: bool = False


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence of a job's story."""

    at: datetime | None
    text: str


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """A job's story, oldest first."""

    lines: list[Line]


class SliceLine(msgspec.Struct, frozen=True, kw_only=True):
    """One slice of a job: `shots` asked for, `shots_done` obtained."""

    number: int
    state: str
    shots: int
    shots_done: int
    started_at: datetime | None
    ended_at: datetime | None
    qpu_seconds: float
    setup_seconds: float
    device_id: str | None


class ResultView(msgspec.Struct, frozen=True, kw_only=True):
    """Counts so far and where they come from. Character i of a key is atom i in register order, 1 = Rydberg.

    `result` is null, but of programs that are not Pulser's: the text that the resource gave, and no counts.
    """

    job: JobView
    counts: dict[str, int]
    result: str | None
    message: str
    sequence_hash: str
    spec_hash: str | None
    seed: int | None
    provenance: dict[str, str]
    slices: list[SliceLine]
    tags: list[str]
    variables: dict[str, Any]
    qpu_seconds: float


class QueueLine(msgspec.Struct, frozen=True, kw_only=True):
    """One unfinished job in the scheduler's order. Position 0 has the resource; others' jobs show no name."""

    position: int
    id: int
    name: str | None
    user: str
    resource: str
    queue: str
    tier: int
    state: JobState
    reason: str
    explanation: str
    shots: int
    shots_done: int
    submitted_at: datetime | None
    waited_seconds: float
    forecast: ForecastView | None = None


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """The queue of one resource, or of all."""

    queue: list[QueueLine]


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


class JobQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs; `state` may be repeated or hold several, comma-separated."""

    state: tuple[JobState, ...] = ()
    user: str | None = None
    session: str | None = None
    queue: str | None = None
    resource: str | None = None
    name: str | None = None
    tag: str | None = None
    batch: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    before: Annotated[int, Meta(ge=1, le=2**31)] | None = None


class WaitQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How long to hold the answer until something changes: seconds, at most 300."""

    wait: Annotated[float, Meta(ge=0)] = 0.0


class ResourceQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which resource; left out: of all."""

    resource: str | None = None
