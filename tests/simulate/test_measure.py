"""Figures by hand: runs so short that each number can be worked out on paper."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from qpud.core.policy import AccountPolicy
from qpud.core.terms import FairShareBy
from qpud.simulate.measure import jain, spread
from qpud.simulate.trace import Batch, Shots
from tests.simulate.builders import a_policy, a_session, figures, job, think


def test_a_session_alone_waits_for_nothing_and_holds_its_nodes_to_its_end() -> None:
    (session,) = figures(a_policy(), [a_session("s", think(2), job(5), think(3), nodes=4, at=10)]).sessions
    assert (session.start, session.end, session.qpu_seconds) == (10, 20, 5)
    assert (session.node_seconds, session.node_seconds_waiting) == (40, 0)


def test_utilisation_is_the_part_of_the_wall_time_with_a_slice_in_flight() -> None:
    resource = figures(a_policy(), [a_session("s", think(2), job(5), think(3))]).resource
    assert (resource.busy_seconds, resource.wall_seconds, resource.utilisation) == (5, 10, 0.5)


def test_the_wait_is_from_submission_to_the_first_slice() -> None:
    trace = [a_session("a", job(10)), a_session("b", job(4), at=3)]
    waits = figures(a_policy("fifo"), trace).queues["development"].wait_seconds
    assert (waits.mean, waits.max) == (3.5, 7)


def test_the_turnaround_is_from_submission_to_the_end_and_the_slowdown_its_ratio_to_the_qpu_time() -> None:
    queue = figures(a_policy("fifo"), [a_session("a", job(10)), a_session("b", job(4), at=3)]).queues["development"]
    assert queue.turnaround_seconds.mean == (10 + 11) / 2
    assert queue.slowdown == (1.0 + 11 / 4) / 2


def test_a_session_waits_while_it_has_jobs_and_no_slice_of_them_is_in_flight() -> None:
    trace = [a_session("a", job(10)), a_session("b", job(4), at=3, nodes=5)]
    assert figures(a_policy("fifo"), trace).sessions[1].node_seconds_waiting == 5 * 7


def test_several_jobs_of_one_session_do_not_wait_for_each_other() -> None:
    trace = [a_session("a", Batch(jobs=(Shots(shots=10), Shots(shots=10))))]
    assert figures(a_policy(), trace).sessions[0].node_seconds_waiting == 0


def test_a_register_change_costs_its_setup_and_the_same_register_does_not() -> None:
    trace = [a_session("a", job(5, register="r"), job(5, register="r"), job(5, register="q"))]
    resource = figures(a_policy(setup_seconds=3.0), trace).resource
    assert (resource.setup_seconds, resource.busy_seconds) == (6, 21)


def test_steps_without_a_register_use_one_per_session() -> None:
    trace = [a_session("a", job(5), repeat=3), a_session("b", job(5), at=100)]
    assert figures(a_policy(setup_seconds=3.0), trace).resource.setup_seconds == 6


def test_what_has_not_happened_counts_as_if_it_happened_at_the_end() -> None:
    trace = [a_session("a", job(1000)), a_session("b", job(4), at=3)]
    result = figures(a_policy("fifo"), trace, until_seconds=50)
    assert result.queues["development"].wait_seconds.max == 47
    assert (result.sessions[1].end, result.resource.busy_seconds) == (50, 50)


def test_two_resources_count_apart_and_together() -> None:
    policy = a_policy(resources=("A", "B"))
    trace = [a_session("a", Batch(jobs=(Shots(shots=10, resource="A"), Shots(shots=5, resource="B"))))]
    result = figures(policy, trace)
    assert [one.utilisation for one in result.resources.values()] == [1.0, 0.5]
    assert (result.resource.shots, result.resource.utilisation) == (15, 0.75)


def test_a_share_is_due_while_there_is_work_only() -> None:
    """Alone for 20 s, then a quarter against three quarters until the short one ends."""
    trace = [a_session("a", job(60), share=1), a_session("b", job(30), share=3, at=20)]
    shares = {one.name: one for one in figures(a_policy(), trace).shares}
    assert shares["a"].served == pytest.approx(60 / 90)
    assert shares["a"].entitled + shares["b"].entitled == pytest.approx(1.0)
    assert shares["b"].entitled == pytest.approx(30 / 90, abs=20 / 90)


@pytest.mark.parametrize(("by", "names"), [(FairShareBy.USER, ["u", "v"]), (FairShareBy.ACCOUNT, ["-", "chem"])])
def test_shares_are_told_by_what_the_policy_shares_by(by: FairShareBy, names: list[str]) -> None:
    policy = replace(a_policy(daemon={"fair_share_by": by}), accounts={"chem": AccountPolicy(name="chem", shares=3.0)})
    trace = [a_session("a", job(10), user="u", account="chem"), a_session("b", job(10), user="v")]
    assert [one.name for one in figures(policy, trace).shares] == names


def test_the_entitlement_of_an_account_is_its_shares() -> None:
    policy = a_policy(daemon={"fair_share_by": FairShareBy.ACCOUNT, "priority_decay_half_life": 0.0})
    policy = replace(policy, accounts={"chem": AccountPolicy(name="chem", shares=3.0)})
    trace = [a_session("a", job(10000), account="chem"), a_session("b", job(10000))]
    result = figures(policy, trace, until_seconds=1000)
    assert {one.name: round(one.entitled, 3) for one in result.shares} == {"-": 0.25, "chem": 0.75}


def test_jains_index_is_one_for_equals_and_one_nth_if_one_has_everything() -> None:
    assert (jain([2.0, 2.0, 2.0]), jain([1.0, 0.0, 0.0, 0.0]), jain([])) == (1.0, 0.25, 1.0)


def test_percentiles_are_values_that_occurred() -> None:
    found = spread([float(value) for value in range(1, 101)])
    assert (found.p50, found.p95, found.p99, found.max) == (50, 95, 99, 100)


def test_nothing_has_no_spread() -> None:
    assert spread([]).max == 0.0
