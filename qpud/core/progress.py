"""What an ended slice means for its job: pure functions."""

from __future__ import annotations

import math

import msgspec

from qpud.core.job import Job, JobState, Reason, move
from qpud.core.slices import Outcome, OutcomeState

LARGEST_ATTEMPTS = 3  # slices in a row that bring no shot before the job is given up


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The job after a slice, and the sentence for its owner if that ended it badly.

    `fruitless` is true if the slice brought no shot although it ran: such slices are counted and end the job at the
    third in a row.
    """

    job: Job
    message: str = ""
    fruitless: bool = False


def checked(outcome: Outcome, shots: int, atoms: int | None = None) -> Outcome:
    """The outcome, or a failed one without counts if a driver reports what cannot be.

    Args:
        outcome: As the driver reported it; counts may be of any type. Costs that are no number >= 0 become 0.
        shots: Shots that were asked for.
        atoms: The length of each bitstring, None if it is not known.
    """
    wrong = _wrong(outcome.counts, shots, atoms)
    if not wrong:
        return _with_real_costs(outcome)
    message = f"the resource reported impossible counts ({wrong}); they were dropped and charged to nobody"
    return msgspec.structs.replace(
        outcome,
        state=OutcomeState.FAILED,
        counts={},
        result=None,
        qpu_seconds=0.0,
        setup_seconds=0.0,
        message=message,
        transient=True,
    )


def _with_real_costs(outcome: Outcome) -> Outcome:
    costs = (outcome.qpu_seconds, outcome.setup_seconds)
    if all(math.isfinite(cost) and cost >= 0 for cost in costs):
        return outcome
    return msgspec.structs.replace(outcome, qpu_seconds=0.0, setup_seconds=0.0)


def _wrong(counts: object, shots: int, atoms: int | None) -> str:
    if not isinstance(counts, dict):
        return f"{type(counts).__name__} in place of a mapping"
    if not all(isinstance(bits, str) and bits and not bits.strip("01") for bits in counts):
        return "a key that is no bitstring"
    lengths = {len(bits) for bits in counts}
    if len(lengths) > 1:
        return "bitstrings of different lengths"
    if atoms is not None and lengths and lengths != {atoms}:
        return f"bitstrings of {lengths.pop()} bits for {atoms} atoms"
    if not all(type(number) is int and number >= 0 for number in counts.values()):
        return "a count that is no natural number"
    total = sum(counts.values())
    return f"{total} shots where {shots} were asked for" if total > shots else ""


def after_slice(
    job: Job, outcome: Outcome, attempts: int, stopping: Reason | None, now: float, charged: float = 0.0
) -> Verdict:
    """Take a job past a slice.

    Args:
        job: RUNNING, as it is now: it may have been asked to stop meanwhile.
        outcome: Checked outcome of its slice.
        attempts: Fruitless slices in a row before this one.
        stopping: Why it is asked to stop, if known.
        now: Seconds since the epoch.
        charged: QPU seconds that the slice costs the job.
    """
    shots = outcome.shots
    done, seconds = job.shots_done + shots, job.qpu_seconds + charged
    later = msgspec.structs.replace(job, shots_done=done, qpu_seconds=seconds)
    if later.shots_left == 0:
        return Verdict(job=move(later, JobState.DONE, Reason.NONE, now))
    if job.reason is Reason.CANCELING:
        return Verdict(job=move(later, JobState.CANCELED, stopping or Reason.USER, now), message=_stopped(later))
    if outcome.state is OutcomeState.FAILED and not outcome.transient:
        return Verdict(job=move(later, JobState.ERROR, Reason.FAULT, now), message=outcome.message)
    fruitless = shots == 0
    if fruitless and attempts + 1 >= LARGEST_ATTEMPTS:
        message = (
            f"{LARGEST_ATTEMPTS} slices in a row brought no shot, the last one said: {outcome.message or 'nothing'}"
        )
        return Verdict(job=move(later, JobState.ERROR, Reason.FAULT, now), message=message, fruitless=True)
    return Verdict(job=later, fruitless=fruitless)


def _stopped(job: Job) -> str:
    return f"canceled after {job.shots_done} of {job.shots} shots"
