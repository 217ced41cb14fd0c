"""The rules that every scheduler obeys: who may run, in which tier a job stands, who may be preempted."""

from __future__ import annotations

import msgspec
import pytest

from qpud.core.job import Job, JobState, Reason
from qpud.core.plan import may_run, preempts, rank
from qpud.core.terms import PreemptMode
from tests.core.builders import QUEUES, a_job, running


def in_order(*jobs: Job) -> list[int]:
    return [job.id for job in sorted(jobs, key=lambda job: rank(job, QUEUES))]


def test_verdicts_of_a_higher_tier_go_before_those_of_an_older_job() -> None:
    assert in_order(a_job(1), a_job(2, "test"), a_job(3, "production")) == [3, 2, 1]


def test_in_one_tier_the_older_job_goes_first() -> None:
    assert in_order(a_job(1, submitted_at=5.0), a_job(2, submitted_at=4.0)) == [2, 1]


def test_jobs_of_one_moment_go_in_the_order_of_their_ids() -> None:
    assert in_order(a_job(2, submitted_at=4.0), a_job(1, submitted_at=4.0)) == [1, 2]


def test_a_job_of_a_queue_that_is_gone_goes_last() -> None:
    assert in_order(a_job(1, "gone"), a_job(2)) == [2, 1]


@pytest.mark.parametrize("newcomer", [10, 50])
def test_only_a_higher_tier_preempts(newcomer: int) -> None:
    assert not preempts(newcomer, running(1, "test"), 50, QUEUES)


@pytest.mark.parametrize("mode", [PreemptMode.SLICE, PreemptMode.REQUEUE, PreemptMode.CANCEL])
def test_a_higher_tier_preempts_where_the_queue_permits_it(mode: PreemptMode) -> None:
    queues = {**QUEUES, "test": msgspec.structs.replace(QUEUES["test"], preempt_mode=mode)}
    assert preempts(100, running(1, "test"), 50, queues)


def test_preempt_mode_off_keeps_the_resource_against_any_tier() -> None:
    assert not preempts(1000, running(1, "production"), 100, QUEUES)


@pytest.mark.parametrize("reason", [Reason.HELD, Reason.HELD_ADMIN, Reason.CANCELING, Reason.VALIDATING])
def test_a_job_that_is_kept_from_running_may_not(reason: Reason) -> None:
    assert not may_run(a_job(1, reason=reason))


@pytest.mark.parametrize("state", [JobState.DONE, JobState.CANCELED, JobState.ERROR])
def test_an_ended_job_may_not_run(state: JobState) -> None:
    assert not may_run(running(1, state=state, ended_at=5.0))


def test_a_job_without_shots_left_may_not_run() -> None:
    assert not may_run(running(1, shots_done=10))
