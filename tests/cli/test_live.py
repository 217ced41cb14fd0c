"""The command line against the real daemon: `qpud serve --dev` in a private folder of its own."""

from __future__ import annotations

import ast
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.worker

REPOSITORY = Path(__file__).parents[2]
WORKER = os.environ.get("QPUD_WORKER_PYTHON", str(REPOSITORY / ".venv/worker/bin/python"))
DEADLINE = 60.0
QPUD = (sys.executable, "-m", "qpud")


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Live:
    """A daemon of this test, found as every user's own daemon is: through his private folder."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o700)
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("QPUD_", "QRMI_", "SLURM_"))
        }
        self.env = {**clean, "XDG_RUNTIME_DIR": str(folder), "PYTHONPATH": str(REPOSITORY)}
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Start the daemon; its ready line."""
        with (self.folder / "daemon.log").open("a") as log:
            self.process = subprocess.Popen(
                [*QPUD, "serve", "--dev", "--worker-python", WORKER, "--speed-up", "100"],
                env=self.env,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], DEADLINE)[0], "the daemon is not ready in time"
        return self.process.stdout.readline()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        process, self.process = self.process, None
        assert process is not None
        process.send_signal(number)
        process.communicate(timeout=DEADLINE)
        return process.returncode

    def __call__(self, *args: str, **env: str) -> Ended:
        ended = subprocess.run(
            [*QPUD, *args],
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def submitted(self, *options: str) -> int:
        ended = self("submit", self.sequence, "--shots", "50", "--json", *options)
        assert ended.code == 0, ended.err
        return int(json.loads(ended.out)["id"])

    @property
    def sequence(self) -> str:
        """A four-atom sequence for AnalogDevice, made once by the worker's Pulser."""
        path = self.folder / "sequence.json"
        if not path.exists():
            path.write_text(subprocess.run([WORKER, "-c", MAKE], capture_output=True, text=True, check=True).stdout)
        return str(path)


MAKE = """
from pulser import AnalogDevice, Pulse, Register, Sequence
register = Register.square(2, spacing=7, prefix="q").with_automatic_layout(AnalogDevice)
sequence = Sequence(register, AnalogDevice)
sequence.declare_channel("ising", "rydberg_global")
sequence.add(Pulse.ConstantPulse(400, 5.0, 0.0, 0.0), "ising")
sequence.measure("ground-rydberg")
print(sequence.to_abstract_repr())
"""


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path)
    yield live
    if live.process is not None:
        live.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = Live(tmp_path_factory.mktemp("live"))
    live.start()
    yield live
    assert live.stop() == 0


@pytest.fixture
def drained(live: Live) -> Iterator[Live]:
    assert live("drain", "FRESNEL", "--reason", "laser alignment").code == 0
    yield live
    assert live("resume", "FRESNEL").code == 0


def test_the_users_own_daemon_is_found_without_a_word(live: Live) -> None:
    ended = live("info", "--json")
    assert ended.code == 0, ended.err
    assert {one["name"] for one in json.loads(ended.out)["resources"]} == {"FRESNEL", "EMU_MPS"}


@pytest.mark.parametrize("qpu", ["FRESNEL", "EMU_MPS"])
def test_submit_and_wait_yields_exactly_the_shots(live: Live, qpu: str) -> None:
    ended = live("submit", live.sequence, "--shots", "50", "--qpu", qpu, "--wait", "--json")
    assert ended.code == 0, ended.err + ended.out
    counts = json.loads(ended.out)["counts"]
    assert sum(counts.values()) == 50
    assert {len(bits) for bits in counts} == {4}


def test_the_readmes_lines_for_curl_yield_counts(live: Live, tmp_path: Path) -> None:
    section = (REPOSITORY / "README.md").read_text().split("## Programs that speak HTTP")[1]
    lines = section.split("```sh\n")[1].split("```")[0].replace("<sequence.json", f"<{live.sequence}")
    ended = live("run", "--qpu=FRESNEL", "--", "sh", "-e", "-c", f"cd {tmp_path}\n{lines}")
    assert ended.code == 0, ended.err
    assert sum(ast.literal_eval(ended.out).values()) == 100


def test_what_is_no_sequence_is_refused_in_one_sentence(live: Live, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"not": "a sequence"}')
    ended = live("submit", str(tmp_path / "bad.json"), "--shots", "5")
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1


def test_a_waiting_job_is_explained_in_queue_and_show(drained: Live) -> None:
    job = drained.submitted()
    assert "ResourceDrained" in drained("queue").out
    assert "laser alignment" in drained("show", str(job)).out
    assert drained("result", str(job)).code == 6
    assert drained("cancel", str(job)).code == 0
    assert drained("cancel", str(job)).code == 0  # it is canceled, as asked
    assert drained("result", str(job)).code == 1


def test_a_held_job_goes_on_after_release(live: Live) -> None:
    live("drain", "FRESNEL", "--reason", "to hold in peace")
    job = str(live.submitted())
    assert live("hold", job).code == 0
    live("resume", "FRESNEL")
    assert "JobHeldUser" in live("queue").out
    assert live("release", job).code == 0
    assert live("result", job, "--wait").code == 0


