"""The book: whatever happened, its counts and queues are what a recount of its jobs gives."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from qpud.core.book import Book
from qpud.core.job import TERMINAL, TRANSITIONS, Job, JobState, Reason, move
from qpud.core.plan import may_run, rank, tier
from qpud.core.slices import Slice
from tests.core.builders import QUEUES, a_job, a_policy, a_session, running

REASONS = (Reason.NONE, Reason.HELD, Reason.CANCELING, Reason.VALIDATING)


class Bookkeeping(RuleBasedStateMachine):
    """Any order of what service and scheduler do."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book(a_policy())
        self.last = 0

    def some_job(self, number: int) -> Job | None:
        jobs = list(self.book.jobs.values())
        return jobs[number % len(jobs)] if jobs else None

    @rule(queue=st.sampled_from(sorted(QUEUES)), reason=st.sampled_from(REASONS), session=st.sampled_from("ab"))
    def add(self, queue: str, reason: Reason, session: str) -> None:
        self.last += 1
        self.book.add_job(a_job(self.last, queue, reason=reason, session_id=session))

    @rule(number=st.integers(0, 99), reason=st.sampled_from(REASONS))
    def change_reason(self, number: int, reason: Reason) -> None:
        if (job := self.some_job(number)) is not None:
            self.book.update_job(msgspec.structs.replace(job, reason=reason))

    @rule(number=st.integers(0, 99), state=st.sampled_from(sorted(JobState)))
    def change_state(self, number: int, state: JobState) -> None:
        job = self.some_job(number)
        if job is not None and state in TRANSITIONS[job.state]:
            self.book.update_job(move(job, state, Reason.NONE, 9.0))

    @rule(takes=st.booleans())
    def boundary(self, takes: bool) -> None:
        head = self.book.head("TWIN") if takes else None
        self.book.claim("TWIN", head.id if head else None)
        self.book.leave("TWIN")

    @rule()
    def boundary_that_is_given_up(self) -> None:
        if (head := self.book.head("TWIN")) is not None:
            self.book.claim("TWIN", head.id)
            self.book.give_up("TWIN")
            self.book.leave("TWIN")

    @rule()
    def reload(self) -> None:
        self.book.reorder(a_policy())

    @invariant()
    def depths_are_a_recount(self) -> None:
        recount = Counter((job.resource, job.queue, job.state) for job in self.book.jobs.values())
        assert +self.book.depths == recount

    @invariant()
    def queues_are_a_recount(self) -> None:
        jobs = sorted(self.book.jobs.values(), key=lambda job: rank(job, QUEUES))
        free = [job.id for job in jobs if may_run(job) and not self.book.has_resource(job)]
        order = self.book.pending["TWIN"].in_order(1000)
        assert sorted(order) == sorted(free)
        tiers = [tier(self.book.jobs[job_id], QUEUES) for job_id in order]
        assert tiers == sorted(tiers, reverse=True)
        assert self.book.unvalidated["TWIN"].in_order(1000) == [
            job.id for job in jobs if job.reason is Reason.VALIDATING
        ]

    @invariant()
    def sessions_know_their_jobs(self) -> None:
        for session in "ab":
            mine = [job.id for job in self.book.jobs.values() if job.session_id == session]
            assert [job.id for job in self.book.jobs_of_session(session)] == mine
            assert self.book.has_unfinished(session) == bool(mine)

    @invariant()
    def only_unfinished_jobs_are_kept(self) -> None:
        assert not [job for job in self.book.jobs.values() if job.state in TERMINAL]
        assert self.book.stopping.keys() <= self.book.jobs.keys()


Bookkeeping.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestBookkeeping = Bookkeeping.TestCase


def a_book(*jobs: Job) -> Book:
    book = Book(a_policy())
    for job in jobs:
        book.add_job(job)
    return book


def test_a_claimed_job_leaves_the_queue() -> None:
    book = a_book(a_job(1), a_job(2))
    book.claim("TWIN", 1)
    assert book.head("TWIN") == a_job(2)


def test_a_leaving_job_is_queued_again_only_when_its_end_is_committed() -> None:
    book = a_book(running(1))
    book.claim("TWIN", 1)
    book.claim("TWIN", None)
    assert book.head("TWIN") is None
    assert book.has_resource(book.jobs[1])
    book.leave("TWIN")
    assert book.head("TWIN") == running(1)


def test_giving_up_a_claim_leaves_the_leaving_job_protected() -> None:
    book = a_book(running(1), a_job(2, "production"))
    book.claim("TWIN", 1)
    book.claim("TWIN", 2)
    book.give_up("TWIN")
    assert book.has_resource(book.jobs[1])
    assert book.head("TWIN") == a_job(2, "production")


def test_a_job_asked_to_stop_is_stranded_once_the_resource_has_lost_it() -> None:
    book = a_book(running(1, reason=Reason.CANCELING))
    book.claim("TWIN", 1)
    assert book.stranded("TWIN") == []
    book.claim("TWIN", None)
    assert book.stranded("TWIN") == []
    book.leave("TWIN")
    assert [job.id for job in book.stranded("TWIN")] == [1]


def a_slice(resource: str, job_id: int = 1) -> Slice:
    return Slice(
        id=1, job_id=job_id, number=0, resource=resource, tag="t", shots=1, first_shot=0, seed=1, intended_at=1.0
    )


def test_a_slice_left_in_flight_claims_its_resource() -> None:
    book = a_book(running(1))
    book.add_slice(a_slice("TWIN"))
    assert book.current("TWIN") == running(1)
    assert book.head("TWIN") is None


def test_a_slice_at_a_resource_that_left_the_policy_keeps_its_job_from_ending_at_once() -> None:
    book = a_book(running(1, resource="GONE"))
    book.add_slice(a_slice("GONE"))
    assert book.has_resource(book.jobs[1])


def test_a_closed_session_takes_its_tokens_along() -> None:
    book = a_book()
    book.add_session(a_session(slurm_job_id="7"))
    book.tokens[b"t"] = "s1"
    book.remove_session("s1")
    assert (book.tokens, book.session_of(1001, "7")) == ({}, None)


def test_jobs_of_an_ended_session_are_orphans() -> None:
    book = a_book(a_job(1))
    assert book.orphaned() == ["s1"]
    book.add_session(a_session())
    assert book.orphaned() == []
