"""Polling is fitted to the expected end."""

from __future__ import annotations

import pytest

from qpud.drivers.pace import Pace, Rhythm


def polls_until(end: float, rhythm: Rhythm) -> list[float]:
    """Times of the polls of a slice that ends at `end`."""
    times = [rhythm.next(0.0)]
    while times[-1] < end:
        times.append(times[-1] + rhythm.next(times[-1]))
    return times


def test_a_known_rate_gives_one_poll_at_the_expected_end():
    pace = Pace(1.0, 0.2, 30.0)
    pace.learn(10, 5.0)
    assert polls_until(10.0, Rhythm(pace, 20)) == [10.0]


def test_an_unknown_rate_gives_few_polls_and_an_end_noticed_soon():
    times = polls_until(60.0, Rhythm(Pace(1.0, 0.2, 30.0), 60))
    assert len(times) < 15
    assert times[-1] <= 60.0 * 1.5


def test_no_pause_is_longer_than_poll_max_however_far_the_end():
    pace = Pace(1.0, 0.2, 30.0)
    pace.learn(1, 1.0)
    assert Rhythm(pace, 10_000).next(0.0) == 30.0


def test_past_the_expected_end_pauses_grow_from_poll_min():
    pace = Pace(1.0, 0.2, 30.0)
    pace.learn(1, 1.0)
    rhythm = Rhythm(pace, 10)
    assert [rhythm.next(10.0 + n) for n in range(3)] == pytest.approx([0.2, 0.3, 0.45])


def test_after_a_cancel_the_expected_end_counts_no_more():
    pace = Pace(1.0, 0.2, 30.0)
    pace.learn(1, 1.0)
    rhythm = Rhythm(pace, 1000)
    rhythm.hurry()
    assert rhythm.next(1.0) == 0.2


def test_the_first_slice_replaces_the_guess_and_later_ones_move_it():
    pace = Pace(1.0, 0.2, 30.0)
    pace.learn(100, 1.0)
    assert pace.shot_rate == pytest.approx(100.0)
    pace.learn(100, 2.0)
    assert 70.0 < pace.shot_rate < 80.0


@pytest.mark.parametrize(("shots", "seconds"), [(0, 1.0), (10, 0.0), (10, -1.0)])
def test_nonsense_is_not_learnt(shots, seconds):
    pace = Pace(5.0, 0.2, 30.0)
    pace.learn(shots, seconds)
    assert (pace.shot_rate, pace.measured) == (5.0, False)


def test_there_is_always_a_shot_to_run():
    assert Pace(0.01, 0.2, 30.0).shots_for(1.0) == 1
