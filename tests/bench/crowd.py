"""100 000 pending jobs of 500 users: a decision, the forecasts of all, and that of a submission.

    python tests/bench/crowd.py [--jobs N] [--users N]

The very code that the daemon runs, in this process. A submission's forecast includes the survey of the queue when one
is due, and the headers of the answer. Times are CPU times of this thread: it waits for nothing.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec
from scale import line

from qpud.api.forecasts import headers
from qpud.core import turns
from qpud.core.book import Book
from qpud.core.forecast import Prospect
from qpud.core.forecaster import Forecaster
from qpud.core.job import Job
from qpud.core.policy import default_policy
from qpud.core.session import Session

RESOURCE = "FRESNEL"
SUBMISSIONS = 5000
PER_SECOND = 5000.0  # so that a survey is due as often as in the daemon


def a_session(user: int, queue: str) -> Session:
    times = {"opened_at": 0.0, "last_used_at": 0.0, "expires_at": 1e12}
    return Session(id=f"s{user}", user_id=user, user=f"u{user}", queue=queue, share=1 + user % 10, **times)


def a_job(job_id: int, book: Book, user: int, now: float) -> Job:
    names = {"uid": "", "sequence_hash": "", "register_hash": str(job_id % 7), "resource": RESOURCE}
    queue = book.sessions[f"s{user}"].queue
    return Job(id=job_id, session_id=f"s{user}", user_id=user, queue=queue, shots=100, submitted_at=now, **names)


def filled(scheduler: str, number: int, users: int) -> tuple[Book, Callable[[float], Job]]:
    policy = default_policy()
    daemon = msgspec.structs.replace(policy.daemon, scheduler_type=scheduler)
    book = Book(msgspec.structs.replace(policy, daemon=daemon))
    queues, dice, ids = tuple(policy.queues), random.Random(1), itertools.count(1)
    for user in range(users):
        book.add_session(a_session(user, queues[user % len(queues)]))

    def submit(now: float) -> Job:
        job = a_job(next(ids), book, dice.randrange(users), now)
        book.add_job(job)
        return job

    for at in range(number):
        submit(at * 0.01)
    return book, submit


def timed(action: Callable[[], Any]) -> float:
    began = time.thread_time()
    action()
    return time.thread_time() - began


def decisions(book: Book, now: float) -> list[float]:
    """Seconds of 1000 decisions, each for the next slice of another job."""

    def decide() -> None:
        choice = turns.decide(book, RESOURCE, None, now, int)
        assert choice is not None
        book.claim(RESOURCE, choice.job.id)

    times = []
    for _ in range(1000):
        times.append(timed(decide))
        book.leave(RESOURCE)
    return times


def measure(scheduler: str, number: int, users: int) -> list[bool]:
    book, submit = filled(scheduler, number, users)
    now = number * 0.01
    gc.collect()  # as the daemon does when it has loaded what an earlier one left
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    survey = min(timed(lambda: Prospect(book, RESOURCE, now)) for _ in range(5))
    whole = min(timed(Prospect(book, RESOURCE, now).all) for _ in range(3))
    forecaster, times = Forecaster(book), []
    for _ in range(SUBMISSIONS):
        now += 1 / PER_SECOND
        job = submit(now)

        def foresee(job: Job = job, now: float = now) -> None:
            forecaster.promise(job, now)
            headers([forecaster.at_submission(job, now)])

        times.append(timed(foresee))
    return [
        line(f"{scheduler}: a decision, slowest of 1000", 1e3 * max(decisions(book, now)), "ms", 1),
        line(f"{scheduler}: all {number} forecasts", whole, "s", 2),
        line(f"{scheduler}: survey of {users} users", 1e3 * survey, "ms", 10),
        line(f"{scheduler}: a submission's forecast, median", 1e6 * statistics.median(times), "µs", 50),
        line(f"{scheduler}: the same, slowest of {SUBMISSIONS}", 1e3 * max(times), "ms", 5),
    ]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, default=100_000)
    options.add_argument("--users", type=int, default=500)
    asked = options.parse_args()
    good = [one for scheduler in ("share", "priority") for one in measure(scheduler, asked.jobs, asked.users)]
    return int(not all(good))


if __name__ == "__main__":
    raise SystemExit(main())
