"""--fault, --like and the others: what `run` and `submit` ask of the session, and the profile of a run."""

from __future__ import annotations

import json
import sys

import pytest

from tests.cli.conftest import Replay, Shell

JOB = {
    "id": 7,
    "state": "PENDING",
    "reason": "",
    "shots": 10,
    "shots_done": 0,
    "resource": "EMU_MPS",
    "queue": "test",
}
PROFILE = {
    "began": "2026-11-25T01:00:00Z",
    "seconds": 2.0,
    "jobs": [],
    "spans": [{"phase": "classical", "start": 0.0, "seconds": 2.0, "job": None, "detail": ""}],
    "totals": {"classical": 2.0},
}


@pytest.fixture
def ready(daemon: Replay, qpud: Shell) -> Replay:
    (qpud.folder / "s.json").write_text("{}")
    resources = [{"name": "FRESNEL"}, {"name": "EMU_MPS"}]
    info = {"resources": resources, "default_resource": "FRESNEL", "urls": [daemon.url], "queues": []}
    daemon.on("GET", "/v1/info", info)
    daemon.on("POST", "/v1/sessions", {"id": "s-9", "token": "tok-9", "created": True}, status=201)
    daemon.on("DELETE", "/v1/sessions/s-9", {})
    daemon.on("POST", "/v1/jobs", JOB, status=201)
    daemon.on("GET", "/v1/profile", PROFILE)
    return daemon


def test_submit_asks_for_the_rehearsal_and_gives_the_job_its_seed(ready: Replay, qpud: Shell) -> None:
    options = ("--fault=preempt:3,lose-shots:5%", "--like=FRESNEL", "--speed-up=100", "--bond-dim=8", "--seed=5")
    done = qpud("submit", "s.json", "--shots=10", "--qpu=EMU_MPS", *options, QPUD_TOKEN="of another session")
    assert done.returncode == 0, done.stderr
    assert ready.requests("POST", "/v1/sessions")[0].body["rehearsal"] == {
        "fault": "preempt:3,lose-shots:5%",
        "like": "FRESNEL",
        "speed_up": 100.0,
        "bond_dim": 8,
        "resource": "EMU_MPS",
    }
    assert ready.requests("POST", "/v1/jobs")[0].body["seed"] == 5


def test_a_seed_alone_needs_no_session_of_its_own(ready: Replay, qpud: Shell) -> None:
    assert qpud("submit", "s.json", "--shots=10", "--seed=5", QPUD_TOKEN="tok-1").returncode == 0
    assert not ready.requests("POST", "/v1/sessions")


def test_a_mock_takes_the_place_of_an_emulator(ready: Replay, qpud: Shell) -> None:
    assert qpud("submit", "s.json", "--shots=10", "--mock=random").returncode == 0
    assert ready.requests("POST", "/v1/sessions")[0].body["rehearsal"]["emulator"] == "random"
    both = qpud("submit", "s.json", "--shots=10", "--mock=random", "--emulator=sv")
    assert (both.returncode, both.stderr.count("\n")) == (2, 1)


def test_run_asks_for_the_resource_that_its_command_will_use(ready: Replay, qpud: Shell) -> None:
    done = qpud("run", "--qpu=EMU_MPS", "--fault=error:0.1", "--seed=5", "--", sys.executable, "-c", "")
    assert done.returncode == 0, done.stderr
    asked = {"fault": "error:0.1", "seed": 5, "resource": "EMU_MPS"}
    assert ready.requests("POST", "/v1/sessions")[0].body["rehearsal"] == asked


def test_a_profile_is_told_before_the_session_is_closed_and_keeps_the_exit_code(ready: Replay, qpud: Shell) -> None:
    done = qpud("run", "--profile=run.json", "--", sys.executable, "-c", "print('out'); raise SystemExit(3)")
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert "2.000 s in all" in done.stderr
    assert json.loads((qpud.folder / "run.json").read_text())["traceEvents"]
    paths = [one.path for one in ready.asked]
    assert paths.index("/v1/profile") < paths.index("/v1/sessions/s-9")


def test_a_profile_that_cannot_be_had_changes_nothing(ready: Replay, qpud: Shell) -> None:
    ready.on("GET", "/v1/profile", {"detail": "not now", "code": "unavailable"}, status=404)
    done = qpud("run", "--profile=run.json", "--", sys.executable, "-c", "")
    assert done.returncode == 0
    assert "no profile of session s-9" in done.stderr
    assert ready.requests("DELETE", "/v1/sessions/s-9")
