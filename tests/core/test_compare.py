"""Two sets of counts: told apart when they differ, not more often than promised when they do not."""

from __future__ import annotations

import math

import pytest

from qpud.core.compare import chi_square_survival, compare, distance, g_statistic


@pytest.mark.parametrize(
    ("x", "degrees", "expected"),
    [  # quantiles of NIST/SEMATECH e-Handbook §1.3.6.7.4; closed forms exp(-x/2) and erfc(sqrt(x/2))
        (3.841458820694124, 1, 0.05),
        (6.6348966010212145, 1, 0.01),
        (18.307038053275146, 10, 0.05),
        (124.34211340400407, 100, 0.05),
        (10.0, 2, math.exp(-5.0)),
        (700.0, 2, math.exp(-350.0)),
        (0.5, 1, math.erfc(math.sqrt(0.25))),
        (9.0, 1, math.erfc(math.sqrt(4.5))),
        (0.0, 7, 1.0),
    ],
)
def test_the_survival_function_of_chi_square_is_right(x: float, degrees: int, expected: float):
    assert chi_square_survival(x, degrees) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("degrees", [1, 2, 3, 30, 501, 4000])
def test_both_forms_meet_where_one_takes_over(degrees: int):
    at = float(degrees + 2)
    below, above = chi_square_survival(at * (1 - 1e-12), degrees), chi_square_survival(at * (1 + 1e-12), degrees)
    assert below == pytest.approx(above, rel=1e-9)


def test_even_degrees_are_sums_of_poisson():
    for half in (1, 3, 10, 50):
        for x in (0.3, 5.0, 40.0, 160.0):
            poisson = math.fsum(math.exp(-x / 2 + k * math.log(x / 2) - math.lgamma(k + 1)) for k in range(half))
            assert chi_square_survival(x, 2 * half) == pytest.approx(poisson, rel=1e-8)


def test_g_of_a_small_table_is_as_computed_by_hand():
    g, degrees = g_statistic({"0": 30, "1": 70}, {"0": 50, "1": 50})
    by_hand = 2 * (30 * math.log(30 / 40) + 70 * math.log(70 / 60) + 50 * math.log(50 / 40) + 50 * math.log(50 / 60))
    assert (g, degrees) == (pytest.approx(by_hand), 1)


def test_rare_outcomes_are_pooled():
    rare = {f"{n:08b}": 1 for n in range(1, 21)}
    _, degrees = g_statistic({"0" * 8: 80, **rare}, {"0" * 8: 91, "1" * 8: 9})
    assert degrees == 1


def test_the_distance_is_that_of_the_frequencies():
    assert distance({"0": 1, "1": 1}, {"0": 10}) == 0.5
    assert distance({"0": 3}, {"1": 5}) == 1.0


def test_different_outcomes_only_are_told_apart():
    assert not compare({"01": 100}, {"10": 100}).equal


def test_one_and_the_same_outcome_is_equal():
    found = compare({"01": 100}, {"01": 7})
    assert (found.equal, found.identical, found.degrees, found.p_value) == (True, False, 0, 1.0)
    assert compare({"01": 100}, {"01": 100}).identical
