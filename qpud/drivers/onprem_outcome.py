"""From an ended job at a QPU, on-prem or in the cloud, to the outcome of a slice."""

from __future__ import annotations

import math
import time

from qpud.core.slices import Outcome, OutcomeState
from qpud.drivers.base import Clock, SliceRequest
from qpud.drivers.onprem_job import WORTH_ANOTHER_TRY, BadAnswer, Phase, QpuJob, read_counts

CLOCK_ERROR = 1.0
"""Seconds by which the QPU's own run time may exceed the time seen from here: stamps are often rounded."""


class Observed:
    """What was seen of a job from here.

    Args:
        request: The slice.
        clock: Wall time.
        started_at: When it was submitted; None if an earlier daemon did that.
        since: From when on it is watched, by the monotonic clock.
        driver: Who saw it.
    """

    def __init__(
        self, *, request: SliceRequest, clock: Clock, started_at: float | None, since: float, driver: str
    ) -> None:
        self.request = request
        self.driver = driver
        self.polls = 0
        self.misses = 0  # polls in a row that found no such job
        self.pended = False  # it queued at the QPU: its time here is not its run time
        self.lacking = 0  # polls that found it done without its result
        self._clock = clock
        self._started_at = started_at
        self._since = since

    @property
    def is_ours(self) -> bool:
        """Whether this daemon submitted it, and so knows when it began."""
        return self._started_at is not None

    @property
    def elapsed(self) -> float:
        """Seconds that it was watched, without those that it queued there behind others' jobs."""
        return time.monotonic() - self._since

    def waits(self) -> None:
        """It still queues there, behind others' jobs: the time until now is not the QPU's."""
        self.pended = True
        self._since = time.monotonic()
        if self._started_at is not None:
            self._started_at = self._clock()

    def run_time(self, job: QpuJob) -> float | None:
        """Seconds that the job ran by the QPU's clock; None if not told, or longer than it was there."""
        longest = self.elapsed + CLOCK_ERROR if self.is_ours else math.inf
        return job.seconds if job.seconds is not None and 0 < job.seconds <= longest else None

    def times(self, seconds: float | None) -> tuple[float, float, float]:
        """Start and end in wall time, and QPU seconds: `seconds` by the QPU's clock if known, else as observed.

        What is charged is never a difference of wall times: that clock may be set meanwhile.
        """
        ended = self._clock()
        started = self._started_at if self._started_at is not None else ended - (seconds or 0.0)
        return started, max(started, ended), seconds or (self.elapsed if self.is_ours else 0.0)


def outcome_of(name: str, job: QpuJob, seen: Observed, program: str) -> Outcome:
    """The outcome of an ended job.

    Args:
        name: The resource.
        job: As last reported; not active.
        seen: What was seen of it.
        program: State of its program if it failed; "" if unknown.
    """
    shots = seen.request.shots
    if job.phase is Phase.FAILED:
        return _failed(name, job, seen, program)
    try:
        counts = {} if job.result is None else read_counts(job.result, shots)
    except BadAnswer as bad:
        return _unusable(name, job, seen, bad.message)
    if job.phase is Phase.DONE and not counts:
        return _unusable(name, job, seen, "no result" if job.result is None else "a result without shots")
    full = sum(counts.values()) == shots
    if job.phase is Phase.CANCELED and not full:
        message = f"cancelled at resource {name} after {sum(counts.values())} of {shots} shots"
        return _outcome(OutcomeState.CANCELED, job, seen, counts=counts, message=message)
    return _outcome(OutcomeState.DONE, job, seen, counts=counts)


def gone(name: str, uid: str, seen: Observed) -> Outcome:
    """The QPU says twice that it knows no such job any more: its shots are lost."""
    started, ended, _ = seen.times(None)
    return Outcome(
        state=OutcomeState.FAILED,
        counts={},
        started_at=started,
        ended_at=ended,
        qpu_seconds=0.0,
        message=f"resource {name} does not know job {uid} any more",
        transient=True,
    )


def _failed(name: str, job: QpuJob, seen: Observed, program: str) -> Outcome:
    """ERROR is all that a job says; its program may say why."""
    words = {job.status, program} - {"", "ERROR"}
    more = ", ".join(sorted(words) + ([job.reason] if job.reason else []))
    message = f"resource {name} ended job {job.uid} with {job.status}{': ' + more if more else ''}"
    return _outcome(OutcomeState.FAILED, job, seen, message=message, transient=bool(words & WORTH_ANOTHER_TRY))


def _unusable(name: str, job: QpuJob, seen: Observed, what: str) -> Outcome:
    """Counts that cannot be used. The cancelled job's are given up; of a finished one, that is a failure."""
    message = f"resource {name} reports {what} for the {seen.request.shots} shots of job {job.uid}"
    state = OutcomeState.CANCELED if job.phase is Phase.CANCELED else OutcomeState.FAILED
    return _outcome(state, job, seen, message=message)


def _outcome(
    state: OutcomeState,
    job: QpuJob,
    seen: Observed,
    *,
    counts: dict[str, int] | None = None,
    message: str = "",
    transient: bool = False,
) -> Outcome:
    run_time = seen.run_time(job)
    started, ended, qpu_seconds = seen.times(run_time)
    provenance = {"driver": seen.driver, "device_job": job.uid, "polls": str(seen.polls)}
    return Outcome(
        state=state,
        counts=counts or {},
        started_at=started,
        ended_at=ended,
        qpu_seconds=0.0 if state is OutcomeState.FAILED and run_time is None else qpu_seconds,
        message=message,
        transient=transient,
        provenance=provenance | ({"program_id": job.program_id} if job.program_id else {}),
    )
