"""run: environment, exit codes, signals, and a session that is always closed."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from qpud.cli.environment import Ticket, environment

DUMP = "import json, os; print(json.dumps(dict(os.environ)))"
RESOURCES = [{"name": "FRESNEL"}, {"name": "EMU_MPS"}]


@pytest.fixture
def ready(daemon: Any) -> Any:
    info = {"resources": RESOURCES, "default_resource": "FRESNEL", "urls": [daemon.url], "queues": []}
    daemon.on("GET", "/v1/info", info)
    daemon.on("POST", "/v1/sessions", {"id": "s-9", "token": "tok-9", "created": True}, status=201)
    daemon.on("DELETE", "/v1/sessions/s-9", {"id": "s-9"})
    return daemon


def closed(daemon: Any) -> bool:
    return daemon.asked[-1].method == "DELETE"


def seen(qpud: Any, *options: str, **env: str) -> dict[str, str]:
    ended = qpud("run", *options, "--", sys.executable, "-c", DUMP, **env)
    assert ended.returncode == 0, ended.stderr
    environ: dict[str, str] = json.loads(ended.stdout)
    return environ


def test_the_command_finds_what_qrmi_pulser_and_the_shims_read(qpud: Any, ready: Any) -> None:
    env = seen(qpud, "--qpu=FRESNEL")
    assert env["QPUD_URL"] == ready.url
    assert env["FRESNEL_QRMI_WARDEN_URL"] == ready.url.replace("http://", "http://qpud:tok-9@")
    assert env["QPUD_TOKEN"] == env["FRESNEL_QRMI_JOB_ACQUISITION_TOKEN"] == "tok-9"
    assert env["QPUD_SOCKET"] == str(ready.socket)
    assert env["QPUD_QPU"] == env["QRMI_JOB_QPU_RESOURCES"] == env["SLURM_JOB_QPU_RESOURCES"] == "FRESNEL"
    assert env["QRMI_JOB_QPU_TYPES"] == env["SLURM_JOB_QPU_TYPES"] == "pasqal-local"
    assert env["QRMI_JOB_UID"] == str(os.getuid())
    assert "FRESNEL_QRMI_JOB_TIMEOUT_SECONDS" in env
    assert "FRESNEL_QRMI_URL" not in env  # QRMI warns about it


def test_several_resources_share_one_session_and_the_first_is_the_usual(qpud: Any, ready: Any) -> None:
    env = seen(qpud, "--qpu=EMU_MPS,FRESNEL")
    assert env["QPUD_QPU"] == "EMU_MPS"
    assert env["QRMI_JOB_QPU_RESOURCES"] == "EMU_MPS,FRESNEL"
    assert env["QRMI_JOB_QPU_TYPES"] == "pasqal-local,pasqal-local"
    assert env["EMU_MPS_QRMI_WARDEN_URL"].endswith("/r/EMU_MPS")
    assert env["FRESNEL_QRMI_JOB_ACQUISITION_TOKEN"] == env["EMU_MPS_QRMI_JOB_ACQUISITION_TOKEN"] == "tok-9"
    assert len(ready.requests("POST", "/v1/sessions")) == 1


def test_the_resources_of_a_batch_job_are_all_given(qpud: Any, ready: Any) -> None:
    assert seen(qpud, QRMI_JOB_QPU_RESOURCES="FRESNEL,EMU_MPS")["SLURM_JOB_QPU_RESOURCES"] == "FRESNEL,EMU_MPS"


def test_cudaq_and_myqlm_find_their_variables(qpud: Any, ready: Any) -> None:
    env = seen(qpud, "--qpu=EMU_MPS")
    assert env["EMU_MPS_QRMI_PASQAL_CLOUD_BASE_URL"] == f"{ready.url}/r/EMU_MPS"
    assert env["EMU_MPS_QRMI_PASQAL_CLOUD_AUTH_TOKEN"] == "tok-9"
    assert env["QPUD_MYQLM_URI"].endswith("/r/EMU_MPS/api")


def test_another_resource_has_a_prefix_in_its_url(qpud: Any, ready: Any) -> None:
    assert seen(qpud, "--qpu=EMU_MPS")["EMU_MPS_QRMI_WARDEN_URL"].endswith(
        ready.url.removeprefix("http://") + "/r/EMU_MPS"
    )


def test_proxies_are_kept_away_from_the_daemon() -> None:
    ticket = Ticket({"A": ""}, "http://node:8006", None, "t", "1", 1000)
    env = environment(ticket, {"NO_PROXY": "example.org, 127.0.0.1"})
    assert env["NO_PROXY"] == "example.org,127.0.0.1,localhost,node"
    assert env["no_proxy"] == "127.0.0.1,localhost,node"


def test_acquire_of_qrmi_names_this_very_session(qpud: Any, ready: Any) -> None:
    env = seen(qpud, "--queue=test", "--hint=qc-heavy", "--share=3", SLURM_JOB_ID="4242")
    asked = ready.requests("POST", "/v1/sessions")[0].body
    assert asked == {"queue": "test", "hint": "qc-heavy", "share": 3, "slurm_job_id": env["QRMI_JOB_ID"]}
    assert env["QRMI_JOB_ID"].startswith("4242.run-")


def test_the_session_is_closed_after_the_command(qpud: Any, ready: Any) -> None:
    seen(qpud)
    assert closed(ready)


def test_the_session_of_a_token_is_used_and_left_open(qpud: Any, ready: Any) -> None:
    assert seen(qpud, QPUD_TOKEN="tok-1")["QPUD_TOKEN"] == "tok-1"
    assert [asked.method for asked in ready.asked] == ["GET"]


def test_a_queue_of_ones_own_goes_before_the_token(qpud: Any, ready: Any) -> None:
    assert seen(qpud, "--queue=test", QPUD_TOKEN="tok-1")["QPUD_TOKEN"] == "tok-9"


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)],
)
def test_the_exit_code_of_the_command_is_passed_on(qpud: Any, ready: Any, script: str, code: int) -> None:
    assert qpud("run", "--", "sh", "-c", script).returncode == code
    assert closed(ready)


def test_options_after_the_command_are_the_commands(qpud: Any, ready: Any) -> None:
    ended = qpud("run", "--qpu", "FRESNEL", "echo", "--qpu", "x", "--", "-h")
    assert ended.stdout == "--qpu x -- -h\n"


def test_a_command_that_does_not_exist_is_127_and_closes_the_session(qpud: Any, ready: Any) -> None:
    ended = qpud("run", "--", "no-such-command")
    assert (ended.returncode, ended.stderr) == (127, "qpud: no-such-command: command not found\n")
    assert closed(ready)


def test_a_command_that_cannot_be_executed_is_126(qpud: Any, ready: Any, tmp_path: Any) -> None:
    (tmp_path / "data").write_text("x")
    assert qpud("run", "--", "./data").returncode == 126
    assert closed(ready)


def test_an_unknown_resource_is_told_before_a_session_is_opened(qpud: Any, ready: Any) -> None:
    ended = qpud("run", "--qpu=FRESNL", "--", "true")
    assert ended.returncode == 5
    assert "serves FRESNEL, EMU_MPS" in ended.stderr
    assert not ready.requests("POST", "/v1/sessions")


def test_a_daemon_without_tcp_says_what_to_configure(qpud: Any, ready: Any) -> None:
    ready.on("GET", "/v1/info", {"resources": RESOURCES, "default_resource": "FRESNEL", "urls": []})
    ended = qpud("run", "--", "true")
    assert ended.returncode == 1
    assert "Listen" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_run_reaches_the_command_and_the_session_is_closed(
    qpud: Any, ready: Any, number: signal.Signals
) -> None:
    command = qpud.start("run", "--", "sh", "-c", "echo started; exec sleep 60")
    assert command.stdout.readline() == "started\n"
    command.send_signal(number)
    command.communicate(timeout=20)
    assert command.returncode == 128 + number
    assert closed(ready)


def test_a_command_that_handles_a_signal_ends_as_it_likes(qpud: Any, ready: Any) -> None:
    script = "trap 'echo saved; exit 3' TERM; echo started; while :; do sleep 0.05; done"
    command = qpud.start("run", "--", "sh", "-c", script)
    assert command.stdout.readline() == "started\n"
    command.send_signal(signal.SIGTERM)
    out, _ = command.communicate(timeout=20)
    assert (command.returncode, out) == (3, "saved\n")


def test_a_signal_while_the_session_is_being_opened_still_closes_it(qpud: Any, ready: Any) -> None:
    def slowly(asked: Any) -> tuple[int, Any]:
        command.send_signal(signal.SIGTERM)
        return 201, {"id": "s-9", "token": "tok-9"}

    ready.on("POST", "/v1/sessions", slowly)
    command = qpud.start("run", "--", "sleep", "60")
    command.communicate(timeout=20)
    assert command.returncode == 143
    assert closed(ready)


def test_a_session_that_cannot_be_closed_is_noted_and_changes_no_exit_code(qpud: Any, ready: Any) -> None:
    ready.on("DELETE", "/v1/sessions/s-9", {"detail": "no", "code": "internal"}, status=500)
    ended = qpud("run", "--", "sh", "-c", "exit 7")
    assert ended.returncode == 7
    assert "will expire by itself" in ended.stderr


def test_the_token_is_on_no_command_line(qpud: Any, ready: Any) -> None:
    ended = qpud("run", "--", "sh", "-c", "cat /proc/$$/cmdline /proc/$PPID/cmdline")
    assert "tok-9" not in ended.stdout


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_ctrl_c_on_a_terminal_reaches_the_command_exactly_once(qpud: Any, ready: Any) -> None:
    script = "trap 'n=$((n+1))' INT; trap 'echo got $n; exit 3' TERM; echo started; while :; do sleep 0.05; done"
    master, slave = pty.openpty()
    command = subprocess.Popen(
        qpud.argv("run", "--", "sh", "-c", script),
        env=qpud.env,
        preexec_fn=lambda: os.login_tty(slave),  # a session and terminal of its own
    )
    os.close(slave)
    with os.fdopen(master, "r+b", buffering=0) as terminal:
        _read_until(terminal, b"started")
        terminal.write(b"\x03")
        _read_until(terminal, b"^C")
        command.send_signal(signal.SIGTERM)
        _read_until(terminal, b"got 1")
        assert command.wait(20) == 3
    assert closed(ready)


def _read_until(terminal: Any, text: bytes) -> None:
    seen = b""
    deadline = time.monotonic() + 20
    while text not in seen:
        assert select.select([terminal], [], [], deadline - time.monotonic())[0], seen
        seen += terminal.read(1000)
