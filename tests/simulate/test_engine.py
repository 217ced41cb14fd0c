"""The run itself: the order of one moment, slices and cuts, several resources; a trace must fit the policy."""

from __future__ import annotations

import pytest

from qpud.core.errors import BadRequest
from qpud.core.terms import PreemptMode
from qpud.simulate.engine import Simulation
from qpud.simulate.tally import Flown
from qpud.simulate.trace import Batch, SessionTrace, Shots
from tests.simulate.builders import QUEUES, a_policy, a_session, figures, job, run, sliced, think


def flown(trace: list[SessionTrace], scheduler: str = "share", **policy: object) -> list[Flown]:
    return Simulation(a_policy(scheduler, **policy), trace, keeps_slices=True).run().flown  # type: ignore[arg-type]


def test_a_job_runs_in_slices_of_its_queue() -> None:
    assert [one.ended_at for one in flown([a_session("a", job(50))])] == [20, 40, 50]


def test_a_higher_tier_goes_first_at_the_end_of_the_slice_in_flight() -> None:
    trace = [a_session("a", job(50)), a_session("p", job(5), queue="production", at=3)]
    assert [(one.queue, one.started_at) for one in flown(trace)][:3] == [
        ("development", 0),
        ("production", 20),
        ("development", 25),
    ]


def test_a_job_submitted_as_a_slice_ends_takes_part_in_the_decision() -> None:
    trace = [a_session("a", job(50)), a_session("p", job(5), queue="production", at=20)]
    assert flown(trace)[1].queue == "production"


def test_what_a_session_does_because_a_slice_ended_comes_after_the_decision() -> None:
    trace = [a_session("a", job(5), job(5)), a_session("b", job(5))]
    result = figures(a_policy("fifo"), trace)
    assert [session.end for session in result.sessions] == [15, 10]


def test_requeue_cuts_the_slice_after_the_shot_in_progress_and_keeps_what_was_made() -> None:
    queues = sliced(20.0, development={"preempt_mode": PreemptMode.REQUEUE})
    trace = [a_session("a", job(50)), a_session("p", job(5), queue="production", at=3.5)]
    assert [(one.started_at, one.ended_at) for one in flown(trace, queues=queues)][:2] == [(0, 4), (4, 9)]
    assert figures(a_policy(queues=queues), trace).resource.shots == 55


def test_requeue_during_setup_makes_no_shot_and_wastes_the_setup() -> None:
    queues = sliced(20.0, development={"preempt_mode": PreemptMode.REQUEUE})
    trace = [a_session("a", job(50)), a_session("p", job(5), queue="production", at=1)]
    result = figures(a_policy(queues=queues, setup_seconds=4.0), trace)
    assert (result.resource.shots, result.resource.preemptions) == (55, 1)
    assert result.resource.busy_seconds == pytest.approx(sum(one.qpu_seconds for one in result.sessions) + 1)


def test_cancel_ends_the_job_and_the_session_goes_on() -> None:
    queues = sliced(20.0, development={"preempt_mode": PreemptMode.CANCEL})
    trace = [a_session("a", job(50), think(1)), a_session("p", job(5), queue="production", at=3)]
    result = figures(a_policy(queues=queues), trace)
    assert result.resource.preemptions == 1
    assert (result.sessions[0].end, result.sessions[0].qpu_seconds) == (4, 3)


def test_grace_time_lets_the_slice_go_on() -> None:
    queues = sliced(20.0, development={"preempt_mode": PreemptMode.REQUEUE, "grace_time": 5.0})
    trace = [a_session("a", job(50)), a_session("p", job(5), queue="production", at=3)]
    assert flown(trace, queues=queues)[0].ended_at == 8


def test_exclusive_keeps_the_resource_through_the_classical_phases() -> None:
    trace = [a_session("a", job(5), think(10), repeat=2), a_session("b", job(5), at=1)]
    assert [one.started_at for one in flown(trace, "exclusive")] == [0, 15, 30]


def test_a_job_that_its_users_other_job_barred_starts_when_that_has_ended() -> None:
    queues = sliced(20.0, development={"max_jobs_per_user": 1})
    trace = [a_session("a", job(5), user="u"), a_session("b", job(5), user="u"), a_session("c", job(90), at=1)]
    starts = {one.session.id: one for one in run(a_policy(queues=queues), trace).sessions}
    assert [starts[name].ended_at for name in "ab"] == [5, 30]


def test_a_job_alone_with_its_barred_sibling_hands_over_at_once() -> None:
    queues = sliced(20.0, development={"max_jobs_per_user": 1})
    trace = [a_session("a", Batch(jobs=(Shots(shots=5), Shots(shots=5))))]
    assert run(a_policy(queues=queues), trace).ended_at == 10


def test_jobs_of_a_batch_come_after_their_delays() -> None:
    trace = [a_session("a", Batch(jobs=(Shots(shots=5), Shots(shots=5, after=30.0))), think(1))]
    tally = run(a_policy(), trace)
    assert [one.submitted_at for one in tally.jobs] == [0, 30]
    assert tally.sessions[0].ended_at == 36


def test_a_session_may_use_two_resources_at_once() -> None:
    trace = [a_session("a", Batch(jobs=(Shots(shots=9, resource="A"), Shots(shots=9, resource="B"))))]
    assert [one.started_at for one in flown(trace, resources=("A", "B"))] == [0, 0]


def test_a_run_that_is_stopped_leaves_what_comes_later_alone() -> None:
    tally = run(a_policy(), [a_session("a"), a_session("late", at=100)], until_seconds=50)
    assert [one.session.id for one in tally.sessions] == ["a"]


def test_until_counts_from_the_first_session() -> None:
    assert run(a_policy(), [a_session("a", job(500), at=1000)], until_seconds=50).ended_at == 1050


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"queue": "fast"}, "session s1 is of queue fast, the policy has the queues production, test, development"),
        ({"resource": "FRESNEL"}, "the trace uses resource FRESNEL, the policy has the resources TWIN"),
    ],
)
def test_a_trace_of_an_unknown_queue_or_resource_gets_a_sentence(changes: dict[str, str], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        Simulation(a_policy(), [a_session(**changes)])  # type: ignore[arg-type]


@pytest.mark.parametrize("scheduler", ["share", "priority", "fifo", "exclusive"])
def test_every_shot_of_every_job_runs_once(scheduler: str) -> None:
    trace = [a_session(f"s{at}", job(7 + at), think(3), queue=QUEUES[at % 3].name, repeat=5, at=at) for at in range(9)]
    result = figures(a_policy(scheduler, setup_seconds=1.5), trace)
    assert result.resource.shots == sum((7 + at) * 5 for at in range(9))
    assert result.resource.busy_seconds == pytest.approx(sum(one.qpu_seconds for one in result.sessions))
