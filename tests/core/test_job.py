"""Jobs, their ids, their sessions, and the sentences about them."""

from __future__ import annotations

import itertools
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpud.core import explain
from qpud.core.book import Book
from qpud.core.errors import Conflict
from qpud.core.ids import LARGEST_JOB_ID, job_id_of, job_uid
from qpud.core.job import TERMINAL, TRANSITIONS, Job, JobState, Reason, move
from qpud.core.session import FINISHED_SECONDS, CloseReason, expiry, idle_deadline
from tests.core.builders import a_job, a_policy, a_session, running

PENDING, RUNNING, DONE = JobState.PENDING, JobState.RUNNING, JobState.DONE
IDS = st.integers(1, LARGEST_JOB_ID)


# -- transitions
@pytest.mark.parametrize(("state", "after"), list(itertools.product(sorted(TERMINAL), JobState)))
def test_terminal_states_have_no_exit(state: JobState, after: JobState) -> None:
    with pytest.raises(Conflict, match=f"job 1 is {state} and cannot become {after}"):
        move(a_job(state=state), after, Reason.NONE, 5.0)


def test_every_state_says_where_it_leads() -> None:
    assert set(TRANSITIONS) == set(JobState)


def test_only_the_first_start_counts() -> None:
    assert move(a_job(), RUNNING, Reason.NONE, 5.0).started_at == 5.0


def test_a_job_is_done_only_after_it_ran() -> None:
    with pytest.raises(Conflict):
        move(a_job(), DONE, Reason.NONE, 5.0)


@pytest.mark.parametrize("state", sorted(TRANSITIONS[RUNNING]))
def test_ends_have_a_time(state: JobState) -> None:
    assert move(running(), state, Reason.NONE, 5.0).ended_at == 5.0


# -- ids
@given(IDS, st.integers(0, 2**90 - 1))
def test_an_id_comes_back_from_its_uuid_and_from_its_digits(job_id: int, randomness: int) -> None:
    uid = job_uid(job_id, randomness)
    assert job_id_of(uid) == job_id_of(uid.upper()) == job_id_of(str(job_id)) == job_id


@given(IDS, st.integers(0, 2**90 - 1))
def test_uuids_are_what_rfc_9562_says(job_id: int, randomness: int) -> None:
    parsed = uuid.UUID(job_uid(job_id, randomness))
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)


def test_all_ninety_bits_are_in_the_uuid() -> None:
    assert len({job_uid(1, 1 << bit) for bit in range(90)} | {job_uid(1, 0)}) == 91


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "0",
        "-1",
        "+1",
        "1 ",
        "1.0",
        "1e3",
        "²",
        "٣",
        "2147483648",
        "99999999999",
        "x" * 36,
        "1" * 5000,
        str(uuid.UUID(int=5, version=4)),
        "{00000001-0000-8000-8000-000000000000}",
        "00000001000080008000000000000000",
    ],
)
def test_what_is_no_id_is_none(ref: str) -> None:
    assert job_id_of(ref) is None


@given(st.text(max_size=40))
def test_any_text_is_an_id_in_range_or_none(ref: str) -> None:
    found = job_id_of(ref)
    assert found is None or 0 <= found < 2**32


# -- sessions
@pytest.mark.parametrize(
    ("unfinished", "now", "reason"),
    [
        (False, 99.0, None),
        (False, 100.0, CloseReason.IDLE),
        (True, 100.0, None),
        (True, 1000.0, CloseReason.LIFETIME),
        (False, 1000.0, CloseReason.LIFETIME),
    ],
)
def test_a_session_expires_when_idle_or_old(unfinished: bool, now: float, reason: CloseReason | None) -> None:
    assert expiry(a_session(), unfinished, 100.0, now) is reason


def test_a_session_that_slurm_vouched_for_is_never_idle_and_ends_with_its_lease() -> None:
    session = a_session(slurm_started_at=0.0)
    assert expiry(session, False, 100.0, 999.0) is None
    assert idle_deadline(session, 100.0) == session.expires_at
    assert expiry(session, False, 100.0, session.expires_at) is CloseReason.LIFETIME


# -- sentences
def a_book(*jobs: Job) -> Book:
    book = Book(a_policy())
    for job in jobs:
        book.add_job(job)
    return book


def said(book: Book, job_id: int) -> tuple[Reason, str]:
    job = book.jobs[job_id]
    return explain.reason(job, book, 100.0), explain.sentence(job, book, a_policy(), 100.0)


