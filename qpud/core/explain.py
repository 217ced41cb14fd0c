"""Why a job waits, in Slurm's one word and in a sentence that a user understands; and its story."""

from __future__ import annotations

from collections.abc import Callable

from qpud.core.bars import bar, begun
from qpud.core.book import Book, Flight
from qpud.core.job import Job, JobState, Reason
from qpud.core.plan import BLOCKING, preempts
from qpud.core.policy import Policy
from qpud.core.reservations import moment
from qpud.core.verbs import LogLine, SliceView

Condition = Callable[[Job], bool]

_OWN = {
    Reason.VALIDATING: "its sequence is being checked, it starts after a good verdict",
    Reason.HELD: "it is held by its user: release it with `qpud release`",
    Reason.HELD_ADMIN: "it is held by an administrator",
    Reason.CANCELING: "it was asked to stop, the slice in flight is ending",
}


def reason(job: Job, book: Book, now: float) -> Reason:
    """The one word for why an unfinished job waits now; empty while it has the resource."""
    flight = book.flights.get(job.resource)
    if job.reason in BLOCKING and not (job.reason is Reason.VALIDATING and _starts_nothing(flight)):
        return job.reason
    if flight is None:
        return Reason.DOWN
    if flight.state == "unreachable":
        return Reason.UNKNOWN
    if flight.job_id == job.id:
        return Reason.NONE
    return _reason_outside(job, book, flight, now)


def _starts_nothing(flight: Flight | None) -> bool:
    """Whether the resource itself is what a job waits for: a verdict would not help."""
    return flight is None or flight.drained is not None or flight.state != "up"


def _reason_outside(job: Job, book: Book, flight: Flight, now: float) -> Reason:
    if flight.shown_state != "up":
        return Reason.DRAINED if flight.shown_state == "drained" else Reason.DOWN
    return bar(book, job, now) or _reason_in_turn(job, book)


def _reason_in_turn(job: Job, book: Book) -> Reason:
    order, current = book.pending[job.resource], book.current(job.resource)
    if job.state is JobState.RUNNING and current is not None and order.tier_of(current) > order.tier_of(job):
        return Reason.PREEMPTED
    if order.head() == job.id:
        return Reason.RESOURCES
    return Reason.SHARE if order.is_ahead(job) else Reason.PRIORITY


def sentence(job: Job, book: Book, policy: Policy, now: float, word: Reason | None = None) -> str:
    """The reason in words; `word` is the reason if it is known already."""
    word = reason(job, book, now) if word is None else word
    flight = book.flights.get(job.resource)
    if word is Reason.VALIDATING and flight is not None and flight.unchecked:
        return f"waits: its sequence cannot be checked now ({flight.unchecked}), it is tried again"
    if word in _OWN:
        return f"waits: {_OWN[word]}"
    if flight is None:
        return f"waits: resource {job.resource} is not configured any more"
    if word is Reason.NONE:
        return f"runs on {job.resource}: {job.shots_done} of {job.shots} shots done"
    if word in (Reason.RESERVED, Reason.MAX_JOBS_PER_USER):
        return f"waits: {_about_bar(word, job, book, now)}"
    if word is Reason.SHARE:
        return f"waits: its session has had its share of {job.resource} for now, others of its tier are served first"
    return f"waits: {_about_resource(word, job, flight) or _about_others(job, book, policy)}"


def _about_bar(word: Reason, job: Job, book: Book, now: float) -> str:
    if word is Reason.MAX_JOBS_PER_USER:
        number, limit = begun(book, job), book.policy.queues[job.queue].max_jobs_per_user
        session = book.sessions.get(job.session_id)
        jobs = f"{number} job{'s' * (number != 1)} of {session.user if session else 'the user'} in queue {job.queue}"
        return f"{jobs} {'has' if number == 1 else 'have'} begun, MaxJobsPerUser is {limit}"
    outlook = book.outlook(job.resource, now)
    by = outlook.window(book.sessions.get(job.session_id)).by if outlook else None
    if by is None:
        return f"{job.resource} was reserved"
    if by.starts_at <= now:
        return f"{job.resource} is reserved for {by.owners} until {moment(by.ends_at)} (reservation {by.name})"
    return f"not even one shot would end before reservation {by.name}, which begins at {moment(by.starts_at)}"


def _about_resource(word: Reason, job: Job, flight: Flight) -> str:
    more = f" ({flight.message})" if flight.message else ""
    if word is Reason.DRAINED:
        return f"{job.resource} is drained ({flight.drained})"
    if word is Reason.DOWN:
        return f"{job.resource} is down ({flight.drained})" if flight.is_down else f"{job.resource} is down{more}"
    if word is Reason.UNKNOWN:
        return f"{job.resource} does not answer{more}; what runs there is not lost"
    return ""


