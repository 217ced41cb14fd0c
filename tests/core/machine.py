"""A resource in virtual time, driven by the boundary of core: what the scheduler does, without a clock."""

from __future__ import annotations

from typing import Any

import msgspec

from qpud.core.book import Book
from qpud.core.job import Job, Reason
from qpud.core.policy import Policy
from qpud.core.session import Session
from qpud.core.slices import Outcome, OutcomeState, Slice
from qpud.core.turns import Choice, Landing, begin, decide, interruption, land
from tests.core.builders import a_job, a_policy, a_session

RESOURCE = "TWIN"


class Machine:
    """One resource: `step` runs one slice to its end, or to its cut.

    Args:
        policy: In force.
        rate: Shots per second.
        setup: Seconds of a register change.
    """

    def __init__(self, policy: Policy | None = None, rate: float = 1.0, setup: float = 0.0, rule: Any = None) -> None:
        self.book = Book(policy or a_policy(), rule)
        self.rate = rate
        self.setup = setup
        self.now = 1.0
        self.slices: list[tuple[int, int]] = []  # (job, shots) in the order they ran
        self.landings: list[Landing] = []
        self.choices: list[Choice] = []
        self.started: dict[int, float] = {}  # job → when
        self.current: Job | None = None
        self._register: str | None = None
        self._last = 0
        flight = self.book.flights[RESOURCE]
        flight.pace.shot_rate, flight.pace.setup_seconds = rate, setup

    def session(self, name: str, **changes: Any) -> Session:
        session = a_session(**{"id": name, "user": name, "opened_at": self.now, **changes})
        self.book.add_session(session)
        return session

    def submit(self, session: str, shots: int, queue: str | None = None, **changes: Any) -> Job:
        self._last += 1
        queue = queue or self.book.sessions[session].queue
        values = {"session_id": session, "shots": shots, "submitted_at": self.now, "register_hash": "r", **changes}
        job = a_job(self._last, queue, **values)
        self.book.add_job(job)
        return job

    def decide(self) -> Choice | None:
        return decide(self.book, RESOURCE, self.current, self.now, lambda seconds: int(seconds * self.rate))

    def step(self, *, arrive: Any = None, after: float = 0.0) -> Choice | None:
        """Run the next slice; `arrive` is called `after` seconds into it, and may bring what cuts it."""
        choice = self.decide()
        self.book.claim(RESOURCE, choice.job.id if choice else None)
        self.book.leave(RESOURCE)
        if choice is None:
            self.current = None
            return None
        job = begin(self.book, RESOURCE, choice.job.id, self.now)
        self.started.setdefault(job.id, self.now)
        setup = self.setup if job.register_hash != self._register else 0.0
        self._register = job.register_hash
        began, ends = self.now, self.now + setup + choice.shots / self.rate
        is_cut = False
        if arrive is not None:
            self.now = began + after
            arrive()
            cut = interruption(self.book, RESOURCE, self.now)
            if cut is not None and cut.at < ends:
                ends, is_cut = max(cut.at, self.now), True
        self.now = ends
        self._land(job, choice, began, setup, is_cut)
        return choice

    def _land(self, job: Job, choice: Choice, began: float, setup: float, is_cut: bool) -> None:
        outcome = Outcome(
            state=OutcomeState.CANCELED if is_cut else OutcomeState.DONE,
            counts={} if is_cut else {"0": choice.shots},
            started_at=began,
            ended_at=self.now,
            qpu_seconds=self.now - began,
            setup_seconds=setup,
        )
        landing = self.landed(job, choice.shots, outcome, is_cut=is_cut)
        self.slices.append((job.id, 0 if is_cut else choice.shots))
        self.landings.append(landing)
        self.choices.append(choice)
        self.book.update_job(landing.verdict.job)
        self.current = None if landing.verdict.job.is_terminal else self.book.jobs[job.id]

    def landed(self, job: Job, shots: int, outcome: Outcome, is_cut: bool = False) -> Landing:
        number = len(self.slices)
        ended = Slice(
            id=number + 1, job_id=job.id, number=number, resource=RESOURCE, tag=f"t{number}", shots=shots,
            first_shot=job.shots_done, seed=0, intended_at=self.now,
        )  # fmt: skip
        return land(self.book, ended, outcome, attempts=0, stopping=Reason.USER, now=self.now, is_cut=is_cut)

    def run(self, steps: int = 1000) -> list[tuple[int, int]]:
        """Step until nothing is left, at most so many times."""
        for _ in range(steps):
            if self.step() is None:
                break
        return self.slices


def changed(policy: Policy, queue: str | None = None, **changes: Any) -> Policy:
    """A policy with other keys, of a queue or of [qpud]."""
    if queue is None:
        return msgspec.structs.replace(policy, daemon=msgspec.structs.replace(policy.daemon, **changes))
    one = msgspec.structs.replace(policy.queues[queue], **changes)
    return msgspec.structs.replace(policy, queues={**policy.queues, queue: one})
