"""Reservations: who owns a window, what it leaves to others, and which ones are possible."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpud.core import reservations
from qpud.core.errors import Conflict, Invalid
from qpud.core.reservations import Outlook, Reservation, Window
from tests.core.builders import a_session

NOW = 1_000.0
ALICE = a_session()


def a_reservation(
    name: str = "qa", starts_at: float = 2_000.0, ends_at: float = 3_000.0, **fields: Any
) -> Reservation:
    owners = {"users": ("bob",)} if not fields.keys() & {"users", "accounts", "duty"} else {}
    return Reservation(**{"resource": "TWIN", **owners, **fields}, name=name, starts_at=starts_at, ends_at=ends_at)


def left(windows: list[Reservation], now: float) -> Window:
    """What windows leave of TWIN to alice."""
    return Outlook(windows, "TWIN", now).window(ALICE)


@pytest.mark.parametrize(
    ("owners", "session"),
    [
        ({"users": ("bob", "alice")}, {}),
        ({"accounts": ("chem",)}, {"account": "chem"}),
        ({"duty": "qa"}, {"account": "duty:qa"}),
    ],
)
def test_user_account_and_duty_own_a_window(owners: Any, session: Any) -> None:
    assert reservations.owns(a_reservation(**owners), a_session(**session))


@pytest.mark.parametrize(
    ("owners", "session"),
    [
        ({"users": ("bob",)}, {}),
        ({"accounts": ("chem",)}, {}),
        ({"accounts": ("chem",)}, {"account": "physics"}),
        ({"duty": "qa"}, {"account": "qa"}),
        ({"duty": "qa"}, {"account": "duty:calibration"}),
        ({"users": ("bob",)}, {"account": "duty:"}),
    ],
)
def test_others_do_not(owners: Any, session: Any) -> None:
    assert not reservations.owns(a_reservation(**owners), a_session(**session))


def test_a_session_that_has_ended_owns_nothing() -> None:
    assert not reservations.owns(a_reservation(), None)


@pytest.mark.parametrize(
    ("now", "seconds"), [(1_000.0, 1_000.0), (1_999.0, 1.0), (2_000.0, 0.0), (2_999.0, 0.0), (3_000.0, None)]
)
def test_a_window_of_others_leaves_the_time_before_and_after_it(now: float, seconds: float | None) -> None:
    assert left([a_reservation()], now).seconds == seconds


def test_an_owner_is_not_limited_by_his_window() -> None:
    mine = a_reservation(users=("alice",))
    assert [left([mine], now).seconds for now in (1_000.0, 2_000.0)] == [None, None]


def test_an_owner_is_limited_by_the_next_window_of_others() -> None:
    mine = a_reservation(users=("alice",))
    assert left([mine, a_reservation("b", 3_000.0, 4_000.0)], 2_000.0).seconds == 1_000.0


def test_a_window_of_another_resource_limits_nobody() -> None:
    assert left([a_reservation(resource="OTHER")], 2_500.0) is reservations.OPEN


def test_the_next_boundary_is_the_nearest_start_or_end_to_come() -> None:
    both = [a_reservation(), a_reservation("b", 500.0, 1_500.0)]
    found = [reservations.next_boundary(both, now) for now in (0.0, 500.0, 1_500.0, 2_000.0, 3_000.0)]
    assert found == [500.0, 1_500.0, 2_000.0, 3_000.0, None]


def test_windows_that_touch_do_not_overlap() -> None:
    reservations.check(
        a_reservation(), [a_reservation("b", 3_000.0, 4_000.0), a_reservation("c", 1_500.0, 2_000.0)], NOW
    )


@pytest.mark.parametrize(("starts_at", "ends_at"), [(2_500, 2_600), (1_500, 2_001), (2_999, 4_000), (1_000, 4_000)])
def test_windows_of_one_resource_that_overlap_are_refused(starts_at: float, ends_at: float) -> None:
    with pytest.raises(Conflict, match=r"overlaps reservation b, which has TWIN from 1970-01-01 00:33:20 UTC to"):
        reservations.check(a_reservation("qa", starts_at, ends_at), [a_reservation("b")], NOW)


def test_windows_of_two_resources_may_overlap() -> None:
    reservations.check(a_reservation(), [a_reservation("b", resource="OTHER")], NOW)


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(Conflict, match="reservation qa exists already"):
        reservations.check(a_reservation(), [a_reservation(starts_at=5_000.0, ends_at=6_000.0)], NOW)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"name": "a b"}, "'a b' is no name of a reservation"),
        ({"name": ""}, "'' is no name of a reservation"),
        ({"users": ()}, "needs an owner"),
        ({"accounts": ("",)}, "an owner whose name is empty or unprintable"),
        ({"users": ("bob\x1b[2J",)}, "an owner whose name is empty or unprintable"),
        ({"ends_at": 2_000.0}, "a reservation of 0 s is outside 1 …"),
        ({"ends_at": float("inf")}, "a reservation of inf s is outside 1 …"),
        ({"starts_at": 10.0, "ends_at": 20.0}, "would end at 1970-01-01 00:00:20 UTC, which is past"),
    ],
)
def test_what_is_no_reservation_is_refused(wrong: Any, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        reservations.check(msgspec.structs.replace(a_reservation(), **wrong), [], NOW)


@pytest.mark.parametrize("at", [-1e11, 0.0, 1e12, 1e300])
def test_any_moment_can_be_said(at: float) -> None:
    assert reservations.moment(at).endswith(" UTC")


def test_a_reservation_that_has_begun_already_is_possible() -> None:
    reservations.check(a_reservation(starts_at=900.0), [], NOW)


spans = st.tuples(st.integers(0, 50), st.integers(1, 10)).map(lambda span: (float(span[0]), float(sum(span))))


@given(st.lists(spans, max_size=12), st.integers(0, 60))
def test_at_most_one_accepted_window_is_active_at_any_time(asked: list[tuple[float, float]], now: int) -> None:
    accepted: list[Reservation] = []
    for number, (starts_at, ends_at) in enumerate(asked):
        new = a_reservation(f"r{number}", starts_at, ends_at)
        try:
            reservations.check(new, accepted, 0.0)
        except Conflict:
            continue
        accepted.append(new)
    assert sum(one.starts_at <= now < one.ends_at for one in accepted) <= 1


@given(st.lists(spans, max_size=8), st.integers(0, 60), st.integers(0, 60))
def test_whoever_stops_in_the_time_left_never_meets_a_window(
    asked: list[tuple[float, float]], now: int, later: int
) -> None:
    windows = [a_reservation(f"r{number}", *span) for number, span in enumerate(asked)]
    seconds = left(windows, float(now)).seconds
    if seconds is None or later < seconds:
        assert reservations.active(windows, "TWIN", float(now + later)) is None
