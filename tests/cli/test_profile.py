"""profile: a table, and a trace of the form that ui.perfetto.dev reads."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.conftest import Replay, Shell

SESSION = "2d4f0f66-6d55-4f0c-9c39-0a1a4f0c3b7e"


def span(phase: str, start: float, seconds: float, job: int | None) -> dict[str, Any]:
    return {"phase": phase, "start": start, "seconds": seconds, "job": job, "detail": "slice 0" if job else ""}


PROFILE = {
    "began": "2026-11-25T01:00:00Z",
    "seconds": 10.0,
    "jobs": [
        {"id": 7, "name": "scan", "resource": "FRESNEL", "state": "DONE", "shots_done": 5},
        {"id": 8, "name": None, "resource": "EMU_MPS", "state": "DONE", "shots_done": 5},
    ],
    "spans": [
        span("queue", 1.0, 2.0000004, 7),
        span("shots", 3.0000004, 3.0, 7),
        span("shots", 3.0, 2.0, 8),
        span("classical", 0.0, 1.0, None),
    ],
    "totals": {"queue": 2.0, "shots": 5.0, "classical": 1.0},
}


def test_the_table_tells_each_job_and_the_sum(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", "/v1/profile", PROFILE)
    done = qpud("profile", "7", "8")
    assert done.returncode == 0, done.stderr
    assert daemon.requests("GET", "/v1/profile")[0].query == "job=7%2C8"
    phases = "VALIDATION(s) QUEUE(s) TRANSFER(s) SET-UP(s) SHOTS(s) CLASSICAL(s)"
    assert " ".join(done.stdout.splitlines()[0].split()) == f"JOBID NAME RESOURCE STATE {phases}"
    assert done.stdout.splitlines()[1].split() == [
        "7",
        "scan",
        "FRESNEL",
        "DONE",
        "-",
        "2.000",
        "-",
        "-",
        "3.000",
        "-",
    ]
    assert "10.000 s in all, of which 30% with shots or set-up on a resource" in done.stdout


def test_a_session_is_told_from_a_job(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", "/v1/profile", PROFILE)
    assert qpud("profile", SESSION).returncode == 0
    assert daemon.requests("GET", "/v1/profile")[0].query == f"session={SESSION}"
    both = qpud("profile", SESSION, "7")
    assert (both.returncode, both.stdout) == (2, "")
    assert "a profile is of jobs, or of one session" in both.stderr


def test_the_trace_is_one_that_perfetto_reads(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", "/v1/profile", PROFILE)
    done = qpud("profile", "7", "8", "-o", "trace.json")
    assert done.returncode == 0, done.stderr
    trace = json.loads((qpud.folder / "trace.json").read_text())
    events = trace["traceEvents"]
    assert all({"ph", "name", "pid", "tid"} <= set(event) for event in events)
    assert all(type(event[key]) is int for event in events for key in ("pid", "tid"))
    complete = [event for event in events if event["ph"] == "X"]
    assert all(type(event[key]) is int and event[key] >= 0 for event in complete for key in ("ts", "dur"))
    named = {(one["pid"], one["tid"]) for one in events if one["ph"] == "M" and one["name"] == "thread_name"}
    assert {(one["pid"], one["tid"]) for one in complete} <= named
    assert {event["ph"] for event in events} == {"X", "M"}


def test_phases_of_one_thread_do_not_overlap(daemon: Replay, qpud: Shell) -> None:
    """Perfetto drops an event that does. The API rounds start and length, each to 1 µs: their sum may be 1 µs late."""
    rounded = [span("transfer", 2.511724, 0.001088, 7), span("shots", 2.512811, 0.092119, 7)]
    daemon.on("GET", "/v1/profile", {**PROFILE, "spans": rounded})
    qpud("profile", "7", "8", "-o", "trace.json")
    events = json.loads((qpud.folder / "trace.json").read_text())["traceEvents"]
    of_job = [(one["ts"], one["dur"]) for one in events if one["ph"] == "X"]
    assert of_job == [(2511724, 1088), (2512812, 92118)]


def test_a_trace_that_cannot_be_written_is_one_sentence(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", "/v1/profile", PROFILE)
    done = qpud("profile", "7", "-o", "no/such/folder.json")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot be written to no/such/folder.json" in done.stderr
