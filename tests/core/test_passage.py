"""Load, passages and curves: the sums that forecasts are made of."""

from __future__ import annotations

import random

import pytest

from qpud.core.curve import Curve, Place
from qpud.core.load import MEMORY_SECONDS, QUIET, Load, Rates, Stream
from qpud.core.passage import CONFIDENCE, Coming, late, typical
from tests.core.builders import a_job


def a_passage(dice: random.Random, work: float, number: float, mean: float) -> float:
    """Seconds until work is done that others, who come at random with exponential seconds, go before."""
    now, left, next_one = 0.0, work, dice.expovariate(number)
    while now + left > next_one:
        left += dice.expovariate(1.0 / mean)
        left -= next_one - now
        now, next_one = next_one, next_one + dice.expovariate(number)
    return now + left


@pytest.mark.parametrize("work", [10.0, 300.0, 3000.0, 100_000.0])
@pytest.mark.parametrize("load", [0.1, 0.5, 0.8])
def test_half_of_all_passages_are_longer_than_the_typical_one_and_a_tenth_than_the_late_one(
    work: float, load: float
) -> None:
    dice, mean = random.Random(5), 100.0
    rates = (load / mean, load, load * 2 * mean)
    found = [a_passage(dice, work, rates[0], mean) for _ in range(1500)]
    over = sum(one > typical(work, *rates) + 1e-9 for one in found) / len(found)
    kept = sum(one <= late(work, *rates) + 1e-9 for one in found) / len(found)
    assert over <= 0.65
    assert over >= 0.35 or typical(work, *rates) == work  # sooner than that it cannot be done
    assert kept >= CONFIDENCE - 0.03


def test_with_nothing_coming_work_takes_its_time() -> None:
    assert (typical(100.0, *QUIET), late(100.0, *QUIET)) == (100.0, 100.0)


def test_no_load_makes_a_forecast_endless() -> None:
    assert typical(100.0, 1.0, 5.0, 50.0) < 20 * 100.0


def test_a_load_is_what_comes_per_second() -> None:
    stream = Stream()
    for number in range(20_000):
        stream.add(20.0, 0.0, number * 50.0)
    found = stream.rates(20_000 * 50.0)
    assert (found.seconds, found.mean) == (pytest.approx(0.4, rel=0.02), pytest.approx(20.0))


def test_a_load_fades() -> None:
    stream = Stream()
    stream.add(1000.0, 0.0, 0.0)
    soon, later = stream.rates(MEMORY_SECONDS).seconds, stream.rates(2 * MEMORY_SECONDS).seconds
    assert 0 < later < soon / 2


def test_a_scan_that_is_submitted_job_by_job_is_one_arrival() -> None:
    load, whole = Load(), Stream()
    for number in range(10):
        load.submitted(a_job(number, submitted_at=float(number) / 100), 30.0)
    whole.add(300.0, 0.0, 0.0)
    assert load.rates(1.0) == pytest.approx(whole.rates(1.0))


def test_users_who_were_not_seen_for_long_are_forgotten() -> None:
    load = Load()
    load.submitted(a_job(1, user_id=1, submitted_at=0.0), 1.0)
    load.submitted(a_job(2, user_id=2, submitted_at=MEMORY_SECONDS), 1.0)
    assert (load.users(MEMORY_SECONDS), load.users(MEMORY_SECONDS + 1)) == (2, 1)


def test_a_group_works_at_the_sum_of_its_rates() -> None:
    curve = Curve([(1.0, 0.0, 10.0), (2.0, 5.0, 20.0)])
    assert [curve(at) for at in (-1.0, 0.0, 5.0, 10.0, 20.0, 99.0)] == [0.0, 0.0, 5.0, 20.0, 40.0, 40.0]


def test_more_work_than_a_contender_has_goes_on_at_his_rate() -> None:
    curve = Curve([(1.0, 0.0, 10.0), (1.0, 0.0, 30.0)])
    place = Place(1.0, 0.0, 10.0, curve, None)
    assert (place.elapsed(10.0), place.elapsed(20.0)) == (20.0, 40.0)


def test_groups_nest() -> None:
    """Two users of equal weight; one has two sessions, each of which gets a quarter."""
    top = Curve([(1.0, 0.0, 100.0), (1.0, 0.0, 100.0)])
    user = Place(1.0, 0.0, 100.0, top, None)
    session = Place(1.0, 0.0, 50.0, Curve([(1.0, 0.0, 50.0), (1.0, 0.0, 50.0)]), user)
    assert session.elapsed(50.0) == 200.0


def test_newcomers_are_not_served_more_than_the_session_that_waits() -> None:
    """One other session, which comes with hours of work: it can double the time, no more."""
    coming = Coming(QUIET, Rates(0.01, 100.0, 1e6))
    usual, latest = coming.times(middle=100.0, work=100.0, worst=100.0, own=100.0, most=2.0)
    assert 100.0 <= usual <= latest <= 200.0