def _about_others(job: Job, book: Book, policy: Policy) -> str:
    order, current = book.pending[job.resource], book.current(job.resource)
    ahead = jobs_ahead(job, book, policy)
    behind = f"behind {ahead} job{'s' * (ahead != 1)} of its tier or higher" if ahead else "next in line"
    if current is None:
        return f"{behind}, {job.resource} is about to be free"
    holder = f"job {current.id} of queue {current.queue} (tier {order.tier_of(current)})"
    if _takes(job, current, book, policy):
        return f"{behind}; takes {job.resource} from {holder} at the end of the current slice"
    return f"{behind}; {holder} has {job.resource}"


def jobs_ahead(job: Job, book: Book, policy: Policy) -> int:
    """How many unfinished jobs of its tier or a higher one stand before a pending job, at most.

    Exact for the oldest of a tier; an upper bound for younger ones, since only depths are counted.
    """
    order = book.pending[job.resource]
    mine, ahead = order.tier_of(job), 0
    for (resource, queue, _state), number in book.depths.items():
        queue_policy = policy.queues.get(queue)
        if resource == job.resource and (queue_policy.priority_tier if queue_policy else 0) >= mine:
            ahead += number
    if order.head() == job.id:
        current = book.current(job.resource)
        return int(current is not None and not _takes(job, current, book, policy))
    return max(0, ahead - 1)


def _takes(job: Job, current: Job, book: Book, policy: Policy) -> bool:
    """Whether a waiting job gets the resource before the one that has it has ended."""
    order = book.pending[job.resource]
    if order.runs_whole:
        return False
    return preempts(order.tier_of(job), current, order.tier_of(current), policy.queues)


def submitted(job: Job, queue: str) -> LogLine:
    """The first line of a job's story; an administrator may have moved it to another queue since."""
    where = f"queue {queue} of {job.resource}"
    return LogLine(at=job.submitted_at, text=f"submitted to {where}: {job.shots} shots, session {job.session_id}")


def started(job: Job, now: float, previous: Job | None) -> str:
    """The sentence for a job's first slice: how long it waited, and for whom."""
    waited = f"started after {now - job.submitted_at:.1f} s in queue {job.queue}"
    if previous is None or previous.id == job.id:
        return f"{waited}: {job.resource} was free"
    return f"{waited}, behind job {previous.id} of queue {previous.queue}"


def resumed(job: Job, previous: Job) -> str:
    """The sentence for a job that gets the resource back."""
    return (
        f"goes on after job {previous.id} of queue {previous.queue}, with {job.shots_done} of {job.shots} shots done"
    )


def preempted(job: Job, newcomer: Job) -> str:
    """The sentence for a job that yields."""
    by = f"job {newcomer.id} of queue {newcomer.queue}"
    return f"preempted by {by} after {job.shots_done} of {job.shots} shots; goes on afterwards, no shot is lost"


def slice_lines(slices: list[SliceView]) -> list[LogLine]:
    """One sentence for each ended slice."""
    return [
        LogLine(at=view.ended_at, text=_slice_text(view, view.ended_at - (view.started_at or view.ended_at)))
        for view in slices
        if view.ended_at is not None
    ]


def _slice_text(view: SliceView, seconds: float) -> str:
    setup = f", {view.setup_seconds:g} s of them set-up" if view.setup_seconds else ""
    took = f"in {seconds:.3f} s ({view.qpu_seconds:g} QPU seconds{setup})"
    return f"slice {view.number}: {view.shots_done} of {view.shots} shots {took}, {view.state}"


def would_cancel(job: Job, asked_before: bool) -> str:
    """What a cancel would come to."""
    if asked_before:
        return f"job {job.id} was already asked to stop, the slice in flight is ending"
    return f"job {job.id} would be canceled: {job.shots_done} of {job.shots} shots have run"


def cancellation(found: Job, after: Job, asked_before: bool) -> str:
    """The truth about a cancel."""
    if found.is_terminal:
        return f"job {found.id} had already ended as {found.state} with {found.shots_done} of {found.shots} shots"
    if after.is_terminal and after.state is not JobState.CANCELED:  # it ended while it was asked to stop
        return cancellation(after, after, asked_before)
    ran = f"{after.shots_done} of {after.shots} shots had run"
    if after.is_terminal:
        return f"job {found.id} is canceled: {ran}, {after.shots_left} never will"
    again = "was already asked to stop" if asked_before else "is asked to stop"
    return f"job {found.id} {again}: {ran}, the slice in flight is ending"
