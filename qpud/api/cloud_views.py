"""From core values to the cloud dialect's wire types."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from qpud.api.cloud_names import device_type, project_id
from qpud.api.cloud_wire import CloudBatch, CloudJob, CloudStatus
from qpud.api.wire_terms import moment
from qpud.core import verbs
from qpud.core.errors import NotFound
from qpud.core.identity import Identity
from qpud.core.job import Job

if TYPE_CHECKING:
    from qpud.api.parts import Parts


_any_json = msgspec.json.Decoder(msgspec.Raw)


def result_json(text: str) -> bytes:
    """What a job gave, as JSON: counts are, and what a payload gave may be any text."""
    try:
        _any_json.decode(text)
    except (msgspec.DecodeError, RecursionError):  # deeper than can be read counts as text too
        return msgspec.json.encode(text)
    return text.encode()


def stamp(at: float | None) -> str | None:
    """Seconds since the epoch as the vendor writes a time; None for never."""
    found = moment(at)
    return None if found is None else found.isoformat().replace("+00:00", "Z")


def status_view(view: verbs.BatchView) -> CloudStatus:
    """What clients poll of a batch."""
    return CloudStatus(id=view.batch.id, status=view.state, jobs_count_per_status=_per_status(view.jobs))


def batch_line(parts: Parts, view: verbs.BatchView, project: str) -> CloudBatch:
    """A batch as lists show it; `project` is that of batches which name none."""
    batch, jobs = view.batch, view.jobs
    begun = [job.started_at for job in jobs if job.started_at is not None]
    ended = [job.ended_at for job in jobs if job.ended_at is not None]
    is_over = not batch.is_open and len(ended) == len(jobs)
    return CloudBatch(
        id=batch.id,
        created_at=stamp(batch.opened_at) or "",
        updated_at=stamp(max([batch.opened_at, batch.closed_at or 0.0, *begun, *ended])) or "",
        device_type=device_type(parts.service.policy, batch.resource),
        project_id=batch.project or project,
        user_id=str(batch.user_id),
        status=view.state,
        open=batch.is_open,
        complete=not batch.is_open,
        tags=list(batch.tags),
        jobs_count=len(jobs),
        jobs_count_per_status=_per_status(jobs),
        start_datetime=stamp(min(begun, default=None)),
        end_datetime=stamp(max(ended, default=batch.closed_at)) if is_over else None,
        webhook=None,
    )


async def batch_view(parts: Parts, who: Identity, view: verbs.BatchView) -> CloudBatch:
    """A batch with its jobs and its sequence."""
    line = batch_line(parts, view, await project_of(parts, who, view.batch.session_id))
    own = view.batch.sequence_hash
    texts = await parts.service.sequence_texts([own or "", *(job.sequence_hash for job in view.jobs)])
    sequences = {one: None if one == own else text for one, text in texts.items()}
    return msgspec.structs.replace(
        line,
        job_ids=[job.uid for job in view.jobs],
        jobs=await job_views(parts, view.jobs, line.project_id, sequences),
        sequence_builder=texts.get(own or ""),
    )


async def job_views(
    parts: Parts, jobs: list[Job], project: str, sequences: dict[str, str | None] | None = None
) -> list[CloudJob]:
    """Jobs of one project.

    Args:
        parts: Tell their variables and what went wrong.
        jobs: Which.
        project: Theirs.
        sequences: What to show for a sequence's hash; others are left out, and clients ask for them.
    """
    variables, messages = await parts.service.job_details(jobs)
    return [
        CloudJob(
            id=job.uid,
            batch_id=job.batch_id or job.uid,
            project_id=project,
            user_id=str(job.user_id),
            status=job.state,
            runs=job.shots,
            created_at=stamp(job.submitted_at) or "",
            updated_at=stamp(job.ended_at or job.started_at or job.submitted_at) or "",
            creation_order=job.id,
            start_timestamp=stamp(job.started_at),
            end_timestamp=stamp(job.ended_at),
            errors=[messages[job.id]] if job.id in messages else None,
            variables=variables.get(job.id),
            sequence=(sequences or {}).get(job.sequence_hash, UNSET),
        )
        for job in jobs
    ]


async def project_of(parts: Parts, who: Identity, session: str | None) -> str:
    """The project of a session's account."""
    if session is None:
        return project_id(None)
    try:
        return project_id((await parts.service.get_session(who, session)).account)
    except NotFound:
        return project_id(None)


def _per_status(jobs: list[Job]) -> dict[str, int]:
    return dict(Counter(str(job.state) for job in jobs))
