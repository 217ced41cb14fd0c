"""Shares as people see them: names, parts of what was served, and no ids of others' sessions."""

from __future__ import annotations

from typing import Any

import pytest

from qpud.core.order import ShareRow
from qpud.core.session import Session
from qpud.core.shares import MOST_SHARES, Share, shares
from tests.core.builders import a_session

SESSIONS = {
    "s1": a_session(id="s1", user="alice", account="chem"),
    "s2": a_session(id="s2", user="bob", user_id=1002, account="bio"),
    "s3": a_session(id="s3", user="bob", user_id=1002),
}


def a_row(name: str, kind: str = "session", **changes: Any) -> ShareRow:
    return ShareRow(
        **{
            "tier": 10,
            "name": name,
            "kind": kind,
            "parent": "",
            "weight": 1.0,
            "entitled": 0.5,
            "served_seconds": 0.0,
            "lag_seconds": 0.0,
            "usage_seconds": 0.0,
            "is_active": True,
            **changes,
        }
    )


def shown(*rows: ShareRow, user_id: int | None = 1001) -> list[Share]:
    """What a user sees; None: an administrator."""

    def may_see(session: Session | None) -> bool:
        return user_id is None or (session is not None and session.user_id == user_id)

    return shares("TWIN", rows, SESSIONS.get, may_see)


def names(found: list[Share]) -> list[tuple[str | None, str | None, str | None]]:
    return [(one.account, one.user, one.session) for one in found]


def test_a_session_shows_its_account_and_user() -> None:
    assert names(shown(a_row("s1"))) == [("chem", "alice", "s1")]


def test_anothers_session_shows_no_id() -> None:
    assert names(shown(a_row("s2"))) == [("bio", "bob", None)]


def test_an_administrator_sees_every_id() -> None:
    assert names(shown(a_row("s1"), a_row("s2"), user_id=None)) == [("chem", "alice", "s1"), ("bio", "bob", "s2")]


def test_an_account_has_no_user_and_a_user_stands_below_his_account() -> None:
    rows = (
        a_row("chem", "account"),
        a_row("alice", "user"),
        a_row("s1"),
        a_row("bio", "account"),
        a_row("bob", "user"),
    )
    assert names(shown(*rows)) == [
        ("chem", None, None),
        ("chem", "alice", None),
        ("chem", "alice", "s1"),
        ("bio", None, None),
        ("bio", "bob", None),
    ]


def test_a_session_that_has_ended_stands_below_its_user_and_shows_its_id_to_administrators_only() -> None:
    rows = (a_row("bob", "user"), a_row("ended"))
    assert names(shown(*rows)) == [(None, "bob", None), (None, "bob", None)]
    assert names(shown(*rows, user_id=None)) == [(None, "bob", None), (None, "bob", "ended")]


def test_the_account_of_one_session_is_not_that_of_the_next() -> None:
    rows = (a_row("bob", "user"), a_row("s2"), a_row("s3"), a_row("ended"))
    assert [one.account for one in shown(*rows)] == [None, "bio", None, None]


def test_those_without_an_account_are_a_contender_without_a_name() -> None:
    assert names(shown(a_row("", "account"))) == [(None, None, None)]


def test_served_is_the_part_of_what_the_tier_was_served() -> None:
    rows = (
        a_row("s1", served_seconds=30.0),
        a_row("s2", served_seconds=10.0),
        a_row("s3", tier=100, served_seconds=5.0),
    )
    assert [one.served for one in shown(*rows)] == [0.75, 0.25, 1.0]


def test_what_an_account_was_served_is_not_counted_twice_with_its_members() -> None:
    rows = (
        a_row("chem", "account", served_seconds=30.0),
        a_row("alice", "user", served_seconds=30.0),
        a_row("s1", served_seconds=30.0),
        a_row("", "account", served_seconds=10.0),
        a_row("", "user", served_seconds=10.0),
        a_row("ended", served_seconds=10.0),
    )
    assert [one.served for one in shown(*rows)] == [0.75, 0.75, 0.75, 0.25, 0.25, 0.25]


def test_nothing_served_is_no_part() -> None:
    assert [one.served for one in shown(a_row("s1"), a_row("s2"))] == [0.0, 0.0]


def test_usage_is_of_users_and_accounts_only() -> None:
    rows = (a_row("chem", "account", usage_seconds=7.0), a_row("s1", usage_seconds=7.0))
    assert [one.usage_seconds for one in shown(*rows)] == [7.0, None]


@pytest.mark.parametrize(("extra", "expected"), [(0, MOST_SHARES), (1, MOST_SHARES // 2)])
def test_of_too_many_only_those_with_work_are_shown(extra: int, expected: int) -> None:
    rows = [a_row(f"x{number}", is_active=number % 2 == 0) for number in range(MOST_SHARES)]
    rows += [a_row("idle", is_active=False) for _ in range(extra)]
    assert len(shown(*rows)) == expected


def test_no_rows_are_no_shares() -> None:
    assert shown() == []
