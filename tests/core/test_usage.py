"""Usage fades by half-lives, is forgotten at calendar boundaries, and does not care how it was told."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpud.core.terms import UsageReset
from qpud.core.usage import Usage, decay, last_reset

DAY = 86_400.0
HALF_LIFE = 7 * DAY

times = st.floats(min_value=0.0, max_value=4e9)
periods = st.sampled_from(UsageReset)
charges = st.lists(st.tuples(st.floats(0.0, 1e6), times), max_size=20)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_usage_counts_half_after_a_half_life() -> None:
    assert decay(100.0, HALF_LIFE, HALF_LIFE) == 50.0


def test_usage_never_fades_with_a_half_life_of_0() -> None:
    assert decay(100.0, 1e12, 0.0) == 100.0


def test_usage_of_long_ago_fades_to_nothing_without_an_error() -> None:
    assert decay(100.0, 1e12, 1e-3) == 0.0


@given(times, times, st.floats(1.0, 1e9))
def test_fading_twice_is_fading_once_for_the_sum(first: float, second: float, half_life: float) -> None:
    twice = decay(decay(1e6, first, half_life), second, half_life)
    assert math.isclose(twice, decay(1e6, first + second, half_life), rel_tol=1e-6, abs_tol=1e-290)


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        (UsageReset.DAILY, "2026-11-26"),
        (UsageReset.WEEKLY, "2026-11-23"),
        (UsageReset.MONTHLY, "2026-11-01"),
        (UsageReset.QUARTERLY, "2026-10-01"),
        (UsageReset.YEARLY, "2026-01-01"),
    ],
)
def test_a_reset_is_the_first_midnight_of_its_period(period: UsageReset, expected: str) -> None:
    assert last_reset(period, at("2026-11-26T15:30:12.5")) == at(expected)


def test_without_a_period_there_is_no_reset() -> None:
    assert last_reset(UsageReset.NONE, at("2026-11-26")) is None


def test_a_week_begins_on_monday_also_across_a_month_and_a_year() -> None:
    assert last_reset(UsageReset.WEEKLY, at("2027-01-03T23:59:59")) == at("2026-12-28")


def test_a_tenth_of_a_microsecond_before_midnight_is_still_the_day_before() -> None:
    midnight = at("2026-11-27")
    just_before = math.nextafter(midnight, 0.0)
    assert last_reset(UsageReset.DAILY, just_before) == midnight - DAY


@given(periods, times)
def test_a_reset_is_never_in_the_future_and_is_its_own_last_reset(period: UsageReset, now: float) -> None:
    reset = last_reset(period, now)
    assert reset is None or (reset <= now and last_reset(period, reset) == reset)


@given(periods, times, times)
def test_resets_come_in_the_order_of_time(period: UsageReset, one: float, other: float) -> None:
    first, second = (last_reset(period, now) or 0.0 for now in sorted((one, other)))
    assert first <= second


def test_a_name_that_was_never_charged_has_no_usage() -> None:
    assert Usage(HALF_LIFE).value("chem", 1e9) == 0.0


def test_charges_of_different_times_add_up_as_faded() -> None:
    usage = Usage(HALF_LIFE)
    usage.add("chem", 100.0, 0.0)
    usage.add("chem", 10.0, HALF_LIFE)
    assert usage.value("chem", 2 * HALF_LIFE) == pytest.approx(30.0)


def test_names_do_not_share_their_usage() -> None:
    usage = Usage(HALF_LIFE)
    usage.add("chem", 100.0, 0.0)
    usage.add(None, 1.0, 0.0)
    assert (usage.value("chem", 0.0), usage.value(None, 0.0)) == (100.0, 1.0)


def test_a_charge_of_the_past_counts_as_faded() -> None:
    usage = Usage(HALF_LIFE)
    usage.add("chem", 10.0, HALF_LIFE)
    usage.add("chem", 100.0, 0.0)
    assert usage.value("chem", HALF_LIFE) == 60.0


def test_a_clock_that_was_set_back_makes_nothing_grow() -> None:
    usage = Usage(HALF_LIFE)
    usage.add("chem", 10.0, HALF_LIFE)
    assert usage.value("chem", 0.0) == 10.0


def test_usage_is_forgotten_at_the_boundary_and_not_before() -> None:
    usage = Usage(0.0, UsageReset.MONTHLY)
    usage.add("chem", 10.0, at("2026-11-30T23:00"))
    values = [usage.value("chem", at(now)) for now in ("2026-11-30T23:59:59", "2026-12-01")]
    assert values == [10.0, 0.0]


def test_a_charge_at_the_boundary_belongs_to_the_new_period() -> None:
    usage = Usage(0.0, UsageReset.DAILY)
    usage.add("chem", 10.0, at("2026-11-26"))
    assert usage.value("chem", at("2026-11-26T12:00")) == 10.0


def test_a_charge_after_a_reset_begins_anew() -> None:
    usage = Usage(0.0, UsageReset.DAILY)
    usage.add("chem", 10.0, at("2026-11-26T12:00"))
    usage.add("chem", 1.0, at("2026-11-27T12:00"))
    assert usage.value("chem", at("2026-11-27T13:00")) == 1.0


def test_a_late_charge_of_the_last_period_counts_nothing() -> None:
    usage = Usage(0.0, UsageReset.DAILY)
    usage.add("chem", 1.0, at("2026-11-27T12:00"))
    usage.add("chem", 10.0, at("2026-11-26T12:00"))
    assert usage.value("chem", at("2026-11-27T13:00")) == 1.0


def test_a_new_half_life_holds_from_the_next_look() -> None:
    usage = Usage(0.0)
    usage.add("chem", 10.0, 0.0)
    usage.half_life = DAY
    assert usage.value("chem", DAY) == 5.0


@given(charges, periods, st.sampled_from([0.0, 3600.0, HALF_LIFE]))
def test_usage_is_the_sum_of_all_charges_since_the_reset_each_faded_by_its_age(
    told: list[tuple[float, float]], period: UsageReset, half_life: float
) -> None:
    now = max((when for _seconds, when in told), default=0.0)
    usage = Usage(half_life, period)
    for seconds, when in told:
        usage.add("chem", seconds, when)
    reset = last_reset(period, now) or 0.0
    expected = sum(decay(seconds, now - when, half_life) for seconds, when in told if when >= reset)
    assert usage.value("chem", now) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(charges, periods, st.randoms(use_true_random=False))
def test_the_order_in_which_charges_are_told_changes_nothing(
    told: list[tuple[float, float]], period: UsageReset, chance: random.Random
) -> None:
    shuffled = list(told)
    chance.shuffle(shuffled)
    values = []
    for order in (told, shuffled):
        usage = Usage(HALF_LIFE, period)
        for seconds, when in order:
            usage.add("chem", seconds, when)
        values.append(usage.value("chem", 4e9))
    assert values[0] == pytest.approx(values[1], rel=1e-6, abs=1e-9)
