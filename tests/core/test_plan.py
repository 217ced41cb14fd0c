"""Who goes next: tier first, then first come first served; only a higher tier interrupts, and only where it may."""

from __future__ import annotations

import itertools
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpud.core.job import Job, JobState, Reason
from qpud.core.plan import choose, may_run, preempts, rank, slice_seconds, slice_shots
from qpud.core.queue import PendingQueue
from tests.core.builders import QUEUES, a_job, running


def in_order(*jobs: Job) -> list[int]:
    return [job.id for job in sorted(jobs, key=lambda job: rank(job, QUEUES))]


def test_a_higher_tier_goes_before_an_older_job() -> None:
    assert in_order(a_job(1), a_job(2, "test"), a_job(3, "production")) == [3, 2, 1]


def test_in_one_tier_the_older_job_goes_first() -> None:
    assert in_order(a_job(1, submitted_at=5.0), a_job(2, submitted_at=4.0)) == [2, 1]


def test_jobs_of_one_moment_go_in_the_order_of_their_ids() -> None:
    assert in_order(a_job(2, submitted_at=4.0), a_job(1, submitted_at=4.0)) == [1, 2]


def test_a_job_of_a_queue_that_is_gone_goes_last() -> None:
    assert in_order(a_job(1, "gone"), a_job(2)) == [2, 1]


def test_a_higher_tier_takes_the_resource_at_the_boundary() -> None:
    choice = choose(running(1), a_job(2, "production"), QUEUES)
    assert choice is not None
    assert (choice.job.id, choice.preempts) == (2, True)


@pytest.mark.parametrize("queue", ["development", "test"])
def test_the_same_or_a_lower_tier_never_takes_it(queue: str) -> None:
    choice = choose(running(1, "test"), a_job(2, queue), QUEUES)
    assert choice is not None
    assert (choice.job.id, choice.preempts) == (1, False)


def test_preempt_mode_off_keeps_the_resource_against_any_tier() -> None:
    queues = {**QUEUES, "urgent": msgspec.structs.replace(QUEUES["test"], name="urgent", priority_tier=1000)}
    assert not preempts(a_job(2, "urgent"), running(1, "production"), queues)


@pytest.mark.parametrize("reason", [Reason.HELD, Reason.HELD_ADMIN, Reason.CANCELING, Reason.VALIDATING])
def test_a_job_that_may_not_go_on_gives_way_without_being_preempted(reason: Reason) -> None:
    choice = choose(running(1, reason=reason), a_job(2), QUEUES)
    assert choice is not None
    assert (choice.job.id, choice.preempts) == (2, False)


def test_with_nobody_left_nothing_runs() -> None:
    assert choose(None, None, QUEUES) is None


@pytest.mark.parametrize("state", [JobState.DONE, JobState.CANCELED, JobState.ERROR])
def test_an_ended_job_may_not_run(state: JobState) -> None:
    assert not may_run(running(1, state=state, ended_at=5.0))


def test_a_job_without_shots_left_may_not_run() -> None:
    assert not may_run(running(1, shots_done=10))


@pytest.mark.parametrize(("done", "most", "expected"), [(0, 4, 4), (8, 4, 2), (0, 0, 1), (0, 99, 10)])
def test_a_slice_holds_what_is_left_at_most_the_slices_worth_and_at_least_one(
    done: int, most: int, expected: int
) -> None:
    assert slice_shots(running(1, shots_done=done), most) == expected


def test_the_slice_length_of_a_queue_that_is_gone_has_a_default() -> None:
    assert slice_seconds(a_job(1, "gone"), QUEUES) == 20.0


# -- the queue
def a_queue() -> PendingQueue:
    return PendingQueue(lambda job: rank(job, QUEUES))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 12), st.sampled_from(sorted(QUEUES)), st.integers(0, 5)),
        st.tuples(st.just("drop"), st.integers(1, 12)),
        st.tuples(st.just("rebuild"), st.permutations(sorted(QUEUES))),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_was_put_dropped_and_rebuilt_the_order_is_the_sorted_one(steps: list[tuple[object, ...]]) -> None:
    queue, jobs, queues = a_queue(), dict[int, Job](), dict(QUEUES)
    for step in steps:
        match step:
            case ("put", int(job_id), str(name), int(at)):
                jobs[job_id] = a_job(job_id, name, submitted_at=float(at))
                queue.put(jobs[job_id])
            case ("drop", int(job_id)):
                jobs.pop(job_id, None)
                queue.drop(job_id)
            case ("rebuild", list(names)):
                queues = {
                    name: msgspec.structs.replace(QUEUES[name], priority_tier=tier) for tier, name in enumerate(names)
                }
                current = dict(queues)
                queue.rebuild(lambda job, current=current: rank(job, current), jobs.values())  # type: ignore[misc]
        expected = sorted(jobs, key=lambda job_id: rank(jobs[job_id], queues))
        assert queue.head() == (expected[0] if expected else None)
        assert queue.in_order(100) == expected
        assert len(queue) == len(expected)


def test_putting_a_job_again_and_again_does_not_grow_the_queue() -> None:
    queue = a_queue()
    for _ in range(1000):
        queue.put(a_job(1))
    assert len(queue._heap) == 1


def test_dropped_jobs_do_not_pile_up_behind_the_head() -> None:
    queue = a_queue()
    queue.put(a_job(1, "production"))
    for job_id in range(2, 2000):
        queue.put(a_job(job_id))
        queue.drop(job_id)
    assert len(queue._heap) < 200


def test_the_head_of_a_long_queue_costs_microseconds() -> None:
    queue = a_queue()
    for job_id in range(1, 20_001):
        queue.put(a_job(job_id))
    best = min(_time_of_100_heads(queue) for _ in itertools.repeat(None, 5))
    assert best / 100 < 50e-6


def _time_of_100_heads(queue: PendingQueue) -> float:
    started = time.perf_counter()
    for _ in range(100):
        queue.head()
    return time.perf_counter() - started
