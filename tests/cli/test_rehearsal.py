"""--fault, --like and the others: what `run` and `submit` ask of the session, and the profile of a run."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec
import pytest

from qpud.api.rehearsals import RehearsalAsk
from qpud.api.wire import SessionAsk
from qpud.api.wire_terms import Shots
from qpud.cli import rehearsal, submit
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


@pytest.mark.parametrize("verb", [("submit", "s.json", "--shots=10"), ("run",), ("env", "--shell")])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--like=FRESNEL", "--speed-up=0"), "argument --speed-up: '0' is not a number above 0, up to 1000000"),
        (("--like=FRESNEL", "--speed-up=nan"), "argument --speed-up: 'nan' is not a number above 0, up to 1000000"),
        (("--speed-up=2",), "--speed-up is relative to a QPU: name it with --like"),
        (("--seed=-1",), "argument --seed: '-1' is not a whole number, 0 to 2147483647"),
        (("--bond-dim=2000",), "argument --bond-dim: '2000' is not a whole number, 1 to 1024"),
        (("--bond-dim=8", "--emulator=sv"), "--bond-dim is for --emulator=mps: leave out --emulator=sv"),
        (("--bond-dim=8", "--mock=random"), "--bond-dim is for --emulator=mps: leave out --mock=random"),
        (("--fault=preemt:3",), "argument --fault: fault 'preemt' does not exist: did you mean preempt?"),
        (("--share=11",), "argument --share: '11' is not a whole number, 1 to 10"),
        (("--nodes=0",), "argument --nodes: '0' is not a whole number, 1 to 1000000"),
        (("--qpu-seconds=-1",), "argument --qpu-seconds: '-1' is not a number of seconds, 0 or more"),
    ],
)
def test_an_option_is_refused_in_its_own_words_before_anything_is_opened(
    ready: Replay, qpud: Shell, verb: tuple[str, ...], options: tuple[str, ...], sentence: str
) -> None:
    command = ("--", sys.executable, "-c", "") if verb == ("run",) else ()
    done = qpud(*verb, *options, *command)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert sentence in done.stderr
    assert not ready.requests("POST", "/v1/sessions")


def test_the_limits_of_the_options_are_those_of_the_api() -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(RehearsalAsk)}
    assert _limits(fields["seed"]) == {"ge": 0, "le": rehearsal.LARGEST_SEED}
    assert _limits(fields["speed_up"]) == {"gt": 0, "le": rehearsal.MOST_SPEED_UP}
    assert _limits(fields["bond_dim"]) == {"ge": 1, "le": rehearsal.MOST_BOND_DIM}
    session = {field.name: field.type for field in msgspec.structs.fields(SessionAsk)}
    assert _limits(session["share"]) == {"ge": 1, "le": submit.SHARE_UNITS}
    assert _limits(session["nodes"]) == {"ge": 1, "le": submit.MOST_NODES}
    assert _limits(Shots) == {"ge": 1, "le": submit.MOST_SHOTS}


def _limits(declared: Any) -> dict[str, float]:
    found = msgspec.inspect.type_info(declared)
    [number] = [one for one in getattr(found, "types", [found]) if hasattr(one, "ge")]
    return {name: value for name in ("ge", "gt", "le") if (value := getattr(number, name)) is not None}


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
