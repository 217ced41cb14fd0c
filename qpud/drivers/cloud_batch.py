"""A batch and its job as the cloud reports them, and what its words mean for a slice (facts/CONTRACTS.md §3, §4)."""

from __future__ import annotations

from typing import Any

import msgspec

from qpud.drivers.onprem_job import BadAnswer, Phase, QpuJob, seconds_between

PHASES = {
    "PENDING": Phase.ACTIVE,
    "RUNNING": Phase.ACTIVE,
    "PAUSED": Phase.ACTIVE,
    "CANCELING": Phase.ACTIVE,
    "DONE": Phase.DONE,
    "CANCELED": Phase.CANCELED,
    "ERROR": Phase.FAILED,
    "TIMED_OUT": Phase.FAILED,
}
"""The states of batches and of jobs."""


class CloudBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch. `tags` is None where the answer tells none; `job_id` that of its first job, if told."""

    id: str
    status: str
    phase: Phase
    tags: tuple[str, ...] | None = None
    job_id: str | None = None
    job: QpuJob | None = None


def read_batch(data: Any) -> CloudBatch:
    """Read the batch object of an answer. Raises: BadAnswer."""
    if not isinstance(data, dict) or not isinstance(data.get("id"), str) or not data["id"]:
        raise BadAnswer(f"a batch without an id: {str(data)[:60]!r}")
    status = str(data.get("status")).upper()
    job = first_job(data.get("jobs"))
    return CloudBatch(
        id=data["id"],
        status=status[:40],
        phase=PHASES.get(status, Phase.UNKNOWN),
        tags=_tags(data.get("tags")),
        job_id=job.uid if job else _first_id(data.get("job_ids")),
        job=job,
    )


def first_job(jobs: Any) -> QpuJob | None:
    """The first job of a list, None if there is none. Raises: BadAnswer."""
    return read_job(jobs[0]) if isinstance(jobs, list) and jobs else None


def read_job(data: Any) -> QpuJob:
    """Read the job object of an answer; its result is not in it. Raises: BadAnswer."""
    if not isinstance(data, dict) or not isinstance(data.get("id"), str) or not data["id"]:
        raise BadAnswer(f"a job without an id: {str(data)[:60]!r}")
    status = str(data.get("status")).upper()
    runs = data.get("runs")
    return QpuJob(
        uid=data["id"],
        status=status[:40],
        phase=PHASES.get(status, Phase.UNKNOWN),
        seconds=seconds_between(data.get("start_timestamp"), data.get("end_timestamp")),
        shots=runs if type(runs) is int else None,
        reason=_words(data.get("errors")),
    )


def _tags(tags: Any) -> tuple[str, ...] | None:
    return tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else None


def _first_id(ids: Any) -> str | None:
    return ids[0] if isinstance(ids, list) and ids and isinstance(ids[0], str) else None


def _words(errors: Any) -> str:
    """Why the job failed, in the cloud's words: a list of texts, or one."""
    texts = errors if isinstance(errors, list) else [errors] if errors else []
    return " ".join("; ".join(str(text) for text in texts).split())[:300]
