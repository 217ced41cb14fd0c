"""The native dialect's wire types of batches; see wire.py."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from qpud.api.job_wire import JobView
from qpud.api.wire_terms import Name, Shots, Tags, Variable
from qpud.core.job import JobState


class BatchJobAsk(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a batch. Without a `sequence` (JSON text) it has the batch's."""

    sequence: str | None = None
    shots: Shots
    variables: dict[str, Variable] | None = None
    name: Name | None = None
    tags: Tags | None = None


class BatchAsk(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for a batch. An open one may begin without jobs; one with `open: false` takes no more than these."""

    resource: str | None = None
    open: bool = True
    name: Name | None = None
    tags: Tags | None = None
    sequence: str | None = None
    jobs: list[BatchJobAsk] | None = None


class BatchView(msgspec.Struct, frozen=True, kw_only=True):
    """A batch and its jobs, oldest first. While it is open it is PENDING or RUNNING.

    `idle_expires_at` is in seconds since the epoch: when it closes by itself if nothing happens; null once it is
    closed. `close_reason` is complete, canceled, idle_timeout or session_ended.
    """

    id: str
    open: bool
    state: JobState
    resource: str
    name: str | None
    tags: list[str]
    session_id: str
    created_at: datetime | None
    idle_expires_at: float | None
    closed_at: datetime | None
    close_reason: str | None
    jobs: list[JobView]


class BatchList(msgspec.Struct, frozen=True, kw_only=True):
    """Some batches, newest first, and how many there are in all."""

    batches: list[BatchView]
    total: int


class BatchQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which batches; `state` may be repeated or hold several, comma-separated."""

    open: bool | None = None
    state: tuple[JobState, ...] = ()
    resource: str | None = None
    tag: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    offset: Annotated[int, Meta(ge=0, le=2**53)] = 0
