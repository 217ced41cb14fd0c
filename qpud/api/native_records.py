"""The native dialect, `/v1/…`: where the time went, and what another run of a job needs."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from qpud import __version__
from qpud.api.parts import Parts
from qpud.api.query import read_query
from qpud.api.reply import Json
from qpud.api.route import Dialect, Route
from qpud.api.wire_terms import moment
from qpud.core import verbs
from qpud.core.profile import JobTimes, Profile


class ProfileQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which jobs (repeated, or comma-separated), or of which session: one of the two."""

    job: tuple[str, ...] = ()
    session: Annotated[str, Meta(max_length=255)] | None = None


class ProfiledJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job of a profile."""

    id: int
    name: str | None
    resource: str
    state: str
    shots_done: int


class ProfileSpan(msgspec.Struct, frozen=True, kw_only=True):
    """One phase: validation, queue, transfer, set-up, shots, or classical, which belongs to no job.

    `start` is in seconds after the profile's `began`.
    """

    phase: str
    start: float
    seconds: float
    job: int | None
    detail: str


class ProfileView(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time went. `totals` are seconds by phase; jobs that wait side by side each count their own."""

    began: datetime | None
    seconds: float
    jobs: list[ProfiledJob]
    spans: list[ProfileSpan]
    totals: dict[str, float]


class BundleView(msgspec.Struct, frozen=True, kw_only=True):
    """All that is stored of an ended job, but tokens and sessions. Times are seconds since the epoch.

    `spec` is the device spec's text, null if it was not kept; `result` what a payload gave that is no Pulser program.
    """

    qpud: str
    job: dict[str, Any]
    sequence: str
    spec: str | None
    counts: dict[str, int]
    result: str | None
    slices: list[dict[str, Any]]
    story: list[str]


async def show_profile(parts: Parts, request: Request) -> Response:
    """Where the time of jobs went, or of a session's newest 1000 jobs."""
    who, ask = parts.caller(request), read_query(request, ProfileQuery)
    return Json(_profile_view(await parts.service.profile(who, ask.job, ask.session)))


def _profile_view(found: Profile) -> ProfileView:
    spans = [
        ProfileSpan(
            phase=span.phase,
            start=round(span.start - found.began, 6),
            seconds=round(span.seconds, 6),
            job=span.job,
            detail=span.detail,
        )
        for span in found.spans
    ]
    return ProfileView(
        began=moment(found.began),
        seconds=round(found.ended - found.began, 6),
        jobs=[_profiled(job) for job in found.jobs],
        spans=spans,
        totals={phase: round(seconds, 6) for phase, seconds in found.totals.items()},
    )


def _profiled(job: JobTimes) -> ProfiledJob:
    return ProfiledJob(id=job.id, name=job.name, resource=job.resource, state=job.state, shots_done=job.shots_done)


async def show_bundle(parts: Parts, request: Request) -> Response:
    """All that is stored of an ended job: what `qpud bundle` writes into its archive."""
    return Json(_bundle_view(await parts.service.bundle(parts.caller(request), request.path_params["job"])))


def _bundle_view(found: verbs.Bundle) -> BundleView:
    story = [f"{moment(line.at):%Y-%m-%dT%H:%M:%S.%fZ} {line.text}" for line in found.story]
    return BundleView(
        qpud=__version__,
        job=_job_facts(found),
        sequence=found.sequence,
        spec=found.spec[1] if found.spec else None,
        counts=found.result.counts,
        result=found.result.result,
        slices=found.slices,
        story=story,
    )


def _job_facts(found: verbs.Bundle) -> dict[str, Any]:
    result = found.result
    job = result.job
    return {
        "id": job.id,
        "name": job.name,
        "tags": result.tags,
        "resource": job.resource,
        "queue": job.queue,
        "state": str(job.state),
        "message": result.message,
        "shots": job.shots,
        "shots_done": job.shots_done,
        "variables": result.variables,
        "seed": result.seed,
        "sequence_hash": job.sequence_hash,
        "spec_hash": result.spec_hash,
        "spec_name": found.spec[0] if found.spec else None,
        "provenance": result.provenance,
        "rehearsal": found.rehearsal,
        "submitted_at": job.submitted_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "qpu_seconds": result.qpu_seconds,
    }


route = partial(Route, dialect=Dialect.NATIVE)

ROUTES = (
    route(method="GET", path="/v1/profile", endpoint=show_profile, query=ProfileQuery, reply=ProfileView),
    route(method="GET", path="/v1/jobs/{job}/bundle", endpoint=show_bundle, reply=BundleView),
)
