"""What keeps a job from starting although it may be its turn: reservations of others, MaxJobsPerUser.

Asked of each candidate at a slice boundary, so it costs the same however much waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qpud.core.job import Job, JobState, Reason
from qpud.core.limits import is_barred
from qpud.core.reservations import Outlook, Window

if TYPE_CHECKING:
    from qpud.core.book import Book
    from qpud.core.order import Admits


def admits(book: Book, resource: str, now: float) -> Admits | None:
    """Which jobs may start on a resource now; None if nothing bars any.

    Args:
        book: Everything unfinished.
        resource: Which one.
        now: Seconds since the epoch.
    """
    outlook = book.outlook(resource, now)
    is_limited = any(queue.max_jobs_per_user is not None for queue in book.policy.queues.values())
    if outlook is None and not is_limited:
        return None
    return lambda job: _bar(book, job, outlook) is Reason.NONE


def bar(book: Book, job: Job, now: float) -> Reason:
    """What bars a job from its resource now; Reason.NONE: nothing of what this module knows."""
    return _bar(book, job, book.outlook(job.resource, now))


def _bar(book: Book, job: Job, outlook: Outlook | None) -> Reason:
    if outlook is not None and shots_before(book, job, outlook.window(book.sessions.get(job.session_id))) == 0:
        return Reason.RESERVED
    queue = book.policy.queues.get(job.queue)
    if queue is None or queue.max_jobs_per_user is None:  # most often: nothing is to be counted
        return Reason.NONE
    return Reason.MAX_JOBS_PER_USER if is_barred(job, begun(book, job), book.policy) else Reason.NONE


def freed(book: Book, ended: Job) -> list[str]:
    """The resources on which others may begin now that a job has ended: all, where MaxJobsPerUser counted it."""
    queue = book.policy.queues.get(ended.queue)
    return [] if queue is None or queue.max_jobs_per_user is None else list(book.flights)


def begun(book: Book, job: Job) -> int:
    """Jobs of a job's user in its queue that have begun, or are about to on some resource, without itself."""
    claimed = (book.jobs.get(flight.job_id or 0) for flight in book.flights.values())
    about_to = sum(
        other is not None
        and other.state is JobState.PENDING
        and (other.user_id, other.queue) == (job.user_id, job.queue)
        and other.id != job.id
        for other in claimed
    )
    return book.tally.begun(job.user_id, job.queue) + about_to - (job.state is JobState.RUNNING)


def shots_before(book: Book, job: Job, window: Window) -> int | None:
    """How many shots of a job end before a window does, set-up included; None if nothing limits them."""
    if window.seconds is None:
        return None
    flight, policy = book.flights[job.resource], book.policy.resources.get(job.resource)
    setup = flight.pace.setup_seconds if flight.register != job.register_hash else 0.0
    return flight.pace.shots_in(window.seconds * (policy.speed_up if policy else 1.0) - setup)
