"""The cloud dialect's wire types: what pasqal-cloud, pulser-pasqal, QRMI and CUDA-Q send and read."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from qpud.api.wire_terms import Name, Shots, Tags, Variable
from qpud.core.job import JobState

T = TypeVar("T")
Number = Annotated[int, Meta(ge=0, le=2**53)]


class Envelope(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """The vendor's envelope; clients read `data` only."""

    data: T
    code: int = 200
    status: str = "success"
    message: str = "OK."


class Pagination(msgspec.Struct, frozen=True):
    """Which of how many: from `start` to before `end`."""

    total: int
    start: int
    end: int


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """An envelope around some of many."""

    data: list[T]
    pagination: Pagination
    code: int = 200
    status: str = "success"
    message: str = "OK."


class CloudJobAsk(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a batch. Without `runs` the backend configuration says how many, without `sequence` the batch."""

    runs: Shots | None = None
    variables: dict[str, Variable] | None = None
    sequence: str | None = None


class CloudBatchAsk(msgspec.Struct, frozen=True, kw_only=True):
    """A batch. Without `device_type` the resource follows from the sequence's device."""

    sequence_builder: str | None = None
    jobs: list[CloudJobAsk] = []
    open: bool | None = None
    complete: bool | None = None
    device_type: str | None = None
    emulator: str | None = None
    project_id: Name | None = None
    tags: Tags | None = None
    webhook: str | None = None
    configuration: dict[str, Any] | None = None
    backend_configuration: str | None = None


class CloudJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job in the vendor's words; `sequence` is null where it is the batch's."""

    id: str
    batch_id: str
    project_id: str
    user_id: str
    status: JobState
    runs: int
    created_at: str
    updated_at: str
    creation_order: int
    start_timestamp: str | None
    end_timestamp: str | None
    errors: list[str] | None
    variables: dict[str, Any] | None
    sequence: str | UnsetType | None = UNSET


class CloudBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch in the vendor's words; lists leave out jobs and sequence."""

    id: str
    created_at: str
    updated_at: str
    device_type: str
    project_id: str
    user_id: str
    status: JobState
    open: bool
    complete: bool
    tags: list[str]
    jobs_count: int
    jobs_count_per_status: dict[str, int]
    start_datetime: str | None
    end_datetime: str | None
    webhook: str | None
    job_ids: list[str] | UnsetType = UNSET
    jobs: list[CloudJob] | UnsetType = UNSET
    sequence_builder: str | UnsetType | None = UNSET


class CloudStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What clients poll."""

    id: str
    status: JobState
    jobs_count_per_status: dict[str, int] | UnsetType = UNSET


class BatchIds(msgspec.Struct, frozen=True):
    """Several batches."""

    batch_ids: Annotated[list[str], Meta(max_length=1000)]


class CanceledBatches(msgspec.Struct, frozen=True):
    """Those that were canceled, and why others were not, by id."""

    batches: list[CloudBatch]
    errors: dict[str, str]


class CanceledJobs(msgspec.Struct, frozen=True):
    """Those that were canceled, and why others were not, by id."""

    jobs: list[CloudJob]
    errors: dict[str, str]


class ResultsLink(msgspec.Struct, frozen=True):
    """Where a job's results are; null until it is DONE."""

    results_link: str | None


class Counter(msgspec.Struct, frozen=True):
    """Counts: character i of a key is atom i in register order."""

    counter: dict[str, int]


class CudaqAsk(msgspec.Struct, frozen=True, kw_only=True):
    """An AHS program and a number of shots."""

    machine: str
    shots: Shots
    sequence: msgspec.Raw
    project_id: Name | None = None


class CudaqId(msgspec.Struct, frozen=True):
    """The id, which is also its batch's and its job's."""

    id: str


class CudaqJob(msgspec.Struct, frozen=True, kw_only=True):
    """An AHS job; `result` holds counts by job id once it is DONE."""

    id: str
    status: JobState
    result: dict[str, dict[str, int]] | None


class DeviceLine(msgspec.Struct, frozen=True):
    """Whether a device takes work."""

    device_type: str
    status: str
    availability: str


class DeviceSpecs(msgspec.Struct, frozen=True):
    """A device and its spec as JSON text."""

    device_type: str
    specs: str


class Project(msgspec.Struct, frozen=True):
    """An account."""

    id: str
    name: str
    status: str = "ACTIVE"


class DeviceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which device; left out: all."""

    device_type: str | None = None


class LinkQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The proof in a link to results."""

    user: Annotated[str, Meta(max_length=10, pattern="^[0-9]+$")]
    expires: Annotated[str, Meta(max_length=12, pattern="^[0-9]+$")]
    signature: Annotated[str, Meta(max_length=64)]


class CloudBatchQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which batches; fields may be repeated."""

    id: tuple[str, ...] = ()
    project_id: tuple[str, ...] = ()
    user_id: tuple[str, ...] = ()
    device_type: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    open: bool | None = None
    tag: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    offset: Number = 0
    limit: Annotated[int, Meta(ge=1, le=100)] = 100


class SomeJobsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs of a batch; fields may be repeated."""

    id: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    min_runs: Number | None = None
    max_runs: Number | None = None
    start_date: str | None = None
    end_date: str | None = None


class CloudJobQuery(SomeJobsQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs; fields may be repeated. The order is that of their creation."""

    project_id: tuple[str, ...] = ()
    user_id: tuple[str, ...] = ()
    batch_id: tuple[str, ...] = ()
    errors: bool | None = None
    order_by: str | None = None
    order_by_direction: str = "DESC"
    offset: Number = 0
    limit: Annotated[int, Meta(ge=1, le=100)] = 100


class TokenReply(msgspec.Struct, frozen=True, kw_only=True):
    """A token to use as Bearer."""

    access_token: str
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105  the kind, not a token