def test_a_resource_that_is_down_keeps_its_jobs_waiting(live: Live) -> None:
    assert live("down", "FRESNEL", "--reason", "vacuum is gone").out == "FRESNEL is down: vacuum is gone\n"
    job = str(live.submitted("--qpu", "FRESNEL"))
    assert "waits: FRESNEL is down (vacuum is gone)" in live("queue", "-l").out
    assert live("resume", "FRESNEL").out == "FRESNEL is up\n"
    assert live("result", job, "--wait").code == 0


def test_a_window_of_others_keeps_jobs_waiting_until_it_is_deleted(live: Live) -> None:
    made = live("reservation", "create", "beam-time", "--resource", "FRESNEL", "--duration", "2h", "--duty", "qa")
    assert made.code == 0, made.err
    job = str(live.submitted("--qpu", "FRESNEL"))
    mine = live("submit", live.sequence, "--shots", "5", "--qpu", "FRESNEL", "--account", "duty:qa", "--wait")
    assert mine.code == 0, mine.err
    assert "FRESNEL is reserved for duty qa until" in live("queue", "-l").out
    assert "beam-time" in live("reservation", "list").out
    assert live("reservation", "create", "other", "--duration", "1", "--users", "root").code == 1
    assert live("reservation", "delete", "beam-time").code == 0
    assert live("result", job, "--wait").code == 0


def test_jobs_are_canceled_by_a_filter(drained: Live) -> None:
    jobs = [drained.submitted("--name", "sweep") for _ in range(3)]
    assert drained("cancel", "--name", "sweep", "--dry-run").out.endswith("3 jobs would be canceled\n")
    assert drained("cancel", "--name", "sweep").out == "3 jobs: 3 canceled\n"
    assert json.loads(drained("show", str(jobs[0]), "--json").out)["state"] == "CANCELED"


def test_an_administrator_moves_a_job_to_another_queue(drained: Live) -> None:
    job = str(drained.submitted("--queue", "development"))
    assert drained("update", job, "--queue", "production").code == 0
    assert json.loads(drained("show", job, "--json").out)["queue"] == "production"
    assert "moved from queue development to queue production" in drained("logs", job).out
    assert drained("cancel", job).code == 0


def test_closing_of_runs_session_cancels_what_its_command_left(drained: Live) -> None:
    left = drained("run", "--qpu=FRESNEL", "--", *QPUD, "submit", drained.sequence, "--shots", "5", "--json")
    assert left.code == 0, left.err
    job = str(json.loads(left.out)["id"])
    shown = json.loads(drained("show", job, "--json").out)
    assert (shown["state"], shown["reason"]) == ("CANCELED", "SessionClosed")


def test_the_command_of_run_reaches_its_session_over_tcp_with_the_token(live: Live) -> None:
    script = (
        "import json, os, urllib.request as u; r = u.Request(os.environ['QPUD_URL'] + '/v1/sessions?active=true', "
        "headers={'Authorization': 'Bearer ' + os.environ['QPUD_TOKEN']}); "
        "print(u.urlopen(r, timeout=10).read().decode())"
    )
    ended = live("run", "--queue=test", "--hint=qc-heavy", "--", sys.executable, "-c", script)
    assert ended.code == 0, ended.err
    assert ("test", "qc-heavy") in {(one["queue"], one["hint"]) for one in json.loads(ended.out)}


def test_administration_with_a_session_token_over_tcp_is_not_allowed(live: Live) -> None:
    url = json.loads(live("info", "--json").out)["urls"][0]
    grant = live("run", "--", *QPUD, "drain", "FRESNEL", "--reason", "x", "--url", url)
    assert grant.code == 4
    assert "use --socket" in grant.err


def test_a_job_of_nobody_is_not_found(live: Live) -> None:
    assert live("show", "2147483647").code == 5


def test_a_second_daemon_in_the_same_folder_is_refused(live: Live) -> None:
    ended = live("serve", "--dev", "--worker-python", WORKER)
    assert ended.code == 1
    assert str(live.folder) in ended.err


def test_reconfigure_of_a_dev_daemon_says_that_there_is_no_file(live: Live) -> None:
    ended = live("reconfigure")
    assert ended.code == 1
    assert "no policy file" in ended.err


def test_a_wait_goes_on_over_a_killed_and_restarted_daemon(stopped: Live) -> None:
    stopped.start()
    stopped("drain", "FRESNEL", "--reason", "until the restart")
    job = str(stopped.submitted())
    waiting: Any = subprocess.Popen(
        [*QPUD, "result", job, "--wait", "--json"],
        env=stopped.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "PENDING" in waiting.stderr.readline()
    stopped.stop(signal.SIGKILL)
    assert "does not answer" in _line_with(waiting.stderr, "does not answer")
    stopped.start()
    assert stopped("resume", "FRESNEL").code == 0
    out, errors = waiting.communicate(timeout=DEADLINE)
    assert waiting.returncode == 0, errors
    assert sum(json.loads(out)["counts"].values()) == 50
    assert stopped.stop(signal.SIGINT) == 0


def _line_with(stream: Any, text: str) -> str:
    deadline = time.monotonic() + DEADLINE
    line = ""
    while text not in line and time.monotonic() < deadline:
        line = stream.readline()
    return line
