"""Where the time of jobs went, from what is stored of them anyway.

    validation  from the request's arrival to its acceptance: structure, limits, Pulser's verdict
    queue       waiting for the resource, before the first slice and between slices
    transfer    from the intent of a slice to its start at the resource, and from its end there to the job's end here
    set-up      the resource changes its register
    shots       the resource measures
    classical   no job of the session was unfinished

A resource's clock may differ from the daemon's: a phase never begins before the one before it has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

PHASES = ("validation", "queue", "transfer", "set-up", "shots", "classical")
_LEAST_SECONDS = 1e-7  # what float seconds since the epoch resolve


class SliceTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The stored times of a slice, seconds since the epoch, UTC."""

    job_id: int
    number: int
    shots: int
    shots_done: int
    state: str
    intended_at: float
    started_at: float | None
    ended_at: float | None
    qpu_seconds: float
    setup_seconds: float


class JobTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The stored times of a job."""

    id: int
    session_id: str
    name: str | None
    resource: str
    state: str
    shots_done: int
    submitted_at: float
    ended_at: float | None
    check_seconds: float
    slices: tuple[SliceTimes, ...] = ()


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One phase. `job` is None for classical time."""

    phase: str
    start: float
    seconds: float
    job: int | None = None
    detail: str = ""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The phases of some jobs, and their sums: jobs that wait side by side each count their own."""

    began: float
    ended: float
    jobs: list[JobTimes]
    spans: list[Span]
    totals: dict[str, float]


def profile(
    jobs: Sequence[JobTimes], now: float, opened_at: float | None = None, closed_at: float | None = None
) -> Profile:
    """Tell where the time went.

    Args:
        jobs: At least one, or a session's (maybe none yet).
        now: Seconds since the epoch.
        opened_at: Of the session, if one is asked for: time before its first job is classical.
        closed_at: Of the session: so is time after its last one.
    """
    spans = [span for job in jobs for span in _phases(job, now)]
    busy = [(job.submitted_at - job.check_seconds, now if job.ended_at is None else job.ended_at) for job in jobs]
    ends = [*(end for _, end in busy), *([now if closed_at is None else closed_at] if opened_at is not None else [])]
    began = min([start for start, _ in busy] + ([] if opened_at is None else [opened_at]), default=now)
    ended = max(ends, default=now)
    spans += _classical(sorted(busy), began, ended)
    totals = {phase: sum(span.seconds for span in spans if span.phase == phase) for phase in PHASES}
    return Profile(began=began, ended=ended, jobs=list(jobs), spans=spans, totals=totals)


def _phases(job: JobTimes, now: float) -> Iterator[Span]:
    marks = _Marks(job.id, job.submitted_at - job.check_seconds)
    yield from marks.to(job.submitted_at, "validation")
    is_waiting = True
    for one in job.slices:
        yield from marks.to(one.intended_at, "queue")
        is_waiting = one.started_at is None or one.ended_at is not None
        yield from _slice(marks, one, now)
    end = now if job.ended_at is None else job.ended_at
    is_back = bool(job.slices) and job.ended_at is not None
    yield from marks.to(end, "transfer" if is_back else "queue" if is_waiting else "shots")


def _slice(marks: _Marks, one: SliceTimes, now: float) -> Iterator[Span]:
    which = f"slice {one.number}, {one.shots_done} of {one.shots} shots, {one.state}"
    if one.started_at is None:
        return  # it never started: what follows is waiting
    yield from marks.to(one.started_at, "transfer", which)
    ended = now if one.ended_at is None else one.ended_at
    part = one.setup_seconds / one.qpu_seconds if one.qpu_seconds > 0 else 0.0
    yield from marks.to(one.started_at + part * (ended - one.started_at), "set-up", which)
    yield from marks.to(ended, "shots", which)


class _Marks:
    """Phases of one job, each from the end of the one before."""

    def __init__(self, job: int, at: float) -> None:
        self._job = job
        self._at = at

    def to(self, at: float, phase: str, detail: str = "") -> Iterator[Span]:
        """A phase up to a time, if any time has passed."""
        if at - self._at > _LEAST_SECONDS:
            yield Span(phase=phase, start=self._at, seconds=at - self._at, job=self._job, detail=detail)
            self._at = at


def _classical(busy: Sequence[tuple[float, float]], began: float, ended: float) -> Iterator[Span]:
    at = began
    for start, end in busy:
        if start - at > _LEAST_SECONDS:
            yield Span(phase="classical", start=at, seconds=start - at)
        at = max(at, end)
    if ended - at > _LEAST_SECONDS:
        yield Span(phase="classical", start=at, seconds=ended - at)