def test_a_verdict_is_not_what_a_job_waits_for_while_its_resource_starts_nothing() -> None:
    book = a_book(a_job(reason=Reason.VALIDATING))
    book.flights["TWIN"].drained = "laser"
    assert said(book, 1) == (Reason.DRAINED, "waits: TWIN is drained (laser)")


@pytest.mark.parametrize("reason", [Reason.HELD, Reason.HELD_ADMIN, Reason.CANCELING])
def test_a_reason_of_the_job_itself_is_said_first(reason: Reason) -> None:
    book = a_book(a_job(reason=reason))
    book.flights["TWIN"].drained = "laser"
    word, text = said(book, 1)
    assert word is reason
    assert text.startswith("waits: it")


def test_a_job_that_has_the_resource_runs() -> None:
    book = a_book(running(shots_done=3))
    book.claim("TWIN", 1)
    assert said(book, 1) == (Reason.NONE, "runs on TWIN: 3 of 10 shots done")


def test_a_job_at_a_drained_resource_hears_why() -> None:
    book = a_book(a_job())
    book.flights["TWIN"].drained = "laser service"
    assert said(book, 1) == (Reason.DRAINED, "waits: TWIN is drained (laser service)")


@pytest.mark.parametrize(
    ("state", "word", "text"),
    [
        ("down", Reason.DOWN, "waits: TWIN is down (calibrating)"),
        (
            "unreachable",
            Reason.UNKNOWN,
            "waits: TWIN does not answer (calibrating); what runs there is not lost",
        ),
    ],
)
def test_a_job_at_a_resource_that_is_away_hears_how(state: str, word: Reason, text: str) -> None:
    book = a_book(a_job())
    book.flights["TWIN"].state, book.flights["TWIN"].message = state, "calibrating"
    assert said(book, 1) == (word, text)


def test_a_job_of_a_resource_that_left_the_policy_hears_it() -> None:
    book = a_book(a_job(resource="GONE"))
    assert said(book, 1) == (Reason.DOWN, "waits: resource GONE is not configured any more")


def test_the_next_in_line_hears_who_has_the_resource() -> None:
    book = a_book(running(1), a_job(2))
    book.claim("TWIN", 1)
    word, text = said(book, 2)
    assert word is Reason.RESOURCES
    assert text.endswith("job 1 of queue development (tier 10) has TWIN")


def test_a_production_job_hears_that_it_takes_over() -> None:
    book = a_book(running(1), a_job(2, "production"))
    book.claim("TWIN", 1)
    assert said(book, 2) == (
        Reason.RESOURCES,
        "waits: next in line; takes TWIN from job 1 of queue development (tier 10) at the end of the current slice",
    )


def test_a_job_further_back_waits_for_its_priority() -> None:
    book = a_book(running(1, "production"), a_job(2, "test"), a_job(3))
    book.claim("TWIN", 1)
    word, text = said(book, 3)
    assert word is Reason.PRIORITY
    assert "behind 2 jobs of its tier or higher" in text


def test_a_preempted_job_says_so() -> None:
    book = a_book(running(1, shots_done=3), running(2, "production"))
    book.claim("TWIN", 2)
    assert said(book, 1)[0] is Reason.PREEMPTED


@pytest.mark.parametrize(
    ("found", "after", "asked", "text"),
    [
        (
            a_job(state=DONE, shots_done=10),
            a_job(state=DONE, shots_done=10),
            False,
            "job 1 had already ended as DONE with 10 of 10 shots",
        ),
        (
            running(),
            a_job(state=JobState.CANCELED, shots_done=3),
            False,
            "job 1 is canceled: 3 of 10 shots had run, 7 never will",
        ),
        (
            running(),
            a_job(state=DONE, shots_done=10),
            False,
            "job 1 had already ended as DONE with 10 of 10 shots",
        ),
        (running(), running(), False, "job 1 is asked to stop: 0 of 10 shots had run, the slice in flight is ending"),
        (
            running(),
            running(),
            True,
            "job 1 was already asked to stop: 0 of 10 shots had run, the slice in flight is ending",
        ),
    ],
)
def test_a_cancel_is_answered_with_the_truth(found: Job, after: Job, asked: bool, text: str) -> None:
    assert explain.cancellation(found, after, asked) == text


def test_a_session_that_only_finishes_ends_a_minute_after_its_last_job() -> None:
    after = a_session(slurm_job_id="after-4242")
    ends = after.last_used_at + FINISHED_SECONDS
    assert expiry(after, False, 3600.0, ends - 1) is None
    assert expiry(after, False, 3600.0, ends) is CloseReason.IDLE
    assert expiry(after, True, 3600.0, ends) is None
