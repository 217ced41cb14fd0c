"""acct: table, JSON and CSV of the daemon's report, with times as Slurm writes them."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from tests.cli.conftest import Replay, Shell

PATH = "/v1/accounting/report"
DAY = 86_400


def a_line(**fields: Any) -> dict[str, Any]:
    return {
        "jobs": 2,
        "slices": 5,
        "shots": 100,
        "qpu_seconds": 102.5,
        "setup_seconds": 2.5,
        "wasted_shots": 3,
        "wasted_seconds": 3.0,
        "wait_seconds": 1.5,
        "submitted_at": "2026-11-24T10:00:00Z",
        "started_at": "2026-11-24T10:00:01Z",
        "ended_at": "2026-11-24T10:01:43.5Z",
        **fields,
    }


def a_page(*rows: dict[str, Any], by: tuple[str, ...] = ("account",), following: int | None = None) -> dict[str, Any]:
    times = {"start": "2026-11-18T00:00:00Z", "end": "2026-11-24T12:00:00Z"}
    return {"by": list(by), **times, "rows": list(rows), "total": a_line(jobs=9), "next": following}


def asked(daemon: Replay, number: int = 0) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(daemon.requests("GET", PATH)[number].query).items()}


def test_a_table_ends_with_the_total(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", PATH, a_page(a_line(account="chem"), a_line(account=None)))
    done = qpud("acct", "--by", "account")
    assert [line.split()[:5] for line in done.stdout.splitlines()] == [
        ["ACCOUNT", "JOBS", "SLICES", "SHOTS", "QPUSECONDS"],
        ["chem", "2", "5", "100", "102.5"],
        ["-", "2", "5", "100", "102.5"],
        ["TOTAL", "9", "5", "100", "102.5"],
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_without_times_it_reports_seven_days(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", PATH, a_page(a_line(account="chem")))
    before = datetime.now(UTC).timestamp()
    qpud("acct")
    start, end = (datetime.fromisoformat(asked(daemon)[name]).timestamp() for name in ("start", "end"))
    assert (start % DAY, end >= before) == (0, True)
    assert 6 * DAY <= end - start < 7 * DAY


def test_options_become_the_query(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", PATH, a_page(a_line(account="chem")))
    qpud("acct", "--by=user,day", "-u", "ada", "--slurm-job=42,43", "--start=2026-11-24", "--end", "2026-11-24T10:00")
    assert asked(daemon) == {
        "by": "user,day",
        "user": "ada",
        "slurm_job": "42,43",
        "start": "2026-11-24T00:00:00Z",
        "end": "2026-11-24T10:00:00Z",
        "limit": "10000",
    }


def test_a_filter_may_be_said_twice(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", PATH, a_page(a_line(account="chem")))
    qpud("acct", "--account", "a", "-A", "b,c")
    assert parse_qs(daemon.requests("GET", PATH)[0].query)["account"] == ["a", "b,c"]


def test_times_are_local_unless_they_say_otherwise(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", PATH, a_page(a_line(account="chem")))
    qpud("acct", "--start", "2026-11-24T10:00", "--end", "2026-11-24T10:00Z", TZ="Europe/Paris")
    assert (asked(daemon)["start"], asked(daemon)["end"]) == ("2026-11-24T09:00:00Z", "2026-11-24T10:00:00Z")


def test_csv_has_every_field_under_its_name_and_quotes_what_needs_it(daemon: Replay, qpud: Shell) -> None:
    row = a_line(resource="TWIN", resource_type=None, account='a "b", c\nd')
    daemon.on("GET", PATH, a_page(row, by=("resource", "account")))
    done = qpud("acct", "--csv")
    (read,) = csv.DictReader(io.StringIO(done.stdout))
    assert read == {name: "" if value is None else str(value) for name, value in row.items()}


def test_csv_has_no_total_which_a_program_would_add_again(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", PATH, a_page(a_line(user="ada", user_id=1000), by=("user",)))
    lines = qpud("acct", "--csv").stdout.splitlines()
    assert [line.split(",")[:2] for line in lines] == [["user", "user_id"], ["ada", "1000"]]


def test_json_is_the_answer_as_it_came(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", PATH, a_page(a_line(account="chem")))
    assert json.loads(qpud("acct", "--json").stdout) == a_page(a_line(account="chem"))


def test_all_pages_are_one_answer(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", PATH, a_page(a_line(account="a"), following=1), a_page(a_line(account="b")))
    done = json.loads(qpud("acct", "--json").stdout)
    assert ([row["account"] for row in done["rows"]], done["next"]) == (["a", "b"], None)
    assert asked(daemon, 1) == {**asked(daemon), "offset": "1"}


def test_a_report_that_nobody_reads_to_its_end_is_refused(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", PATH, a_page(following=200_000))
    done = qpud("acct")
    assert done.returncode == 1
    assert "the report has more than 200000 rows: narrow it" in done.stderr


def test_an_empty_report_says_of_which_time(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", PATH, a_page())
    done = qpud("acct")
    assert "no slice ended from 2026-11-18 00:00:00 to 2026-11-24 12:00:00" in done.stderr
    assert done.returncode == 0


def test_csv_and_json_at_once_are_a_mistake(daemon: Replay, qpud: Shell) -> None:
    done = qpud("acct", "--csv", "--json")
    assert (done.returncode, daemon.asked) == (2, [])


def test_a_time_that_is_none_is_a_mistake(daemon: Replay, qpud: Shell) -> None:
    done = qpud("acct", "--start", "soonish")
    assert (done.returncode, daemon.asked) == (2, [])
    assert "'soonish' is no time" in done.stderr


def test_a_refusal_is_told_with_its_exit_code(daemon: Replay, qpud: Shell) -> None:
    sentence = "queue 'developmnt' is not known here: did you mean development?"
    daemon.on("GET", PATH, {"detail": sentence, "code": "not_found"}, status=404)
    done = qpud("acct", "--queue", "developmnt")
    assert (done.returncode, done.stderr) == (5, f"qpud: {sentence}\n")
