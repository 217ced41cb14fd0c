"""env: what `run` gives a command, as text; and no token where nobody asked for one."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest

RESOURCES = [{"name": "FRESNEL"}, {"name": "EMU_MPS"}, {"name": "TEST-1"}]
SESSION = {"id": "s-9", "expires_at": "2026-12-25T00:00:00Z", "idle_expires_at": "2026-11-25T01:00:00Z"}
READ_BY = {
    "pulser": {"QPUD_TOKEN", "QPUD_SOCKET", "QPUD_URL", "QPUD_QPU"},
    "cudaq": {
        *(f"{who}_JOB_QPU_{what}" for who in ("QRMI", "SLURM") for what in ("RESOURCES", "TYPES")),
        *(f"FRESNEL_QRMI_PASQAL_CLOUD_{what}" for what in ("BASE_URL", "AUTH_TOKEN", "PROJECT_ID")),
    },
    "myqlm": {"QPUD_MYQLM_URI"},
    "cloud": {"QPUD_URL", "QPUD_TOKEN", "QPUD_QPU"},
}


@pytest.fixture
def ready(daemon: Any) -> Any:
    daemon.on("GET", "/v1/info", {"resources": RESOURCES, "default_resource": "FRESNEL", "urls": [daemon.url]})
    daemon.on("POST", "/v1/sessions", {**SESSION, "token": "tok-9", "created": True}, status=201)
    return daemon


def test_the_lines_can_be_evaluated_by_a_shell(qpud: Any, ready: Any) -> None:
    ended = qpud("env", "--shell")
    shown = ["sh", "-c", 'eval "$1" && echo "$QPUD_TOKEN $FRESNEL_QRMI_WARDEN_URL"', "sh", ended.stdout]
    proven = ready.url.replace("http://", "http://qpud:tok-9@")
    assert subprocess.run(shown, capture_output=True, text=True).stdout == f"tok-9 {proven}\n"


def test_it_says_how_long_the_session_lasts_and_how_to_close_it(qpud: Any, ready: Any) -> None:
    said = qpud("env", "--shell").stderr
    assert "session s-9 is open until 2026-12-25 00:00:00, or unused until 2026-11-25 01:00:00" in said
    assert "qpud sessions --close s-9" in said


def test_without_being_asked_it_shows_no_token_and_opens_nothing(qpud: Any, ready: Any) -> None:
    ended = qpud("env", "--qpu=EMU_MPS", QPUD_TOKEN="tok-8")
    assert f"QPUD_URL {ready.url}".split() in [line.split() for line in ended.stdout.splitlines()]
    assert "tok-8" not in ended.stdout + ended.stderr
    assert "://qpud:HIDDEN@" in ended.stdout
    assert not ready.requests("POST", "/v1/sessions")


def test_json_on_a_terminal_hides_the_token(qpud: Any, ready: Any) -> None:
    master, slave = pty.openpty()
    subprocess.run(qpud.argv("env", "--json"), env=qpud.env, stdout=slave, stderr=slave, check=True, timeout=60)
    os.close(slave)
    with os.fdopen(master, "rb", buffering=0) as terminal:
        said = terminal.read(60_000)
    assert b"QPUD_TOKEN" in said and b"tok-9" not in said


def test_json_has_the_environment_and_the_session_without_its_token(qpud: Any, ready: Any) -> None:
    answer = json.loads(qpud("env", "--json").stdout)
    assert answer["environment"]["QPUD_TOKEN"] == "tok-9"
    assert (answer["session"]["id"], "token" in answer["session"]) == ("s-9", False)


@pytest.mark.parametrize("sdk", READ_BY)
def test_an_sdk_gets_what_it_reads(qpud: Any, ready: Any, sdk: str) -> None:
    answer = json.loads(qpud("env", "--sdk", sdk, "--json").stdout)
    assert set(answer["environment"]) - {"NO_PROXY", "no_proxy"} == READ_BY[sdk]


def test_cudaq_is_told_that_its_resource_speaks_the_clouds_api(qpud: Any, ready: Any) -> None:
    ended = qpud("env", "--sdk=cudaq", "--qpu=EMU_MPS", "--json")
    found = json.loads(ended.stdout)["environment"]
    assert found["QRMI_JOB_QPU_TYPES"] == "pasqal-cloud"
    assert found["EMU_MPS_QRMI_PASQAL_CLOUD_BASE_URL"] == f"{ready.url}/r/EMU_MPS"
    assert 'cudaq.set_target("pasqal", machine="qrmi")' in ended.stderr


def test_myqlms_uri_carries_the_token_and_the_resource(qpud: Any, ready: Any) -> None:
    found = json.loads(qpud("env", "--sdk=myqlm", "--qpu=EMU_MPS", "--json").stdout)["environment"]
    assert found["QPUD_MYQLM_URI"] == f"{ready.url.replace('http://', 'http://qpud:tok-9@')}/r/EMU_MPS/api"


def test_a_given_token_is_used_again(qpud: Any, ready: Any) -> None:
    ended = qpud("env", "--shell", QPUD_TOKEN="tok-8")
    assert "export QPUD_TOKEN=tok-8" in ended.stdout
    assert "ends when its owner ends it" in ended.stderr
    assert not ready.requests("POST", "/v1/sessions")


def test_a_session_asked_for_is_opened_even_so(qpud: Any, ready: Any) -> None:
    assert "tok-9" in qpud("env", "--shell", "--queue=production", QPUD_TOKEN="tok-8").stdout
    (asked,) = ready.requests("POST", "/v1/sessions")
    assert asked.body["queue"] == "production"
    assert asked.body["slurm_job_id"].startswith("env-")


def test_what_no_shell_can_name_is_left_out(qpud: Any, ready: Any) -> None:
    ended = qpud("env", "--shell", "--qpu=TEST-1")
    assert "QPUD_QPU=TEST-1" in ended.stdout
    assert "export TEST-1" not in ended.stdout


def test_an_unknown_sdk_is_told_the_nearest(qpud: Any) -> None:
    assert "did you mean qiskit?" in qpud("env", "--sdk=qiskti").stderr


def test_the_users_file_names_daemon_resource_and_token(qpud: Any, ready: Any, tmp_path: Path) -> None:
    del qpud.env["QPUD_SOCKET"]
    (tmp_path / "token").write_text("tok-7\n")
    (tmp_path / "qpud.ini").write_text(f"qpu = EMU_MPS\nurl = {ready.url}\ntoken_file = {tmp_path}/token\n")
    found = json.loads(qpud("env", "--json", XDG_CONFIG_HOME=str(tmp_path)).stdout)["environment"]
    assert (found["QPUD_QPU"], found["QPUD_TOKEN"]) == ("EMU_MPS", "tok-7")
    assert {asked.headers["Authorization"] for asked in ready.asked} == {"Bearer tok-7"}


def test_a_token_of_the_users_file_goes_to_no_other_daemon(qpud: Any, ready: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("tok-7\n")
    (tmp_path / "qpud.ini").write_text(f"url = http://127.0.0.1:9\ntoken_file = {tmp_path}/token\n")
    ended = qpud("env", "--url", ready.url, "--json", XDG_CONFIG_HOME=str(tmp_path))
    assert ended.returncode == 0
    assert not any("Authorization" in asked.headers for asked in ready.asked)


def test_a_mistake_in_the_users_file_is_one_sentence_with_its_line(qpud: Any, tmp_path: Path) -> None:
    del qpud.env["QPUD_SOCKET"]
    (tmp_path / "qpud.ini").write_text("[default]\n\nulr = http://x\n")
    ended = qpud("queue", XDG_CONFIG_HOME=str(tmp_path))
    said = f"qpud: {tmp_path}/qpud.ini, line 3: [default] takes qpu, url, token_file = VALUE, not 'ulr = http://x'\n"
    assert (ended.returncode, ended.stderr) == (1, said)


def test_an_unknown_resource_is_told_with_what_named_it(qpud: Any, ready: Any, tmp_path: Path) -> None:
    (tmp_path / "qpud.ini").write_text("qpu = FRESNL\n")
    ended = qpud("env", XDG_CONFIG_HOME=str(tmp_path))
    assert ended.returncode == 5
    assert f"there is no resource FRESNL ({tmp_path}/qpud.ini, line 1); this daemon serves FRESNEL" in ended.stderr
