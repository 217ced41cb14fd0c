"""Fair shares: whatever comes and goes, everybody has his part within one slice."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpud.core.fairshare import Contender, Group, activate, charge, retire
from qpud.core.policy import AccountPolicy
from qpud.core.session import Hint
from qpud.core.terms import FairShareBy
from tests.core.builders import a_policy
from tests.core.machine import RESOURCE, Machine, changed

HINTS = (Hint.NONE, Hint.CC_HEAVY, Hint.QC_BALANCED)
DEV = changed(a_policy(), "development", slice_seconds=10.0, max_slice_overhead=0.1)


def saturated(machine: Machine, weights: dict[str, int], shots: int = 100_000) -> None:
    for name, share in weights.items():
        machine.session(name, share=share)
        machine.submit(name, shots, register_hash=name)


def served(machine: Machine) -> Counter[str]:
    """QPU-seconds charged to each session."""
    total: Counter[str] = Counter()
    for choice, landing in zip(machine.choices, machine.landings, strict=True):
        total[choice.job.session_id] += landing.charge.qpu_seconds  # type: ignore[assignment]
    return total


def test_contenders_with_5_3_and_2_units_get_half_and_three_and_two_tenths_at_every_instant() -> None:
    machine = Machine(DEV)
    weights = {"a": 5, "b": 3, "c": 2}
    saturated(machine, weights)
    for _ in range(400):
        machine.step()
        total = sum(served(machine).values())
        for name, share in weights.items():
            assert abs(served(machine)[name] - total * share / 10) <= 10.0 + 1e-6


def test_of_those_whose_share_lets_them_be_next_the_highest_slurm_priority_is() -> None:
    machine = Machine(DEV)
    for name, priority in (("a", 1000), ("b", 5000), ("c", 3000)):
        machine.session(name, slurm_priority=priority)
        machine.submit(name, 1000, register_hash=name)
    for _ in range(6):
        machine.step()
    assert [choice.job.session_id for choice in machine.choices] == ["b", "c", "a"] * 2


def test_setup_time_is_charged_to_the_one_who_needs_it() -> None:
    machine = Machine(DEV, setup=2.0)
    saturated(machine, {"a": 5, "b": 5})
    machine.run(100)
    a, b = served(machine)["a"], served(machine)["b"]
    assert abs(a - b) <= 20.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 7), st.sampled_from([0.0, 0.5, 3.0]))
def test_with_work_all_the_time_nobody_is_off_his_due_by_more_than_one_slice(
    seed: int, number: int, setup: float
) -> None:
    """Against a fluid server that gives each his part of every slice, whatever lengths, weights, hints and set-ups."""
    dice = random.Random(seed)
    machine, weights = some_contenders(dice, number, setup)
    total, errors = sum(weights.values()), dict.fromkeys(weights, 0.0)
    for _ in range(150):
        for name in weights:
            while sum(1 for job in machine.book.jobs.values() if job.session_id == name) < 2:
                machine.submit(name, dice.randint(1, 60), register_hash=dice.choice("pqr"))
        choice = machine.step()
        assert choice is not None
        cost = machine.landings[-1].charge.qpu_seconds
        for name, weight in weights.items():
            errors[name] += cost * ((name == choice.job.session_id) - weight / total)
        assert max(map(abs, errors.values())) <= longest_slice(setup), errors


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 7), st.sampled_from([0.0, 0.5, 3.0]), st.floats(0.02, 0.9))
def test_whoever_comes_and_goes_two_that_have_work_keep_their_proportion(
    seed: int, number: int, setup: float, load: float
) -> None:
    """While both have work, served ÷ weight of any two drift apart by no more than two slices each."""
    dice = random.Random(seed)
    machine, weights = some_contenders(dice, number, setup)
    spans: dict[tuple[str, str], list[float]] = {}  # pair → differences since both have work
    for _ in range(150):
        for name in weights:
            if dice.random() < load:
                machine.submit(name, dice.randint(1, 60), register_hash=dice.choice("pqr"))
        machine.step()
        busy = {job.session_id for job in machine.book.jobs.values()}
        got = {row.name: row.served_seconds / row.weight for row in machine.book.pending[RESOURCE].shares(machine.now)}
        for one, other in combinations(weights, 2):
            if not {one, other} <= busy:
                spans.pop((one, other), None)
                continue
            seen = spans.setdefault((one, other), [])
            seen.append(got[one] - got[other])
            bound = 2 * longest_slice(setup) * (1 / weights[one] + 1 / weights[other])
            assert max(seen) - min(seen) <= bound


def some_contenders(dice: random.Random, number: int, setup: float) -> tuple[Machine, dict[str, int]]:
    machine = Machine(DEV, setup=setup)
    weights = {f"s{one}": dice.randint(1, 10) for one in range(number)}
    for name, share in weights.items():
        more = {"nodes": dice.randint(1, 1000), "slurm_priority": dice.choice((0, 0, 1, 10_000))}
        machine.session(name, share=share, hint=dice.choice(HINTS), **more)
    return machine, weights


def longest_slice(setup: float) -> float:
    """SliceSeconds, or so long that set-up is a tenth of it; and the set-up."""
    return (max(10.0, 9 * setup) + setup) * (1 + 1e-9)


def test_a_newcomer_does_not_cash_in_the_time_he_was_away() -> None:
    machine = Machine(DEV)
    saturated(machine, {"a": 1, "b": 1})
    machine.run(100)
    machine.session("late")
    machine.submit("late", 100_000)
    before = len(machine.slices)
    machine.run(30)
    mine = [job for job, _shots in machine.slices[before:]].count(3)
    assert 9 <= mine <= 11


def test_one_job_after_the_other_gets_the_same_share_as_many_at_once() -> None:
    """Whoever submits when his last job has ended is away at each boundary, and loses nothing by it."""
    machine, weights = Machine(DEV), {"a": 5, "b": 3, "c": 2}
    for name, share in weights.items():
        machine.session(name, share=share)
        machine.submit(name, 10, register_hash=name)
    for _ in range(600):
        choice = machine.step()
        assert choice is not None
        machine.submit(choice.job.session_id, 10, register_hash=choice.job.session_id)
    total = sum(served(machine).values())
    for name, share in weights.items():
        assert abs(served(machine)[name] - total * share / 10) <= 2 * 10.0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["come", "go", "charge"])), max_size=80))
def test_those_that_have_work_are_owed_nothing_all_together(steps: list[tuple[str, str]]) -> None:
    group = Group()
    contenders = {
        name: Contender(group, name, "session", weight) for name, weight in zip("abcd", (1, 2, 3, 5), strict=True)
    }
    for name, step in steps:
        one = contenders[name]
        if step == "come":
            activate(one)
        elif step == "go":
            retire(one)
        elif one.is_active:
            charge(one, 7.0)
        if len(group.active) > 1:
            assert sum(each.lag_seconds for each in group.active.values()) == pytest.approx(0.0, abs=1e-6)


def test_slices_of_a_qc_heavy_session_are_long_unless_nodes_wait_between_short_jobs() -> None:
    machine = Machine(DEV)
    machine.session("heavy", hint=Hint.QC_HEAVY)
    machine.submit("heavy", 1000)
    assert machine.decide().shots == 50  # type: ignore[union-attr]
    machine.session("sparse", hint=Hint.CC_HEAVY, nodes=64)
    assert machine.decide().shots == 10  # type: ignore[union-attr]
    machine.book.remove_session("sparse")
    assert machine.decide().shots == 50  # type: ignore[union-attr]


def test_accounts_share_by_their_shares_however_many_sessions_they_open() -> None:
    policy = changed(DEV, fair_share_by=FairShareBy.ACCOUNT)
    shares = {"chem": AccountPolicy(name="chem", shares=3.0), "phys": AccountPolicy(name="phys", shares=1.0)}
    machine = Machine(msgspec.structs.replace(policy, accounts=shares))
    for number in range(5):
        machine.session(f"p{number}", account="phys", user=f"p{number}")
        machine.submit(f"p{number}", 100_000)
    machine.session("c", account="chem", user="c")
    machine.submit("c", 100_000)
    machine.run(400)
    assert served(machine)["c"] == pytest.approx(3000, abs=20)


def test_users_share_evenly_however_many_sessions_they_open() -> None:
    machine = Machine(changed(DEV, fair_share_by=FairShareBy.USER))
    for number in range(9):
        machine.session(f"a{number}", user="alice")
        machine.submit(f"a{number}", 100_000)
    machine.session("b", user="bob")
    machine.submit("b", 100_000)
    machine.run(200)
    assert served(machine)["b"] == pytest.approx(1000, abs=20)


def test_past_usage_leans_on_the_weights_of_accounts_and_starves_nobody() -> None:
    machine = Machine(changed(DEV, fair_share_by=FairShareBy.ACCOUNT))
    machine.book.usage.add("account chem", 7 * 86_400.0, machine.now)
    for name in ("chem", "phys"):
        machine.session(name, account=name)
        machine.submit(name, 100_000)
    machine.now += 100.0
    machine.run(300)
    ratio = served(machine)["phys"] / served(machine)["chem"]
    assert 2.0 <= ratio <= 16.5


def test_shares_tell_what_is_due_and_what_was_served() -> None:
    machine = Machine(DEV)
    saturated(machine, {"a": 3, "b": 1})
    machine.run(40)
    rows = {row.name: row for row in machine.book.pending[RESOURCE].shares(machine.now)}
    assert rows["a"].entitled == 0.75
    assert rows["a"].served_seconds + rows["b"].served_seconds == 400.0
    assert abs(rows["a"].lag_seconds) <= 10.0


def test_a_session_that_has_ended_leaves_nothing_behind() -> None:
    machine = Machine(DEV)
    machine.session("a")
    machine.submit("a", 10)
    machine.run()
    machine.book.remove_session("a")
    assert machine.book.pending[RESOURCE].shares(machine.now) == []


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_a_stream_of_new_sessions_takes_nothing_from_one_that_stays(at_once: int) -> None:
    """Each comes, has one slice and goes for good, with the hint that is served first."""
    machine = Machine(DEV)
    machine.session("stays")
    machine.submit("stays", 100_000)
    waiting: dict[int, str] = {}
    for number in range(400):
        for job_id in [job_id for job_id in waiting if job_id not in machine.book.jobs]:
            machine.book.remove_session(waiting.pop(job_id))
        for more in range(at_once - len(waiting)):
            name = f"new{number}.{more}"
            machine.session(name, hint=Hint.CC_HEAVY, nodes=1000)
            waiting[machine.submit(name, 10).id] = name
        machine.step()
    part = served(machine)["stays"] / sum(served(machine).values())
    assert part == pytest.approx(1 / (at_once + 1), rel=0.05)
