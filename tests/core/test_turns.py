"""A slice boundary: tiers, preemption in every mode, slice lengths, starvation, and the schedulers by name."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpud.core.job import TERMINAL, Job, JobState, Reason
from qpud.core.pace import Pace
from qpud.core.session import Hint, Session
from qpud.core.slices import Outcome, OutcomeState
from qpud.core.terms import PreemptMode
from qpud.core.turns import begin, charge_of
from tests.core.builders import a_policy
from tests.core.machine import RESOURCE, Machine, changed

POLICY = changed(changed(a_policy(), "development", slice_seconds=10.0), "test", slice_seconds=10.0)


def a_machine(policy: Any = POLICY, **options: Any) -> Machine:
    machine = Machine(policy, **options)
    for name in ("production", "test", "development"):
        machine.session(name[:4], queue=name)
    return machine


def job_order(machine: Machine) -> list[int]:
    return [job for job, _shots in machine.slices]


# -- tiers and slices
def test_a_higher_tier_goes_first_at_the_boundary_and_the_other_goes_on_afterwards() -> None:
    machine = a_machine()
    low = machine.submit("deve", 30)
    machine.step()
    high = machine.submit("prod", 10)
    machine.run()
    assert job_order(machine) == [low.id, high.id, low.id, low.id]
    assert machine.choices[1].yielding is not None


def test_sessions_of_one_tier_take_turns_without_preempting() -> None:
    machine = a_machine()
    machine.session("other")
    one, two = machine.submit("deve", 20), machine.submit("other", 20)
    machine.run()
    assert job_order(machine) == [one.id, two.id, one.id, two.id]
    assert [choice.yielding for choice in machine.choices] == [None] * 4


def test_jobs_of_one_session_go_one_after_the_other() -> None:
    machine = a_machine()
    one, two = machine.submit("deve", 20), machine.submit("deve", 20)
    machine.run()
    assert job_order(machine) == [one.id, one.id, two.id, two.id]


def test_a_queue_with_preempt_mode_off_keeps_the_resource() -> None:
    machine = a_machine(changed(POLICY, "development", preempt_mode=PreemptMode.OFF))
    low = machine.submit("deve", 60)
    machine.step()
    machine.submit("prod", 10)
    machine.run()
    assert job_order(machine)[:2] == [low.id, low.id]


def test_a_job_keeps_the_resource_for_its_exempt_time() -> None:
    machine = a_machine(changed(POLICY, "development", preempt_exempt_time=15.0))
    low = machine.submit("deve", 40)
    machine.step()
    machine.submit("prod", 10)
    machine.run()
    assert job_order(machine)[:3] == [low.id, low.id, 2]


def test_a_slice_is_as_short_as_a_higher_tier_may_be_made_to_wait() -> None:
    machine = a_machine(changed(POLICY, "production", max_preempt_delay=4.0), setup=1.0)
    machine.submit("deve", 30)
    assert machine.step().shots == 3  # type: ignore[union-attr]


def test_a_slice_that_nobody_can_want_to_end_is_long() -> None:
    machine = a_machine(changed(POLICY, "production", slice_seconds=10.0))
    machine.submit("prod", 300)
    assert machine.step().shots == 50  # type: ignore[union-attr]


def test_slices_grow_until_set_up_is_within_the_overhead_that_a_site_accepts() -> None:
    machine = a_machine(changed(POLICY, "development", max_slice_overhead=0.1), setup=4.0)
    machine.session("other")
    machine.submit("deve", 100)
    machine.submit("other", 100)
    assert machine.step().shots == 36  # type: ignore[union-attr]


def test_a_qc_heavy_session_runs_in_long_slices() -> None:
    machine = a_machine()
    machine.session("heavy", hint=Hint.QC_HEAVY)
    machine.submit("heavy", 200)
    assert machine.step().shots == 50  # type: ignore[union-attr]


# -- cutting a slice
def cut_by_production(mode: PreemptMode, after: float = 4.0, **more: Any) -> Machine:
    machine = a_machine(changed(POLICY, "development", preempt_mode=mode, **more))
    machine.submit("deve", 30)
    machine.step(arrive=partial(machine.submit, "prod", 10), after=after)
    return machine


def test_requeue_cuts_the_slice_at_once_and_runs_its_shots_again() -> None:
    machine = cut_by_production(PreemptMode.REQUEUE)
    assert machine.now == 5.0
    machine.run()
    assert machine.slices == [(1, 0), (2, 10), (1, 10), (1, 10), (1, 10)]


def test_the_shots_of_a_cut_slice_are_counted_as_wasted_and_charged_to_nobody() -> None:
    charge = cut_by_production(PreemptMode.REQUEUE).landings[0].charge
    assert (charge.qpu_seconds, charge.wasted_shots, charge.wasted_seconds) == (0.0, 4, 4.0)


def test_grace_time_lets_a_slice_go_on() -> None:
    machine = cut_by_production(PreemptMode.REQUEUE, grace_time=3.0)
    assert machine.now == 8.0


def test_a_slice_that_ends_within_its_grace_time_is_not_cut() -> None:
    machine = cut_by_production(PreemptMode.REQUEUE, grace_time=30.0)
    assert machine.slices == [(1, 10)]


def test_exempt_time_protects_a_slice_from_being_cut() -> None:
    machine = cut_by_production(PreemptMode.REQUEUE, preempt_exempt_time=7.0)
    assert machine.now == 8.0


def test_slice_mode_cuts_nothing() -> None:
    assert cut_by_production(PreemptMode.SLICE).slices == [(1, 10)]


def test_cancel_ends_the_job_that_is_preempted() -> None:
    machine = cut_by_production(PreemptMode.CANCEL)
    ended = machine.landings[0].verdict.job
    assert (ended.state, ended.reason) == (JobState.CANCELED, Reason.PREEMPTION)
    machine.run()
    assert machine.slices == [(1, 0), (2, 10)]


def test_cancel_ends_the_job_at_a_boundary_too() -> None:
    machine = a_machine(changed(POLICY, "development", preempt_mode=PreemptMode.CANCEL))
    machine.submit("deve", 30)
    machine.step(arrive=partial(machine.submit, "prod", 10), after=9.9999999)
    machine.run()
    assert machine.landings[0].verdict.job.state is JobState.CANCELED


@pytest.mark.parametrize("mode", list(PreemptMode))
def test_a_slice_without_a_worker_gives_way_at_once_and_its_job_goes_on_later(mode: PreemptMode) -> None:
    policy = changed(POLICY, "development", preempt_mode=mode, preempt_exempt_time=60.0, grace_time=60.0)
    machine = a_machine(policy)
    machine.submit("deve", 10)

    def arrive() -> None:
        machine.book.flights[RESOURCE].is_unmanned = True
        machine.submit("prod", 10)

    machine.step(arrive=arrive)
    machine.run()
    assert machine.slices == [(1, 0), (2, 10), (1, 10)]


def test_a_job_of_the_same_tier_cuts_nothing() -> None:
    machine = a_machine(changed(POLICY, "development", preempt_mode=PreemptMode.REQUEUE))
    machine.session("other")
    machine.submit("deve", 30)
    machine.step(arrive=partial(machine.submit, "other", 10), after=4.0)
    assert machine.slices == [(1, 10)]


def test_shots_that_were_handed_over_before_the_cut_are_kept_and_charged() -> None:
    outcome = Outcome(
        state=OutcomeState.CANCELED, counts={"0": 4}, started_at=0.0, ended_at=7.0, qpu_seconds=7.0, setup_seconds=1.0
    )
    charge = charge_of(outcome, 10, Pace(shot_rate=1.0), is_cut=True)
    assert (charge.shots, charge.wasted_shots, charge.wasted_seconds, charge.qpu_seconds) == (4, 2, 2.0, 5.0)


# -- set-up, hints, starvation
def test_jobs_of_the_loaded_register_are_finished_first_where_a_change_costs_time() -> None:
    machine = a_machine(setup=2.0)
    for register in "abab":
        machine.submit("deve", 5, register_hash=register)
    machine.run()
    assert job_order(machine) == [1, 3, 2, 4]


def test_without_set_up_time_jobs_go_by_age() -> None:
    machine = a_machine()
    for register in "abab":
        machine.submit("deve", 5, register_hash=register)
    machine.run()
    assert job_order(machine) == [1, 2, 3, 4]


def test_a_stream_of_jobs_of_the_loaded_register_does_not_starve_another_one() -> None:
    machine = a_machine(setup=2.0)
    machine.submit("deve", 5, register_hash="a")
    other = machine.submit("deve", 5, register_hash="b")
    for _ in range(200):
        machine.submit("deve", 5, register_hash="a")
    machine.run()
    assert job_order(machine).index(other.id) <= 65


def test_whoever_holds_more_nodes_for_the_same_work_goes_first() -> None:
    machine = a_machine()
    for name, nodes in (("few", 2), ("many", 200)):
        machine.session(name, hint=Hint.CC_HEAVY, nodes=nodes)
        machine.submit(name, 5)
    machine.run()
    assert job_order(machine) == [2, 1]


def test_whoever_gave_his_nodes_back_goes_first_no_more() -> None:
    machine = a_machine()
    for name, nodes in (("few", 2), ("many", 200)):
        machine.session(name, hint=Hint.CC_HEAVY, nodes=nodes)
        machine.submit(name, 5)
    machine.book.renew_session(msgspec.structs.replace(machine.book.sessions["many"], nodes=1))
    machine.run()
    assert job_order(machine) == [1, 2]


def test_a_hint_gains_a_liar_at_most_one_slice() -> None:
    machine = a_machine()
    machine.session("liar", hint=Hint.CC_HEAVY, nodes=1_000_000)
    machine.submit("deve", 10_000)
    machine.submit("liar", 10_000)
    machine.run(200)
    got = [job_order(machine)[:number].count(2) - number / 2 for number in range(200)]
    assert max(got) <= 1.0


def test_starvation_limit_lifts_a_job_into_the_next_tier() -> None:
    machine = a_machine(changed(POLICY, starvation_limit=100.0))
    machine.submit("deve", 5)
    for _ in range(30):
        machine.submit("test", 10)
    machine.run()
    assert 9 <= job_order(machine).index(1) <= 12


def test_without_a_starvation_limit_tiers_are_strict() -> None:
    machine = a_machine()
    machine.submit("deve", 5)
    for _ in range(30):
        machine.submit("test", 10)
    machine.run()
    assert job_order(machine)[-1] == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.1, 0.8), st.integers(1, 5), st.integers(1, 10))
def test_a_job_of_the_lowest_tier_starts_within_the_bound_of_the_readme(
    seed: int, load: float, others: int, units: int
) -> None:
    """Higher tiers bring at most `burst` + `load` × t QPU seconds in t seconds."""
    dice, burst, quantum = random.Random(seed), 60.0, 10.0
    machine = a_machine()
    weights = units
    for number in range(others):
        share = dice.randint(1, 10)
        weights += share
        machine.session(f"other{number}", share=share)
        machine.submit(f"other{number}", 1_000_000)
    machine.session("mine", share=units)
    brought, began = 0.0, machine.now
    for _ in range(dice.randint(0, 50)):
        brought += _bring(machine, dice, burst + load * (machine.now - began) - brought)
        machine.step()
    job = machine.submit("mine", 5)
    while machine.book.jobs[job.id].started_at is None:
        brought += _bring(machine, dice, burst + load * (machine.now - began) - brought)
        machine.step()
        if job.id not in machine.book.jobs:
            break
    started = machine.started[job.id]
    assert started - job.submitted_at <= (3 * quantum + burst + quantum * weights / units) / (1 - load)


def _bring(machine: Machine, dice: random.Random, most: float) -> float:
    """Submit to the higher tiers as much as may come, or less; the QPU seconds."""
    shots = int(min(most, dice.choice([0, 5, 60])))
    if shots > 0:
        machine.submit(dice.choice(["prod", "test"]), shots)
    return float(max(0, shots))


# -- schedulers by name
def test_fifo_runs_jobs_whole_in_the_order_they_came() -> None:
    machine = a_machine(changed(POLICY, scheduler_type="fifo"))
    machine.submit("deve", 100)
    machine.submit("prod", 100)
    assert machine.run() == [(1, 100), (2, 100)]


def test_priority_runs_jobs_whole_and_never_preempts() -> None:
    machine = a_machine(changed(POLICY, scheduler_type="priority"))
    machine.submit("deve", 100)
    machine.step()
    machine.submit("deve", 50)
    machine.submit("prod", 50)
    assert machine.run() == [(1, 100), (3, 50), (2, 50)]


def test_exclusive_keeps_the_resource_for_a_session_until_it_ends() -> None:
    machine = a_machine(changed(POLICY, scheduler_type="exclusive"))
    machine.submit("deve", 10)
    machine.submit("prod", 10)
    machine.run()
    assert job_order(machine) == [1]
    machine.submit("deve", 10)
    machine.run()
    machine.book.remove_session("deve")
    machine.run()
    assert job_order(machine) == [1, 3, 2]


class Shortest:
    """Within a tier the job with the fewest shots left."""

    runs_whole = False

    def key(self, job: Job, session: Session | None, tier: int) -> tuple[Any, ...]:
        return (-tier, job.shots_left)


def test_a_sites_own_rule_orders_the_jobs() -> None:
    machine = a_machine(changed(POLICY, scheduler_type="site:Shortest"), rule=Shortest())
    for shots in (30, 10, 5):
        machine.submit("deve", shots)
    machine.run()
    assert job_order(machine) == [3, 2, 1, 1, 1]


# -- properties
def a_busy_machine(seed: int, scheduler: str) -> tuple[Machine, random.Random]:
    dice = random.Random(seed)
    policy = changed(changed(POLICY, scheduler_type=scheduler), "test", preempt_mode=PreemptMode.REQUEUE)
    return a_machine(policy, setup=dice.choice([0.0, 1.0])), dice


def play(machine: Machine, dice: random.Random, steps: int = 60) -> None:
    for _ in range(steps):
        for name in ("prod", "test", "deve"):
            if dice.random() < 0.2:
                machine.submit(name, dice.randint(1, 40), register_hash=dice.choice("ab"))
        if dice.random() < 0.1 and machine.book.jobs:
            job = dice.choice(list(machine.book.jobs.values()))
            machine.book.update_job(msgspec.structs.replace(job, reason=dice.choice([Reason.HELD, Reason.NONE])))
            if machine.current is not None:
                machine.current = machine.book.jobs[machine.current.id]
        machine.step()


SCHEDULERS = st.sampled_from(["share", "priority", "fifo", "exclusive"])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), SCHEDULERS)
def test_shots_add_up_exactly_and_ended_jobs_stay_ended(seed: int, scheduler: str) -> None:
    machine, dice = a_busy_machine(seed, scheduler)
    play(machine, dice)
    done: dict[int, int] = {}
    ended: set[int] = set()
    for (job, shots), landing in zip(machine.slices, machine.landings, strict=True):
        assert job not in ended
        done[job] = done.get(job, 0) + shots
        assert landing.verdict.job.shots_done == done[job] <= landing.verdict.job.shots
        ended |= {job} if landing.verdict.job.state in TERMINAL else set()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_a_tier_is_never_inverted(seed: int) -> None:
    machine, dice = a_busy_machine(seed, "share")
    for _ in range(60):
        play(machine, dice, steps=1)
        if not machine.choices:
            continue
        waiting = [job for job in machine.book.jobs.values() if job.reason is Reason.NONE]
        choice = machine.decide()
        if choice is None or choice.job.queue == "production":
            continue  # nobody may interrupt it
        tiers = {"production": 100, "test": 50, "development": 10}
        assert tiers[choice.job.queue] == max(tiers[job.queue] for job in waiting)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), SCHEDULERS)
def test_asking_twice_decides_the_same(seed: int, scheduler: str) -> None:
    machine, dice = a_busy_machine(seed, scheduler)
    play(machine, dice, steps=20)
    assert machine.decide() == machine.decide()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), SCHEDULERS)
def test_the_order_in_which_rows_are_read_changes_no_decision(seed: int, scheduler: str) -> None:
    dice = random.Random(seed)
    rows = [
        (dice.choice(["prod", "test", "deve"]), dice.randint(1, 30), float(number), dice.choice("ab"))
        for number in range(30)
    ]
    orders = []
    for shuffled in (False, True):
        machine = a_machine(changed(POLICY, scheduler_type=scheduler), setup=1.0)
        jobs = [
            machine.submit(name, shots, submitted_at=at, register_hash=register) for name, shots, at, register in rows
        ]
        book = type(machine.book)(machine.book.policy)
        for session in machine.book.sessions.values():
            book.add_session(session)
        book.flights[RESOURCE].pace = machine.book.flights[RESOURCE].pace
        machine.book = book
        for job in random.Random(1).sample(jobs, len(jobs)) if shuffled else jobs:
            book.add_job(job)
        orders.append(machine.run())
    assert orders[0] == orders[1]


def test_a_cut_that_a_crash_made_forgotten_is_charged_to_nobody() -> None:
    machine = cut_by_production(PreemptMode.REQUEUE)
    first = machine.landings[0].charge
    forgotten = a_machine()
    job = forgotten.submit("deve", 30)
    forgotten.book.claim(RESOURCE, job.id)
    begun = begin(forgotten.book, RESOURCE, job.id, 1.0)
    outcome = Outcome(state=OutcomeState.CANCELED, counts={}, started_at=1.0, ended_at=5.0, qpu_seconds=4.0)
    assert forgotten.landed(begun, 10, outcome).charge == first
