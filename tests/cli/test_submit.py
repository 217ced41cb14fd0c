"""submit: the session it uses, retries that arrive once, --wait, Ctrl-C."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from qpud.cli import submit
from qpud.cli.exits import Exit, Stop
from qpud.cli.submit import variables

GRANT = {"id": "s-9", "token": "tok-9", "created": True}
JOB = {
    "id": 7,
    "state": "PENDING",
    "reason": "",
    "shots": 10,
    "shots_done": 0,
    "resource": "FRESNEL",
    "queue": "test",
}
DONE = JOB | {"state": "DONE", "shots_done": 10}


@pytest.fixture
def sequence(tmp_path: Path) -> str:
    path = tmp_path / "seq.json"
    path.write_text('{"name": "Ω"}', encoding="utf-8")
    return str(path)


@pytest.fixture
def ready(daemon: Any) -> Any:
    daemon.on("POST", "/v1/sessions", GRANT, status=201)
    daemon.on("DELETE", "/v1/sessions/s-9", GRANT)
    daemon.on("POST", "/v1/jobs", JOB, status=201)
    daemon.on("GET", "/v1/jobs/7", DONE)
    daemon.on("GET", "/v1/jobs/7/result", {"job": DONE, "counts": {"1": 10}, "message": ""})
    return daemon


def test_without_a_token_a_session_is_opened_and_left_to_expire(qpud: Any, ready: Any, sequence: str) -> None:
    ended = qpud("submit", sequence, "--shots", "10", "--queue", "test", "--hint", "qc-heavy")
    assert (ended.returncode, ended.stdout) == (0, "job 7: 10 shots on FRESNEL, queue test\n")
    assert ready.requests("POST", "/v1/sessions")[0].body == {"queue": "test", "hint": "qc-heavy"}
    assert ready.requests("POST", "/v1/jobs")[0].headers["X-Warden-Session"] == "tok-9"
    assert not ready.requests("DELETE", "/v1/sessions/s-9")


def test_in_a_slurm_job_the_session_names_it_so_that_slurm_vouches(qpud: Any, ready: Any, sequence: str) -> None:
    qpud("submit", sequence, "--shots", "10", SLURM_JOB_ID="4242")
    assert ready.requests("POST", "/v1/sessions")[0].body["slurm_job_id"].startswith("4242.submit-")


def test_with_a_token_its_session_is_used(qpud: Any, ready: Any, sequence: str) -> None:
    qpud("submit", sequence, "--shots", "10", QPUD_TOKEN="tok-1")
    assert not ready.requests("POST", "/v1/sessions")
    assert ready.requests("POST", "/v1/jobs")[0].headers["X-Warden-Session"] == "tok-1"


def test_everything_said_reaches_the_daemon(qpud: Any, ready: Any) -> None:
    said = ("--name", "scan", "--tag", "a", "--tag", "b", "--variables", "t=[1, 2]", "--variables", '{"o": 1.5}')
    qpud("submit", "-", "--shots", "10", "--qpu", "FRESNEL", *said, stdin='{"x": "Ω"}')
    assert ready.requests("POST", "/v1/jobs")[0].body == {
        "sequence": '{"x": "Ω"}',
        "shots": 10,
        "resource": "FRESNEL",
        "name": "scan",
        "tags": ["a", "b"],
        "variables": {"t": [1, 2], "o": 1.5},
    }


def test_several_files_are_one_batch(qpud: Any, ready: Any, sequence: str) -> None:
    ready.on("POST", "/v1/jobs", [JOB, JOB | {"id": 8}], status=201)
    ended = qpud("submit", sequence, sequence, "--shots", "10", "--json")
    assert [job["id"] for job in json.loads(ended.stdout)] == [7, 8]
    assert len(ready.requests("POST", "/v1/jobs")[0].body) == 2


def test_the_resource_of_the_session_is_the_default(qpud: Any, ready: Any, sequence: str) -> None:
    qpud("submit", sequence, "--shots", "10", QPUD_QPU="EMU_MPS")
    assert ready.requests("POST", "/v1/jobs")[0].body["resource"] == "EMU_MPS"


def test_a_lost_reply_is_asked_for_again_with_the_same_key(qpud: Any, ready: Any, sequence: str) -> None:
    ready.on("POST", "/v1/jobs", None, None, JOB, status=201)
    assert qpud("submit", sequence, "--shots", "10").returncode == 0
    keys = [asked.headers["Idempotency-Key"] for asked in ready.requests("POST", "/v1/jobs")]
    assert (len(keys), len(set(keys))) == (3, 1)


def test_a_refused_submission_closes_its_session(qpud: Any, ready: Any, sequence: str) -> None:
    ready.on("POST", "/v1/jobs", {"detail": "5000 shots exceed MaxShots 1000", "code": "limit_exceeded"}, status=422)
    ended = qpud("submit", sequence, "--shots", "5000")
    assert (ended.returncode, ended.stderr) == (1, "qpud: 5000 shots exceed MaxShots 1000\n")
    assert ready.requests("DELETE", "/v1/sessions/s-9")


def test_wait_prints_the_result_and_closes_the_session(qpud: Any, ready: Any, sequence: str) -> None:
    ended = qpud("submit", sequence, "--shots", "10", "--wait")
    assert ended.returncode == 0
    assert "1  10  100.0%" in ended.stdout
    assert ready.asked[-1].method == "DELETE"


def test_wait_fails_when_the_job_does(qpud: Any, ready: Any, sequence: str) -> None:
    ready.on("GET", "/v1/jobs/7", JOB | {"state": "ERROR"})
    assert qpud("submit", sequence, "--shots", "10", "--wait").returncode == Exit.FAILED


def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(qpud: Any, ready: Any, sequence: str) -> None:
    ready.on("GET", "/v1/jobs/7", JOB | {"state": "RUNNING"})
    command = qpud.start("submit", sequence, "--shots", "10", "--wait")
    assert "RUNNING" in command.stderr.readline()  # it waits now
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=20)
    assert command.returncode == Exit.INTERRUPTED
    assert "qpud result --wait 7" in errors
    assert not ready.requests("POST", "/v1/jobs/7/cancel")
    assert not ready.requests("DELETE", "/v1/sessions/s-9")


def test_a_missing_file_is_not_found_before_any_session_is_opened(qpud: Any, ready: Any) -> None:
    ended = qpud("submit", "nowhere.json", "--shots", "10")
    assert (ended.returncode, ended.stderr) == (5, "qpud: there is no file nowhere.json\n")
    assert not ready.asked


def test_a_binary_file_is_refused_in_one_sentence(qpud: Any, ready: Any, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"\xff\xfe\x00")
    assert qpud("submit", "x.bin", "--shots", "10").stderr == "qpud: file x.bin is not UTF-8 text, so no sequence\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not JSON, so no sequence: Expecting value: line 1 column 1 (char 0)"),
        ("import pulser\n", "is not JSON, so no sequence: Expecting value: line 1 column 1 (char 0)"),
        ("[1]", "is not a JSON object, so no sequence"),
        ('"{}"', "is not a JSON object, so no sequence"),
    ],
)
def test_the_file_that_is_no_json_object_is_named(
    qpud: Any, ready: Any, sequence: str, tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "b.json").write_text(text)
    ended = qpud("submit", sequence, "b.json", sequence, "--shots", "10")
    assert (ended.returncode, ended.stderr) == (1, f"qpud: file b.json {sentence}\n")
    ended = qpud("submit", "-", "--shots", "10", stdin=text)
    assert ended.stderr == f"qpud: standard input {sentence}\n"
    assert not ready.asked


def test_the_file_whose_sequence_the_daemon_refuses_is_named(
    qpud: Any, ready: Any, sequence: str, tmp_path: Path
) -> None:
    (tmp_path / "b.json").write_text("{}")
    refusal = {"detail": "job 2 of 3: the sequence has no operations", "code": "invalid"}
    ready.on("POST", "/v1/jobs", refusal, status=422)
    ended = qpud("submit", sequence, "b.json", sequence, "--shots", "10")
    assert (ended.returncode, ended.stderr) == (1, "qpud: file b.json: the sequence has no operations\n")


def test_no_more_of_a_file_is_read_than_a_daemon_could_take(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(submit, "MOST_CHARACTERS", 2 << 20)
    with (tmp_path / "endless").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Stop, match="has more than 2 Mi characters, so it is no sequence"):
        submit._read(str(tmp_path / "endless"))


@pytest.mark.parametrize("text", ["omega", "omega=fast", "{nonsense", "=3"])
def test_variables_in_no_known_form_are_usage(text: str) -> None:
    with pytest.raises(Stop) as stop:
        variables([text])
    assert stop.value.code is Exit.USAGE
