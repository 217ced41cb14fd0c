"""cancel by filter, update, down, reservation: what is asked of the daemon, what people read, and exit codes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from qpud.api import job_wire, wire
from qpud.core.job import JobState

AT = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def line(**changes: Any) -> job_wire.CanceledLine:
    fields = {"id": 7, "user": "ada", "before": JobState.PENDING, "state": JobState.CANCELED, "shots": 100}
    return job_wire.CanceledLine(**{**fields, "shots_done": 0, "message": "job 7 is canceled", **changes})


def sums(**changes: Any) -> Any:
    fields = {"dry_run": False, "matched": 0, "canceled": 0, "stopping": 0, "ended": 0, "jobs": []}
    return plain(job_wire.CancelSums(**(fields | changes)))


def reservation(**changes: Any) -> Any:
    fields = {
        "name": "monday",
        "resource": "FRESNEL",
        "starts_at": AT,
        "ends_at": AT.replace(hour=12),
        "active": True,
        "accounts": ["chem", "ops"],
        "users": [],
        "duty": "qa",
        "created_by": "root",
        "created_at": AT,
    }
    return plain(wire.ReservationView(**(fields | changes)))


def refusal(sentence: str) -> dict[str, str]:
    return {"detail": sentence, "code": "forbidden"}


# -- cancel by filter


def test_a_filter_is_sent_as_it_was_given(qpud: Any, daemon: Any) -> None:
    daemon.on("POST", "/v1/jobs/cancel", sums(matched=3, canceled=2, stopping=1))
    ended = qpud("cancel", "--queue", "development", "--state", "pending", "--qpu", "FRESNEL")
    assert daemon.asked[0].body == {
        "queue": "development",
        "resource": "FRESNEL",
        "state": "PENDING",
        "dry_run": False,
    }
    assert (ended.returncode, ended.stdout) == (
        0,
        "3 jobs: 2 canceled; 1 asked to stop, the slice in flight is ending\n",
    )


def test_jobs_that_had_ended_otherwise_fail_the_cancel(qpud: Any, daemon: Any) -> None:
    daemon.on("POST", "/v1/jobs/cancel", sums(matched=1, ended=1))
    ended = qpud("cancel", "--user", "ada")
    assert (ended.returncode, ended.stdout) == (1, "1 job: 1 had ended before\n")


def test_a_dry_run_lists_what_would_be_canceled(qpud: Any, daemon: Any) -> None:
    jobs = [line(state=JobState.PENDING, message="job 7 would be canceled: 0 of 100 shots have run")]
    daemon.on("POST", "/v1/jobs/cancel", sums(dry_run=True, matched=1500, jobs=jobs))
    ended = qpud("cancel", "--user", "ada", "--dry-run")
    assert daemon.asked[0].body == {"user": "ada", "dry_run": True}
    rows = ended.stdout.splitlines()
    assert rows[1].split()[:4] == ["7", "ada", "PENDING", "0/100"]
    assert rows[2] == "1500 jobs would be canceled, 1499 of them not listed"


def test_a_filter_that_selects_nothing_is_no_failure(qpud: Any, daemon: Any) -> None:
    daemon.on("POST", "/v1/jobs/cancel", sums())
    ended = qpud("cancel", "--batch", "b")
    assert (ended.returncode, ended.stdout) == (0, "no unfinished job is selected\n")


@pytest.mark.parametrize("words", [(), ("7", "--user", "ada"), ("7", "--dry-run"), ("--state", "DONE")])
def test_a_cancel_without_aim_or_with_two_is_not_understood(qpud: Any, daemon: Any, words: tuple[str, ...]) -> None:
    assert qpud("cancel", *words).returncode == 2
    assert daemon.asked == []


# -- change of queue


def moved(job: int, queue: str) -> dict[str, Any]:
    return {"id": job, "queue": queue, "state": "PENDING"}


def test_update_moves_each_job(qpud: Any, daemon: Any) -> None:
    daemon.on("POST", "/v1/jobs/7/queue", moved(7, "production"))
    daemon.on("POST", "/v1/jobs/8/queue", refusal("5000 shots exceed MaxShots 1000"), status=422)
    ended = qpud("update", "7", "8", "--queue=production")
    assert daemon.asked[0].body == {"queue": "production", "override": False}
    assert ended.returncode == 1
    assert ended.stdout == "job 7 is in queue production from its next slice on\n"
    assert ended.stderr == "qpud: 5000 shots exceed MaxShots 1000\n"


def test_override_is_passed_on(qpud: Any, daemon: Any) -> None:
    daemon.on("POST", "/v1/jobs/7/queue", moved(7, "production"))
    assert qpud("update", "7", "--queue", "production", "--override").returncode == 0
    assert daemon.asked[0].body["override"] is True


def test_update_needs_a_queue(qpud: Any) -> None:
    assert qpud("update", "7").returncode == 2


# -- down


def test_down_sends_its_reason(qpud: Any, daemon: Any) -> None:
    daemon.on("POST", "/v1/resources/FRESNEL/down", {"name": "FRESNEL", "state": "down"})
    assert qpud("down", "FRESNEL", "--reason", "vacuum").stdout == "FRESNEL is down: vacuum\n"
    assert daemon.asked[0].body == {"reason": "vacuum"}


def test_down_needs_a_reason(qpud: Any) -> None:
    assert qpud("down", "FRESNEL").returncode == 2


# -- reservations


def test_a_reservation_is_created_with_its_window_and_owners(qpud: Any, daemon: Any) -> None:
    daemon.on("POST", "/v1/reservations", reservation(), status=201)
    ended = qpud(
        *("reservation", "create", "monday", "--resource", "FRESNEL", "--start", "2026-11-24T10:00"),
        *("--duration", "2h", "--accounts", "chem, ops", "--duty", "qa"),
    )
    assert daemon.asked[0].body == {
        "name": "monday",
        "resource": "FRESNEL",
        "starts_at": "2026-11-24T10:00:00+00:00",
        "duration_seconds": 7200.0,
        "accounts": ["chem", "ops"],
        "users": [],
        "duty": "qa",
    }
    assert ended.stdout == "reservation monday of FRESNEL: 2026-11-24 10:00:00 to 2026-11-24 12:00:00\n"


@pytest.mark.parametrize("words", [("--start", "soon", "--duration", "1h"), ("--duration", "never"), ()])
def test_a_window_that_cannot_be_read_is_not_sent(qpud: Any, daemon: Any, words: tuple[str, ...]) -> None:
    assert qpud("reservation", "create", "monday", "--users", "ada", *words).returncode == 2
    assert daemon.asked == []


def test_reservations_are_listed_with_state_and_owners(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/reservations", {"reservations": [reservation(), reservation(name="next", active=False)]})
    rows = [row.split() for row in qpud("reservation", "list").stdout.splitlines()]
    window = ["2026-11-24", "10:00:00", "2026-11-24", "12:00:00"]
    assert rows[1] == ["monday", "FRESNEL", "ACTIVE", *window, "chem,ops", "-", "qa"]
    assert rows[2][:3] == ["next", "FRESNEL", "INACTIVE"]


def test_a_reservation_is_deleted(qpud: Any, daemon: Any) -> None:
    daemon.on("DELETE", "/v1/reservations/monday", reservation())
    assert qpud("reservation", "delete", "monday").stdout == "reservation monday of FRESNEL is deleted\n"


def test_json_prints_what_the_daemon_said(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/reservations", {"reservations": [reservation()]})
    assert json.loads(qpud("reservation", "list", "--json").stdout) == {"reservations": [reservation()]}


def test_users_are_told_that_changes_are_for_administrators(qpud: Any, daemon: Any) -> None:
    daemon.on("DELETE", "/v1/reservations/monday", refusal("user ada may not delete reservation monday"), status=403)
    ended = qpud("reservation", "delete", "monday", "--url", daemon.url)
    assert (ended.returncode, "use --socket" in ended.stderr) == (4, True)
