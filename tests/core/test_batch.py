"""What a batch is, by its jobs."""

from __future__ import annotations

import pytest

from qpud.core.batch import Batch, BatchEnd, state_of
from qpud.core.job import JobState

PENDING, RUNNING, DONE, CANCELED, ERROR = JobState


def a_batch(end: BatchEnd | None) -> Batch:
    closed_at = None if end is None else 2.0
    return Batch(
        id="b",
        session_id="s",
        user_id=1,
        resource="TWIN",
        opened_at=1.0,
        last_used_at=1.0,
        closed_at=closed_at,
        close_reason=end,
    )


@pytest.mark.parametrize(
    ("jobs", "state"),
    [((), PENDING), ((PENDING,), PENDING), ((PENDING, DONE), RUNNING), ((DONE, DONE), RUNNING), ((ERROR,), RUNNING)],
)
def test_an_open_batch_is_never_over(jobs: tuple[JobState, ...], state: JobState) -> None:
    assert state_of(a_batch(None), jobs) is state


@pytest.mark.parametrize(
    ("jobs", "state"),
    [
        ((PENDING, PENDING), PENDING),
        ((PENDING, DONE), RUNNING),
        ((RUNNING, ERROR), RUNNING),
        ((DONE, CANCELED), DONE),
        ((DONE, CANCELED, ERROR), ERROR),
        ((CANCELED, CANCELED), CANCELED),
    ],
)
def test_a_closed_batch_is_what_its_jobs_are(jobs: tuple[JobState, ...], state: JobState) -> None:
    assert state_of(a_batch(BatchEnd.COMPLETE), jobs) is state


@pytest.mark.parametrize(("end", "state"), [(BatchEnd.COMPLETE, DONE), (BatchEnd.CANCELED, CANCELED)])
def test_a_batch_that_never_had_jobs_ends_as_it_was_closed(end: BatchEnd, state: JobState) -> None:
    assert state_of(a_batch(end), ()) is state
