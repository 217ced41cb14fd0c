"""The native dialect's wire types of jobs: submitted, listed, queued, canceled, and what they gave."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from qpud.api.rehearsals import Seed
from qpud.api.wire_terms import Name, Shots, Tags, Variable, Whole
from qpud.core.job import JobState


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
