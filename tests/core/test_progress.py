"""What an ended slice means for its job."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpud.core.job import JobState, Reason
from qpud.core.progress import LARGEST_ATTEMPTS, after_slice, checked
from qpud.core.slices import OutcomeState, merge_counts
from tests.core.builders import an_outcome, running

FAILED, STOPPED = OutcomeState.FAILED, OutcomeState.CANCELED


def test_the_last_shot_ends_the_job() -> None:
    verdict = after_slice(running(shots_done=7), an_outcome({"01": 3}), 0, None, 9.0)
    assert (verdict.job.state, verdict.job.shots_done, verdict.job.ended_at) == (JobState.DONE, 10, 9.0)


def test_a_job_with_shots_left_goes_on() -> None:
    verdict = after_slice(running(), an_outcome({"01": 3}), 0, None, 9.0)
    assert (verdict.job.state, verdict.job.shots_done, verdict.fruitless) == (JobState.RUNNING, 3, False)


def test_a_job_that_is_complete_is_done_even_if_it_was_asked_to_stop() -> None:
    verdict = after_slice(running(reason=Reason.CANCELING), an_outcome({"0": 10}), 0, Reason.USER, 9.0)
    assert verdict.job.state is JobState.DONE


@pytest.mark.parametrize("why", [Reason.USER, Reason.ADMIN, Reason.SESSION_CLOSED, Reason.SESSION_EXPIRED])
def test_a_job_asked_to_stop_keeps_its_shots_and_the_reason(why: Reason) -> None:
    verdict = after_slice(running(reason=Reason.CANCELING), an_outcome({"0": 4}, STOPPED), 0, why, 9.0)
    assert (verdict.job.state, verdict.job.reason, verdict.job.shots_done) == (JobState.CANCELED, why, 4)
    assert verdict.message == "canceled after 4 of 10 shots"


def test_a_failure_for_good_ends_the_job_with_the_resources_words() -> None:
    verdict = after_slice(running(), an_outcome({}, FAILED, message="out of memory"), 0, None, 9.0)
    assert (verdict.job.state, verdict.job.reason, verdict.message) == (JobState.ERROR, Reason.FAULT, "out of memory")


def test_a_passing_failure_is_tried_again() -> None:
    verdict = after_slice(running(), an_outcome({}, FAILED, transient=True), 0, None, 9.0)
    assert (verdict.job.state, verdict.fruitless) == (JobState.RUNNING, True)


@pytest.mark.parametrize("state", list(OutcomeState))
def test_slices_without_a_shot_end_the_job_at_the_third_in_a_row(state: OutcomeState) -> None:
    outcome = an_outcome({}, state, transient=True, message="dark")
    verdict = after_slice(running(), outcome, LARGEST_ATTEMPTS - 1, None, 9.0)
    assert verdict.job.state is JobState.ERROR
    assert "3 slices in a row brought no shot, the last one said: dark" in verdict.message


def test_a_slice_with_some_shots_is_no_fruitless_attempt_even_if_it_failed() -> None:
    outcome = an_outcome({"0": 1}, FAILED, transient=True)
    assert not after_slice(running(), outcome, LARGEST_ATTEMPTS - 1, None, 9.0).fruitless


GARBAGE: list[Any] = [
    None,
    [1],
    "01",
    {"2": 1},
    {"": 1},
    {0: 1},
    {"0": 1.0},
    {"0": True},
    {"0": -1},
    {"0": "1"},
    {"0": 11},
    {"0": 6, "1": 5},
    {"0": 1, "01": 1},
    {" 0": 1},
]


@pytest.mark.parametrize("counts", GARBAGE, ids=repr)
def test_impossible_counts_are_dropped_and_charged_to_nobody(counts: Any) -> None:
    outcome = checked(an_outcome(counts if counts is not None else 5, qpu_seconds=3.0, setup_seconds=1.0), 10)
    assert (outcome.state, outcome.counts, outcome.qpu_seconds, outcome.setup_seconds) == (FAILED, {}, 0.0, 0.0)
    assert outcome.transient
    assert "impossible counts" in outcome.message


@given(
    st.one_of(
        st.dictionaries(st.text("01", max_size=3) | st.integers() | st.text(max_size=2), st.integers() | st.floats()),
        st.none() | st.integers() | st.lists(st.integers()),
    )
)
def test_whatever_a_driver_reports_the_shots_stay_within_what_was_asked(counts: Any) -> None:
    outcome = checked(an_outcome(0 if counts is None else counts), 10)
    assert 0 <= sum(outcome.counts.values()) <= 10


def test_bitstrings_of_another_number_of_atoms_are_impossible() -> None:
    assert "3 bits for 2 atoms" in checked(an_outcome({"010": 1}), 10, 2).message
    assert checked(an_outcome({"010": 1}), 10, 3).counts == {"010": 1}


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -1.0])
def test_an_impossible_cost_is_none_and_the_counts_stay(cost: float) -> None:
    outcome = checked(an_outcome({"01": 1}, qpu_seconds=cost), 10)
    assert (outcome.qpu_seconds, outcome.counts) == (0.0, {"01": 1})


def test_fewer_shots_than_asked_are_no_garbage() -> None:
    assert checked(an_outcome({"01": 3}), 10).counts == {"01": 3}


@given(st.lists(st.dictionaries(st.text("01", min_size=2, max_size=2), st.integers(0, 1000)), max_size=5))
def test_merged_counts_are_the_sum_in_any_order(parts: list[dict[str, int]]) -> None:
    forward: dict[str, int] = {}
    backward: dict[str, int] = {}
    for part, reverse in zip(parts, reversed(parts), strict=True):
        forward, backward = merge_counts(forward, part), merge_counts(backward, reverse)
    assert forward == backward
    assert sum(forward.values()) == sum(sum(part.values()) for part in parts)
