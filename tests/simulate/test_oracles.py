"""What is known exactly, or by theory, comes out of the simulation of the daemon's own mind.

The long runs, with their figures, are in tests/bench/mind.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from qpud.core.session import Hint
from qpud.simulate.trace import SessionTrace
from tests.simulate import queueing as theory
from tests.simulate.builders import a_policy, figures, sliced
from tests.simulate.queueing import Interval, measure_streams
from tests.simulate.scenarios import (
    EXAMPLE,
    RATE,
    SHARES,
    SLICE,
    THREE,
    at_once,
    coming_mixes,
    equal_hybrids,
    long_jobs,
    one_after_the_other,
    patterns,
    qoncord,
    saturated,
    waiting_mixes,
    with_overhead,
    without_hints,
)
from tests.simulate.search import least_waiting

SEEDS = range(6)
HORIZON = 400_000.0


def assert_meets(found: Interval, value: float, precision: float = 0.5) -> None:
    """Theory lies in the confidence interval, and the interval is narrow enough to mean something."""
    assert found.precision <= precision, found
    assert found.holds(value), (found, value)


# -- queueing theory
def test_first_come_first_served_waits_as_pollaczek_and_khinchine_say() -> None:
    found = measure_streams(a_policy("fifo", shot_rate=RATE), THREE, HORIZON, SEEDS)
    for one in THREE:
        assert_meets(found.wait[one.queue], theory.fifo_wait(THREE))


def test_priority_waits_as_cobham_says() -> None:
    found = measure_streams(a_policy("priority", shot_rate=RATE), THREE, HORIZON, SEEDS)
    for at, one in enumerate(THREE):
        assert_meets(found.wait[one.queue], theory.cobham_wait(THREE, at))


def test_share_that_yields_at_once_is_preemptive_resume() -> None:
    found = measure_streams(at_once(shot_rate=RATE), THREE, HORIZON, SEEDS)
    for at, one in enumerate(THREE):
        assert_meets(found.turnaround[one.queue], theory.preemptive_turnaround(THREE, at))


@pytest.mark.parametrize(("scheduler", "expected"), [("fifo", 887), ("priority", 197), ("share", 10.6)])
def test_production_of_the_md1_example_waits_as_long_as_theory_says(scheduler: str, expected: float) -> None:
    found = measure_streams(a_policy(scheduler, sliced(SLICE)), EXAMPLE, HORIZON, SEEDS).wait["production"]
    by_theory = {
        "fifo": theory.fifo_wait(EXAMPLE),
        "priority": theory.cobham_wait(EXAMPLE, 0),
        "share": theory.sliced_wait_of_top(EXAMPLE, SLICE),
    }[scheduler]
    assert by_theory == pytest.approx(expected, rel=0.01)
    assert_meets(found, by_theory)


def test_production_of_the_md1_example_waits_at_most_for_one_slice_more_than_if_it_interrupted_at_once() -> None:
    at_best = theory.preemptive_turnaround(EXAMPLE, 0) - EXAMPLE[0].mean
    assert at_best == pytest.approx(2.8, abs=0.03)
    assert theory.sliced_wait_of_top(EXAMPLE, SLICE) <= at_best + SLICE


# -- makespans
@pytest.mark.parametrize(("number", "fraction"), [(2, 0.5), (4, 0.25), (4, 0.5), (8, 0.1)])
def test_exclusive_sessions_take_the_sum_of_their_times(number: int, fraction: float) -> None:
    trace = equal_hybrids(number, fraction, 1000.0, 50)
    wall = figures(a_policy("exclusive", shot_rate=10.0), trace).resource.wall_seconds
    assert wall == pytest.approx(number * 1000.0)


@pytest.mark.parametrize("scheduler", ["fifo", "priority", "share"])
@pytest.mark.parametrize(("number", "fraction"), [(2, 0.5), (4, 0.25), (4, 0.5), (8, 0.1)])
def test_shared_sessions_take_as_long_as_the_qpu_or_one_of_them_needs(
    number: int, fraction: float, scheduler: str
) -> None:
    """Up to the rounds in which they fall into step: less than one round of each."""
    trace = equal_hybrids(number, fraction, 1000.0, 50)
    wall = figures(a_policy(scheduler, shot_rate=10.0), trace).resource.wall_seconds
    least = max(number * fraction * 1000.0, 1000.0)
    assert least <= wall <= least + number * fraction * 1000.0 / 50 + 1000.0 / 50


def test_a_qoncord_session_uses_an_exclusive_qpu_five_sevenths() -> None:
    assert figures(a_policy("exclusive"), qoncord(3)).resource.utilisation == pytest.approx(5 / 7)


@pytest.mark.parametrize("number", [2, 3, 5])
def test_qoncord_sessions_that_share_keep_the_qpu_busy(number: int) -> None:
    assert figures(a_policy("share"), qoncord(number)).resource.utilisation >= 0.99


# -- shares
@pytest.mark.parametrize("until", [100.0, 777.0, 3600.0, 36_000.0])
@pytest.mark.parametrize("make", [long_jobs, one_after_the_other])
def test_shares_of_5_3_and_2_get_half_three_and_two_tenths_within_one_slice(make: object, until: float) -> None:
    result = figures(a_policy("share"), make(), until_seconds=until)  # type: ignore[operator]
    charged = sum(one.qpu_seconds for one in result.sessions)
    for one in result.sessions:
        assert abs(one.qpu_seconds - charged * SHARES[one.id] / 10) <= SLICE + 2.0  # jobs of at most 22 s


@pytest.mark.parametrize("make", [long_jobs, one_after_the_other])
def test_an_hour_of_shares_has_a_jain_index_of_nearly_one(make: object) -> None:
    assert figures(a_policy("share"), make(), until_seconds=3600.0).jain >= 0.999  # type: ignore[operator]


# -- production on a saturated QPU
@pytest.mark.parametrize(("setup", "part"), [(0.0, 0.1), (2.0, 0.05)])
def test_production_waits_at_most_one_slice_and_one_setup_and_development_pays_under_6_percent(
    setup: float, part: float
) -> None:
    found = {}
    for scheduler in ("priority", "share"):
        policy = a_policy(scheduler, with_overhead(part), setup_seconds=setup)  # type: ignore[arg-type]
        found[scheduler] = figures(policy, saturated(100_000.0), until_seconds=100_000.0).queues
    longest = max(SLICE, setup * (1 - part) / part)
    assert found["share"]["production"].wait_seconds.p99 <= longest + setup
    cost = [found[name]["development"].turnaround_seconds.mean for name in ("priority", "share")]
    assert cost[1] / cost[0] < 1.06


# -- hints
def test_hints_spare_a_third_of_the_waiting_nodes_of_plain_priority_at_equal_utilisation() -> None:
    for seed in (1, 2, 3):
        plain, hinted = (figures(a_policy(name), patterns(seed)) for name in ("priority", "share"))
        assert hinted.node_seconds.waiting <= 0.7 * plain.node_seconds.waiting
        assert hinted.resource.utilisation >= plain.resource.utilisation - 0.01


def test_hints_spare_waiting_nodes_against_the_same_scheduler_without_them() -> None:
    mixes = [patterns(seed) for seed in (1, 2, 3)]
    hinted = sum(figures(a_policy("share"), trace).node_seconds.waiting for trace in mixes)
    silent = sum(figures(a_policy("share"), without_hints(trace)).node_seconds.waiting for trace in mixes)
    assert hinted < 0.7 * silent


def waiting(trace: Sequence[SessionTrace], scheduler: str = "share") -> float:
    return figures(a_policy(scheduler), trace).node_seconds.waiting


def test_what_is_there_waits_with_at_most_a_tenth_more_nodes_than_in_the_best_order() -> None:
    traces = list(waiting_mixes(range(12)))
    assert sum(map(waiting, traces)) <= 1.1 * sum(least_waiting(trace, int(SLICE)) for trace in traces)


def test_with_one_quantum_heavy_session_what_is_there_goes_in_the_best_order() -> None:
    for trace in waiting_mixes(range(12)):
        if sum(session.hint is Hint.QC_HEAVY for session in trace) < 2:
            assert waiting(trace) == least_waiting(trace, int(SLICE))


def test_what_comes_waits_with_at_most_a_fifth_more_nodes_than_if_it_had_been_foreseen() -> None:
    traces = list(coming_mixes(range(12)))
    assert sum(map(waiting, traces)) <= 1.2 * sum(least_waiting(trace, int(SLICE)) for trace in traces)
