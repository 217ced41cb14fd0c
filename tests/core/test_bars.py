"""What bars jobs, in virtual time: windows of others, MaxJobsPerUser, TimeLimit, a resource that is taken down."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpud.core import reservations
from qpud.core.bars import bar
from qpud.core.errors import Conflict
from qpud.core.job import Job, JobState, Reason
from qpud.core.policy import Policy
from qpud.core.reservations import Reservation
from qpud.core.terms import PreemptMode
from qpud.core.turns import interruption
from tests.core.builders import a_policy
from tests.core.machine import RESOURCE, Machine, changed

POLICY = changed(a_policy(), "development", slice_seconds=10.0)
SCHEDULERS = ["share", "priority", "fifo"]


def reserve(machine: Machine, starts_at: float, ends_at: float, *users: str, name: str = "w") -> Reservation:
    one = Reservation(name=name, resource=RESOURCE, starts_at=starts_at, ends_at=ends_at, users=users)
    machine.book.reservations[name] = one
    return one


def a_machine(policy: Policy = POLICY, **options: Any) -> Machine:
    machine = Machine(policy, **options)
    machine.session("ann")
    machine.session("ben")
    return machine


class Run:
    """Steps a machine to the end of its work, over windows; each slice as (job, began, ended)."""

    def __init__(self, machine: Machine) -> None:
        self.slices: list[tuple[Job, float, float]] = []
        windows = machine.book.reservations
        while machine.book.jobs:
            began = machine.now
            choice = machine.step()
            if choice is not None:
                self.slices.append((choice.job, began, machine.now))
                continue
            edge = reservations.next_boundary(windows.values(), machine.now)
            assert edge is not None, "work is left, and nothing will ever start it"
            machine.now = edge


# -- reservations
def test_a_slice_is_made_so_short_that_it_ends_when_a_window_begins() -> None:
    machine = a_machine()
    machine.submit("ann", 30)
    reserve(machine, 8.0, 20.0, "ben")
    run = Run(machine)
    assert [(began, ended) for _job, began, ended in run.slices][:2] == [(1.0, 8.0), (20.0, 30.0)]


def test_a_set_up_is_part_of_what_must_end_in_time() -> None:
    machine = a_machine(setup=5.0)
    machine.submit("ann", 30)
    reserve(machine, 8.0, 20.0, "ben")
    first = Run(machine).slices[0]
    assert (first[0].shots, first[2]) == (30, 8.0)
    assert machine.choices[0].shots == 2


def test_nothing_starts_when_not_even_one_shot_ends_in_time() -> None:
    machine = a_machine(setup=6.5)
    job = machine.submit("ann", 30)
    reserve(machine, 8.0, 20.0, "ben")
    assert machine.decide() is None
    assert bar(machine.book, job, machine.now) is Reason.RESERVED


def test_a_job_of_the_loaded_register_may_start_where_another_may_not() -> None:
    machine = a_machine(setup=6.0)
    machine.submit("ann", 4)
    machine.step()
    machine.submit("ben", 5, register_hash="other")
    same = machine.submit("ann", 5)
    reserve(machine, machine.now + 5.0, machine.now + 50.0, "carl")
    choice = machine.decide()
    assert (choice.job.id if choice else None) == same.id


def test_the_job_that_has_the_resource_gives_way_to_a_window_even_with_preempt_mode_off() -> None:
    machine = a_machine(changed(POLICY, "development", preempt_mode=PreemptMode.OFF))
    machine.submit("ann", 30)
    owner = machine.submit("ben", 5)
    machine.step()
    reserve(machine, machine.now, machine.now + 100.0, "ben")
    choice = machine.decide()
    assert (choice.job.id if choice else None) == owner.id


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@settings(deadline=None, max_examples=60)
@given(
    windows=st.lists(st.tuples(st.integers(1, 120), st.integers(1, 30), st.sampled_from(["ann", "ben"])), max_size=5),
    jobs=st.lists(st.tuples(st.sampled_from(["ann", "ben", "carl"]), st.integers(1, 40)), min_size=1, max_size=8),
    setup=st.sampled_from([0.0, 3.0]),
)
def test_no_slice_of_others_runs_within_a_window_and_all_work_is_done(
    scheduler: str, windows: list[tuple[int, int, str]], jobs: list[tuple[str, int]], setup: float
) -> None:
    machine = a_machine(changed(POLICY, scheduler_type=scheduler), setup=setup)
    machine.session("carl")
    for number, (start, length, user) in enumerate(windows):
        one = Reservation(
            name=f"w{number}", resource=RESOURCE, starts_at=start, ends_at=float(start + length), users=(user,)
        )
        try:
            reservations.check(one, machine.book.reservations.values(), 0.0)
        except Conflict:
            continue
        machine.book.reservations[one.name] = one
    for number, (user, shots) in enumerate(jobs):
        machine.submit(user, shots, register_hash=f"r{number % 2}")
    run = Run(machine)
    for job, began, ended in run.slices:
        for one in machine.book.reservations.values():
            is_apart = ended <= one.starts_at + 1e-6 or began >= one.ends_at
            assert is_apart or job.session_id in one.users


# -- MaxJobsPerUser
@settings(deadline=None, max_examples=60)
@given(
    limit=st.integers(1, 3),
    jobs=st.lists(st.tuples(st.sampled_from(["ann", "ben", "prod"]), st.integers(1, 30)), min_size=1, max_size=10),
)
def test_never_more_jobs_of_a_user_have_begun_and_all_work_is_done(limit: int, jobs: list[tuple[str, int]]) -> None:
    machine = a_machine(changed(POLICY, "development", max_jobs_per_user=limit))
    machine.session("prod", queue="production")
    for session, shots in jobs:
        machine.submit(session, shots)
    while machine.book.jobs:
        assert machine.step() is not None
        begun = [one for one in machine.book.jobs.values() if one.state is JobState.RUNNING]
        assert sum(one.queue == "development" for one in begun) <= limit


def test_a_barred_job_cuts_nobodys_slice() -> None:
    policy = changed(POLICY, "production", max_jobs_per_user=1, preempt_mode=PreemptMode.SLICE)
    policy = changed(policy, "development", preempt_mode=PreemptMode.REQUEUE)
    machine = a_machine(policy)
    machine.session("prod", queue="production")
    machine.submit("prod", 5, state=JobState.RUNNING, reason=Reason.HELD)  # has begun, and keeps its place
    machine.submit("ann", 5)
    machine.step(arrive=lambda: machine.submit("prod", 5), after=1.0)
    assert machine.slices[0][1] == 5


# -- TimeLimit
def test_a_job_that_reaches_its_time_limit_ends_with_what_it_has() -> None:
    machine = a_machine(changed(POLICY, "development", time_limit=15.0), setup=2.0)
    job = machine.submit("ann", 100)
    machine.run()
    last = machine.landings[-1].verdict
    assert (last.job.id, last.job.state, last.job.reason) == (job.id, JobState.CANCELED, Reason.TIME_LIMIT)
    assert (last.job.shots_done, last.job.qpu_seconds) == (20, 22.0)
    assert last.message == (
        "canceled with 20 of 100 shots: its 22 QPU seconds have reached TimeLimit 15 of queue development"
    )


# -- down
def test_a_resource_that_is_down_wants_its_slice_cut_at_once() -> None:
    machine = a_machine()
    machine.submit("ann", 10)

    def take_down() -> None:
        machine.book.flights[RESOURCE].is_down = True

    machine.step(arrive=take_down, after=3.0)
    assert machine.slices == [(1, 0)]
    assert (machine.landings[0].verdict.fruitless, machine.landings[0].charge.qpu_seconds) == (False, 0.0)


def test_an_idle_resource_that_is_down_has_nothing_to_cut() -> None:
    machine = a_machine()
    machine.book.flights[RESOURCE].is_down = True
    assert interruption(machine.book, RESOURCE, 1.0) is None


# -- change of queue
def test_a_running_job_competes_in_the_tier_of_its_new_queue_from_its_next_slice_on() -> None:
    machine = a_machine()
    machine.session("test", queue="test")
    moved = machine.submit("ann", 30)
    machine.step()
    machine.submit("test", 30)
    job = machine.book.jobs[moved.id]
    machine.book.update_job(msgspec.structs.replace(job, queue="production"))
    machine.current = machine.book.jobs[moved.id]
    machine.run()
    assert [job_id for job_id, _shots in machine.slices[:3]] == [moved.id, moved.id, 2]
