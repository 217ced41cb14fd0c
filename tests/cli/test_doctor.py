"""doctor: what a script would use, and each hop on the way; nothing is left behind."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

RESOURCES = [{"name": "FRESNEL", "state": "up"}, {"name": "EMU_MPS", "state": "drained", "drained_reason": "laser"}]
HOPS = ["settings", "daemon", "identity", "resource", "session", "url", "specs", "job"]
DONE = {"id": 7, "state": "DONE", "reason": None}


@pytest.fixture
def ready(daemon: Any) -> Any:
    """A daemon on which every hop works."""
    info = {"version": "9", "resources": RESOURCES, "default_resource": "FRESNEL", "urls": [daemon.url]}
    daemon.on("GET", "/healthz", {"status": "ok"})
    daemon.on("GET", "/v1/info", info)
    grant = {"id": "s-9", "token": "tok-9", "user": "ann", "queue": "test"}
    daemon.on("POST", "/v1/sessions", grant, status=201)
    daemon.on("DELETE", "/v1/sessions/s-9", {"id": "s-9"})
    for name in ("FRESNEL", "EMU_MPS"):
        spec = {"name": "AnalogDevice", "max_runs": 2000, "spec": {"max_atom_num": 80}}
        daemon.on("GET", f"/v1/resources/{name}/spec", spec)
    daemon.on("POST", "/v1/jobs", {"id": 7, "state": "PENDING"}, status=201)
    daemon.on("GET", "/v1/jobs/7", DONE)
    daemon.on("GET", "/v1/jobs/7/result", {"job": DONE, "counts": {"0": 2}, "message": None})
    daemon.on("POST", "/v1/jobs/7/cancel", DONE)
    return daemon


def hops(ended: Any) -> dict[str, Any]:
    return {one["hop"]: one for one in json.loads(ended.stdout)["hops"]}


def closed(daemon: Any) -> bool:
    return bool(daemon.requests("DELETE", "/v1/sessions/s-9"))


def test_every_hop_is_tried_and_told(qpud: Any, ready: Any) -> None:
    ended = qpud("doctor")
    assert ended.returncode == 0
    assert [line.split()[:2] for line in ended.stdout.splitlines() if line.startswith("ok")] == [
        ["ok", hop] for hop in HOPS
    ]
    assert "opened for user ann in queue test" in ended.stdout
    assert "at most 80 atoms, at most 2000 shots" in ended.stdout
    assert "2 shots in " in ended.stdout
    assert closed(ready)


def test_it_says_what_a_script_would_use_and_why(qpud: Any, ready: Any) -> None:
    lines = qpud("doctor", "--qpu=FRESNEL").stdout.splitlines()
    assert lines[0].startswith("python script.py uses the emulator of its own Python")
    assert "because neither QPUD_URL nor url in the user's file names a daemon" in lines[0]
    assert lines[1] == "qpud run -- python script.py uses FRESNEL (--qpu)."


def test_a_script_with_url_and_token_uses_the_daemon(qpud: Any, ready: Any) -> None:
    ended = qpud("doctor", QPUD_URL=ready.url, QPUD_TOKEN="tok-8", QPUD_QPU="FRESNEL")
    uses = f"python script.py uses FRESNEL (QPUD_QPU) of the daemon at {ready.url} (QPUD_URL)."
    assert ended.stdout.splitlines()[0] == uses
    assert not ready.requests("POST", "/v1/sessions")  # the token's is used


def test_a_script_without_a_token_is_refused(qpud: Any, ready: Any) -> None:
    said = qpud("doctor", QPUD_URL=ready.url).stdout.splitlines()[0]
    assert said == f"python script.py is refused by the daemon at {ready.url}: QPUD_URL is set, but no token."


@pytest.mark.parametrize("has_socket", [True, False])
@pytest.mark.parametrize("token", [{"QPUD_TOKEN": "tok-9"}, {}])
def test_a_script_stops_where_the_daemon_of_its_environment_is_gone(
    qpud: Any, ready: Any, token: dict[str, str], has_socket: bool
) -> None:
    """The command line may have a socket besides; the shims speak TCP."""
    if not has_socket:
        del qpud.env["QPUD_SOCKET"]
    said = qpud("doctor", QPUD_URL="http://127.0.0.1:9", **token).stdout.splitlines()[0]
    assert said == "python script.py stops, because the daemon at http://127.0.0.1:9 (QPUD_URL) does not answer."


@pytest.mark.parametrize(
    ("further", "why"),
    [
        ("", "line 1 names http://127.0.0.1:9, but no token."),
        ("token_file = /x\n", "line 1) does not answer."),
    ],
)
def test_a_daemon_of_the_users_file_that_cannot_be_used_is_told(
    qpud: Any, tmp_path: Path, further: str, why: str
) -> None:
    del qpud.env["QPUD_SOCKET"]
    (tmp_path / "qpud.ini").write_text(f"url = http://127.0.0.1:9\n{further}")
    said = qpud("doctor", XDG_CONFIG_HOME=str(tmp_path)).stdout.splitlines()[0]
    assert said.startswith("python script.py uses the emulator of its own Python") and said.endswith(why)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"QPUD_QPU": "FRESNEL"}, "stops, because QPUD_QPU asks for FRESNEL and neither QPUD_URL nor url in"),
        (
            {"SLURM_JOB_QPU_RESOURCES": "FRESNEL"},
            "stops, because SLURM_JOB_QPU_RESOURCES asks for FRESNEL and neither",
        ),
        ({"QPUD_QPU": "EMU_MPS"}, "uses the emulator of its own Python"),
        ({"QPUD_LOCAL": "never"}, "stops, because QPUD_LOCAL is never and neither QPUD_URL nor url in"),
        ({"QPUD_LOCAL": "emu-sv", "QPUD_QPU": "FRESNEL"}, "uses emu-sv in its own process, because QPUD_LOCAL is emu"),
    ],
)
def test_a_script_never_emulates_what_was_asked_for_by_name(
    qpud: Any, ready: Any, environ: dict[str, str], said: str
) -> None:
    assert qpud("doctor", **environ).stdout.splitlines()[0].startswith(f"python script.py {said}")


def test_a_script_stops_at_a_mistake_in_the_users_file(qpud: Any, ready: Any, tmp_path: Path) -> None:
    (tmp_path / "qpud.ini").write_text("what\n")
    said = qpud("doctor", XDG_CONFIG_HOME=str(tmp_path)).stdout.splitlines()[0]
    assert said.startswith(f"python script.py stops: {tmp_path}/qpud.ini, line 1: [default] takes qpu")


def test_the_address_that_scripts_are_given_is_the_one_tried(qpud: Any, ready: Any) -> None:
    found = hops(qpud("doctor", "--json", QPUD_URL="http://127.0.0.1:9", QPUD_TOKEN="tok-9"))
    assert (found["daemon"]["ok"], found["url"]["ok"]) == (True, False)
    assert "http://127.0.0.1:9" in found["url"]["said"]


def test_a_near_name_is_suggested(qpud: Any, ready: Any) -> None:
    said = hops(qpud("doctor", "--json", "--qpu=fresnl"))["resource"]["said"]
    assert said == "there is no resource fresnl; this daemon serves FRESNEL, EMU_MPS: did you mean FRESNEL?"


def test_no_daemon_fails_with_what_to_do(qpud: Any) -> None:
    ended = qpud("doctor", "--json")
    found = hops(ended)
    assert (ended.returncode, found["daemon"]["ok"], found["session"]["ok"]) == (1, False, None)
    assert "qpud serve --dev" in found["daemon"]["remedy"]


def test_a_refused_token_fails_at_the_identity(qpud: Any, ready: Any) -> None:
    ready.on("GET", "/v1/info", {"detail": "the session token is unknown", "code": "x"}, status=401)
    found = hops(qpud("doctor", "--url", ready.url, "--json", QPUD_TOKEN="old"))
    assert (found["identity"]["ok"], found["identity"]["said"]) == (False, "the session token is unknown")


def test_an_unknown_resource_fails_with_its_source(qpud: Any, ready: Any) -> None:
    found = hops(qpud("doctor", "--json", QPUD_QPU="FRESNL"))
    assert found["resource"]["said"].startswith("there is no resource FRESNL (QPUD_QPU); this daemon serves FRESNEL")


def test_a_mistake_in_the_users_file_fails_first(qpud: Any, ready: Any, tmp_path: Path) -> None:
    (tmp_path / "qpud.ini").write_text("what\n")
    ended = qpud("doctor", "--json", XDG_CONFIG_HOME=str(tmp_path))
    assert (ended.returncode, hops(ended)["settings"]["ok"]) == (1, False)


def test_a_daemon_without_tcp_fails_at_the_url(qpud: Any, ready: Any) -> None:
    info = {"version": "9", "resources": RESOURCES, "default_resource": "FRESNEL", "urls": []}
    ready.on("GET", "/v1/info", info)
    ended = qpud("doctor", "--json")
    assert (ended.returncode, hops(ended)["url"]["ok"], hops(ended)["specs"]["ok"]) == (1, False, None)
    assert closed(ready)


def test_a_resource_of_another_kind_is_sent_no_pulser_program(qpud: Any, ready: Any) -> None:
    spec = {"name": "IBM", "max_runs": None, "spec": {"name": "IBM", "target": {"num_qubits": 5}}}
    ready.on("GET", "/v1/resources/FRESNEL/spec", spec)
    ended = qpud("doctor", "--json")
    said = "not tried: FRESNEL takes programs of its own kind, not Pulser's"
    assert (ended.returncode, hops(ended)["job"]["said"]) == (0, said)
    assert not ready.requests("POST", "/v1/jobs")


def test_a_job_that_waits_too_long_is_canceled_with_the_reason(qpud: Any, ready: Any) -> None:
    waiting = {"id": 7, "state": "PENDING", "reason": "ResourceDrained"}
    ready.on("GET", "/v1/jobs/7", waiting)
    ready.on("GET", "/v1/jobs/7/result", {"job": waiting, "counts": {}, "message": None})
    ended = qpud("doctor", "--qpu=EMU_MPS", "--timeout=0.2", "--json")
    said = hops(ended)["job"]["said"]
    assert (ended.returncode, said) == (
        1,
        "2 shots did not end within 0.2 s: an administrator has drained the resource",
    )
    assert hops(ended)["resource"]["said"] == "EMU_MPS (--qpu) is drained: laser"
    assert ready.requests("POST", "/v1/jobs/7/cancel") and closed(ready)


def test_a_job_that_fails_is_told(qpud: Any, ready: Any) -> None:
    failed = {"id": 7, "state": "ERROR", "reason": "InvalidSequence"}
    ready.on("GET", "/v1/jobs/7", failed)
    ready.on("GET", "/v1/jobs/7/result", {"job": failed, "counts": {}, "message": "no such channel"})
    assert hops(qpud("doctor", "--json"))["job"]["said"] == "the job is ERROR: no such channel"
    assert closed(ready)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(qpud: Any, ready: Any, number: signal.Signals) -> None:
    def interrupted(asked: Any) -> tuple[int, Any]:
        command.send_signal(number)
        return 200, {"id": 7, "state": "RUNNING", "reason": None}

    ready.on("GET", "/v1/jobs/7", interrupted)
    command = qpud.start("doctor")
    command.communicate(timeout=60)
    assert command.returncode == 130
    assert ready.requests("POST", "/v1/jobs/7/cancel") and closed(ready)


def test_a_signal_while_the_session_is_being_opened_still_closes_it(qpud: Any, ready: Any) -> None:
    def slowly(asked: Any) -> tuple[int, Any]:
        command.send_signal(signal.SIGTERM)
        return 201, {"id": "s-9", "token": "tok-9", "user": "ann", "queue": "test"}

    ready.on("POST", "/v1/sessions", slowly)
    command = qpud.start("doctor")
    command.communicate(timeout=60)
    assert command.returncode == 130
    assert closed(ready)


def test_the_job_is_one_atom_on_a_trap_of_the_device(qpud: Any, ready: Any) -> None:
    layout = {"coordinates": [[-5.0, 2.5], [5.0, 2.5]]}
    spec = {"name": "X", "max_runs": None, "spec": {"pre_calibrated_layouts": [layout]}}
    ready.on("GET", "/v1/resources/FRESNEL/spec", spec)
    qpud("doctor")
    (asked,) = ready.requests("POST", "/v1/jobs")
    sites = json.loads(asked.body["sequence"])["setup"]["ahs_register"]["sites"]
    assert (sites, asked.body["shots"]) == ([["-0.00000500", "0.00000250"]], 2)
