"""What a client can ask for and what comes back: the values between the HTTP dialects and the service.

Dialects translate their wire forms to and from these; none of them has state of its own.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from qpud.core.job import Job, JobState, Reason
from qpud.core.rehearsal import Rehearsal
from qpud.core.reservations import Reservation
from qpud.core.session import Hint, Session


class OpenSession(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for a session. `user_id` None means the caller; another's needs `Identity.may_open_for_others`."""

    user_id: int | None = None
    slurm_job_id: str | None = None
    queue: str | None = None
    share: int | None = None
    hint: Hint = Hint.NONE
    expected_qpu_seconds: float | None = None
    expected_classical_seconds: float | None = None
    nodes: int | None = None
    account: str | None = None
    rehearsal: Rehearsal | None = None
    for_resource: str | None = None  # where it will be used: what is rehearsed is checked for it at once
    with_token: bool = True  # False where the dialect has no place for one


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A session and, the only time it can be read, its token. `created` is false if it was already open.

    `token` is "" if none was asked for, and for root by munge who opens another's session: such a credential can be
    stolen (facts/CONTRACTS §7), and a token is its owner to qpud. The owner gets one by opening the session again.
    """

    session: Session
    token: str
    created: bool


class SessionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions to list; None means any."""

    user_id: int | None = None
    slurm_job_id: str | None = None
    active: bool | None = None


class JobRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One sequence × shots. `resource` None means the default one; without `seed`, the session's or a random one."""

    sequence: str
    shots: int
    variables: dict[str, Any] = {}
    resource: str | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    seed: int | UnsetType = UNSET  # not in the digest of a key unless given: older keys stay good


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs to list, newest first; None means any. `before` is the `next` of the previous page."""

    states: tuple[JobState, ...] = ()
    user_id: int | None = None
    session_id: str | None = None
    queue: str | None = None
    resource: str | None = None
    name: str | None = None
    tag: str | None = None
    batch_id: str | None = None
    limit: int = 100  # 1 … 1000
    before: int | None = None  # job id, exclusive


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some jobs and where to go on: `next` is None on the last page."""

    jobs: list[Job]
    next: int | None


class Cancellation(msgspec.Struct, frozen=True, kw_only=True):
    """The truth about a cancel: `canceled` shots never ran, `shots_done` had run already.

    `before` is the state found; `asked_before` is true if an earlier cancel is still under way. If the job had
    ended, nothing was done and `before` is terminal.
    """

    job: Job
    before: JobState
    asked_before: bool
    message: str


class JobSelection(msgspec.Struct, frozen=True, kw_only=True):
    """Which unfinished jobs to act on; None means any."""

    user_id: int | None = None
    queue: str | None = None
    resource: str | None = None
    session_id: str | None = None
    state: JobState | None = None  # PENDING or RUNNING
    name: str | None = None
    batch_id: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing at all, and so means every job."""
        return all(value is None for value in msgspec.structs.astuple(self))

    def selects(self, job: Job) -> bool:
        """Whether a job is meant."""
        said = zip(self.__struct_fields__, msgspec.structs.astuple(self), strict=True)
        return all(value is None or getattr(job, field) == value for field, value in said)


class Cancellations(msgspec.Struct, frozen=True, kw_only=True):
    """The truth about a cancel of many, in numbers: `matched` is the sum of the others, or all there is to a dry run.

    `canceled` jobs will run no more, `stopping` ones have a slice in flight that is ending, `ended` ones had ended
    otherwise before the wish arrived. `jobs` are the first 1000 of them, oldest first.
    """

    matched: int
    canceled: int = 0
    stopping: int = 0
    ended: int = 0
    is_dry: bool = False
    jobs: list[Cancellation] = []


class Reserve(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for a reservation: `starts_at` None means now, `resource` None the default one. Owners: at least one."""

    name: str
    resource: str | None = None
    starts_at: float | None = None
    duration_seconds: float
    accounts: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    duty: str = ""


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation, and whether it is active now."""

    reservation: Reservation
    is_active: bool


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence of a job's story. `at` is seconds since the epoch, UTC."""

    at: float
    text: str


class SliceView(msgspec.Struct, frozen=True, kw_only=True):
    """One slice as its owner sees it. Times are seconds since the epoch, UTC."""

    number: int
    state: str
    shots: int  # asked for
    shots_done: int  # obtained
    started_at: float | None
    ended_at: float | None
    qpu_seconds: float
    setup_seconds: float
    device_id: str | None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and where they come from. `counts` keys: character i = atom i in register order, '1' = Rydberg."""

    job: Job
    counts: dict[str, int]
    message: str  # one sentence if the job did not end well, else ""
    spec_hash: str | None
    seed: int | None
    provenance: dict[str, str]  # driver, emulator and versions
    slices: list[SliceView]
    tags: tuple[str, ...] = ()
    variables: dict[str, Any] = {}
    qpu_seconds: float = 0.0


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """All that is stored of an ended job. `spec` is name and text of its device spec, None where it was not kept."""

    result: Result
    sequence: str
    spec: tuple[str, str] | None
    slices: list[dict[str, Any]]  # with their counts
    story: list[LogLine]
    rehearsal: dict[str, Any]  # of its session; {} if nothing


class Forecast(msgspec.Struct, frozen=True, gc=False):
    """When a job starts and ends: typically, and at the latest. Times are seconds since the epoch, UTC.

    All times are None if nobody knows, as for a held job; those of the start once the job has started; the latest
    ones where a session keeps the resource as long as it likes (SchedulerType=exclusive), or under a site's own order.
    """

    start: float | None
    start_latest: float | None
    end: float | None
    end_latest: float | None
    reason: str


class QueueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One unfinished job in the order in which the scheduler would take it. Others' jobs show no name.

    `reason` is why it waits now, `job.reason` only what is stored.
    """

    position: int  # 0 has the resource
    job: Job
    tier: int
    user: str
    reason: Reason
    explanation: str  # the reason in words
    waited_seconds: float
    forecast: Forecast | None = None


class ResourceView(msgspec.Struct, frozen=True, kw_only=True):
    """A resource as everybody may see it."""

    name: str
    driver: str
    state: str  # up, down, unreachable, drained
    message: str
    device: str | None  # name in its device spec
    spec_hash: str | None
    pending: int
    running_job: int | None  # the job whose slice is in flight
    drained_reason: str | None


class AccountingFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which ended sessions or jobs to report. Times are seconds since the epoch, UTC."""

    user_ids: tuple[int, ...] = ()
    session_id: str | None = None
    slurm_job_id: str | None = None
    states: tuple[JobState, ...] = ()
    ended_after: float | None = None
    ended_before: float | None = None
    limit: int = 100
    offset: int = 0


class StateSum(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the jobs in one state; times in seconds."""

    state: JobState
    count: int
    execution_seconds: float
    wait_seconds: float
    shots: int


class UserSum(msgspec.Struct, frozen=True, kw_only=True):
    """What one user had: closed sessions and their jobs."""

    user_id: int
    sessions: int
    session_seconds: float
    states: list[StateSum]


class SessionSum(msgspec.Struct, frozen=True, kw_only=True):
    """One closed session with the number of its jobs."""

    session: Session
    jobs: int


class JobSum(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a closed session; times in seconds."""

    job: Job
    execution_seconds: float
    wait_seconds: float


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The scheduler's own pulse: seconds since its loop last turned, and whether the store commits."""

    alive: bool
    ready: bool
    heartbeat_age_seconds: float
    message: str
