"""shares: the table of who is entitled to what."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.conftest import Replay, Shell


def a_share(**fields: Any) -> dict[str, Any]:
    return {
        "resource": "TWIN",
        "tier": 10,
        "kind": "session",
        "account": "chem",
        "user": "ada",
        "session": None,
        "weight": 3.0,
        "entitled": 0.6,
        "served": 0.575,
        "served_seconds": 120.25,
        "owed_seconds": -4.04,
        "usage_seconds": None,
        "is_active": True,
        **fields,
    }


def an_answer(*shares: dict[str, Any], scheduler: str = "share") -> dict[str, Any]:
    return {"scheduler_type": scheduler, "fair_share_by": "account", "shares": list(shares)}


def test_shares_are_a_table(daemon: Replay, qpud: Shell) -> None:
    account = a_share(kind="account", user=None, usage_seconds=77.0, is_active=False)
    daemon.on("GET", "/v1/shares", an_answer(account, a_share(session="s1")))
    done = qpud("shares")
    assert [" ".join(line.split()) for line in done.stdout.splitlines()] == [
        "RESOURCE TIER ACCOUNT USER WEIGHT ENTITLED SERVED SECONDS OWED(s) USAGE(s) WORK SESSION",
        "TWIN 10 chem - 3 60.0% 57.5% 120.2 -4.0 77.0 no -",
        "TWIN 10 chem ada 3 60.0% 57.5% 120.2 -4.0 - yes s1",
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_anothers_session_is_said_to_be_anothers(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", "/v1/shares", an_answer(a_share()))
    assert "(another's)" in qpud("shares").stdout


def test_one_resource_can_be_named(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", "/v1/shares", an_answer(a_share()))
    qpud("shares", "TWIN")
    assert daemon.requests("GET", "/v1/shares")[0].query == "resource=TWIN"


def test_a_scheduler_that_shares_nothing_is_named(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", "/v1/shares", an_answer(scheduler="fifo"))
    done = qpud("shares")
    assert (done.returncode, "SchedulerType=fifo shares nothing" in done.stderr) == (0, True)


def test_no_work_yet_is_said(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", "/v1/shares", an_answer())
    assert "nobody has had work since the daemon started" in qpud("shares").stderr


def test_json_is_the_answer_as_it_came(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", "/v1/shares", an_answer(a_share()))
    assert json.loads(qpud("shares", "--json").stdout) == an_answer(a_share())
