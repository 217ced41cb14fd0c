"""Where the time went: every second of a job is in one phase, and what lies between jobs is classical."""

from __future__ import annotations

from typing import Any

import pytest

from qpud.core.profile import JobTimes, Profile, SliceTimes, profile


def a_slice(number: int, intended: float, started: float | None, ended: float | None, **changes: Any) -> SliceTimes:
    facts = {"job_id": 1, "shots": 10, "shots_done": 10, "state": "DONE", "qpu_seconds": 0.0, "setup_seconds": 0.0}
    return SliceTimes(number=number, intended_at=intended, started_at=started, ended_at=ended, **{**facts, **changes})


def a_job(number: int = 1, submitted: float = 10.0, ended: float | None = 30.0, *slices: SliceTimes) -> JobTimes:
    return JobTimes(
        id=number,
        session_id="s",
        name=None,
        resource="QPU",
        state="DONE",
        shots_done=10,
        submitted_at=submitted,
        ended_at=ended,
        check_seconds=1.0,
        slices=slices,
    )


def phases(found: Profile) -> list[tuple[str, float, float]]:
    return [(span.phase, span.start, span.seconds) for span in found.spans]


def test_every_second_of_a_job_is_in_one_phase():
    first = a_slice(0, 12.0, 13.0, 18.0, qpu_seconds=500.0, setup_seconds=200.0)
    second = a_slice(1, 24.0, 24.0, 29.0, qpu_seconds=500.0)
    found = profile([a_job(1, 10.0, 30.0, first, second)], now=99.0)
    assert phases(found) == [
        ("validation", 9.0, 1.0),
        ("queue", 10.0, 2.0),
        ("transfer", 12.0, 1.0),
        ("set-up", 13.0, 2.0),
        ("shots", 15.0, 3.0),
        ("queue", 18.0, 6.0),
        ("shots", 24.0, 5.0),
        ("transfer", 29.0, 1.0),
    ]
    assert sum(found.totals.values()) == found.ended - found.began == 21.0


def test_a_clock_that_is_ahead_makes_no_negative_phase():
    found = profile([a_job(1, 10.0, 20.0, a_slice(0, 12.0, 5.0, 25.0))], now=99.0)
    assert all(seconds > 0 for _, _, seconds in phases(found))
    assert found.totals["shots"] == 13.0


def test_a_job_that_waits_is_in_the_queue_until_now():
    assert profile([a_job(1, 10.0, None)], now=15.0).totals["queue"] == 5.0


def test_a_slice_in_flight_makes_shots_until_now():
    found = profile([a_job(1, 10.0, None, a_slice(0, 10.0, 11.0, None, state="RUNNING"))], now=15.0)
    assert (found.totals["transfer"], found.totals["shots"]) == (1.0, 4.0)


def test_a_slice_that_never_started_is_waiting():
    refused = a_slice(0, 11.0, None, 12.0, state="FAILED")
    found = profile([a_job(1, 10.0, 20.0, refused, a_slice(1, 15.0, 15.0, 20.0))], now=99.0)
    assert (found.totals["queue"], found.totals["shots"]) == (5.0, 5.0)


def test_what_lies_between_the_jobs_of_a_session_is_classical():
    jobs = [a_job(1, 10.0, 20.0), a_job(2, 15.0, 22.0), a_job(3, 30.0, 35.0)]
    found = profile(jobs, now=99.0, opened_at=5.0, closed_at=40.0)
    classical = [(start, seconds) for phase, start, seconds in phases(found) if phase == "classical"]
    assert classical == [(5.0, 4.0), (22.0, 7.0), (35.0, 5.0)]


@pytest.mark.parametrize("closed_at", [None, 12.0])
def test_a_session_without_jobs_was_classical(closed_at: float | None):
    found = profile([], now=12.0, opened_at=5.0, closed_at=closed_at)
    assert found.totals["classical"] == 7.0
