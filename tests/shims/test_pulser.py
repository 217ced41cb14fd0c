"""The Pulser shim against the real daemon."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SHIM = HERE.parent.parent / "sdk_shims" / "pulser"
pytestmark = [pytest.mark.pyz, pytest.mark.worker]


@pytest.fixture(scope="module")
def seen(pyz: Path, worker_python: Path):
    """What use_pulser.py saw."""
    with tempfile.TemporaryDirectory(prefix="qs-") as folder:
        state = Path(folder) / "state"
        env = {"PATH": os.environ["PATH"], "SHIV_ROOT": f"{folder}/cache", "QPUD_SOCKET": str(state / "qpud.sock")}
        serve = [pyz, "serve", "--dev", "--state", state, "--worker-python", worker_python, "--speed-up", "1000"]
        with subprocess.Popen(serve, env=env, stdout=subprocess.PIPE, text=True) as daemon:
            try:
                assert daemon.stdout.readline().startswith("ready ")
                use = [pyz, "run", "--qpu=FRESNEL", "--", worker_python, HERE / "use_pulser.py"]
                script = {**env, "XDG_CONFIG_HOME": folder, "PYTHONPATH": str(SHIM)}
                done = subprocess.run(use, env=script, capture_output=True, text=True, timeout=90)
            finally:
                daemon.terminate()
                daemon.wait(20)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr}


def test_a_batch_gives_one_result_per_entry_with_its_variables(seen):
    assert seen["counts"] == [{"00": 40}, {"11": 40}]


def test_results_carry_the_atoms_and_duration_of_the_sequence(seen):
    assert (seen["atoms"], seen["duration"]) == (["left", "right"], 1000)


def test_a_batch_that_ended_is_done(seen):
    assert (seen["batch"], seen["jobs"]) == ("DONE", 2)


def test_results_can_be_fetched_later(seen):
    assert seen["later"] == {"00": 40}


def test_an_open_batch_takes_a_job_that_depends_on_an_earlier_one(seen):
    batch = seen["open batch"]
    assert (batch["batches"], batch["jobs"], batch["counts"]) == (1, 2, [{"00": 40}, {"11": 40}])


def test_an_open_batch_is_closed_at_its_end_and_says_so(seen):
    batch = seen["open batch"]
    assert (batch["while open"], batch["at the end"]) == ("RUNNING", "DONE")
    assert batch["late"].startswith("QpudError: batch ") and "closed" in batch["late"]


def test_progress_is_told_in_shots(seen):
    assert seen["open batch"]["progress"] == [[40, 40]]


def test_a_batch_can_be_canceled(seen):
    assert seen["canceled"] == "CANCELED"


def test_the_backend_finds_the_daemon_by_itself_and_says_so(seen):
    assert seen["connected"] == ["QpudConnection", {"00": 40}]
    assert "qpud: FRESNEL (QPUD_QPU) at http://127.0.0.1:" in seen["stderr"]


def test_progress_is_told_in_pulser_s_words(seen):
    assert seen["pending"][0] in {"PENDING", "RUNNING", "DONE"}


def test_another_process_can_fetch_them_too(seen):
    assert seen["elsewhere"] == {"00": 40}


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("no runs", "ValueError: "),
        ("unknown resource", "QpudError: resource 'NOWHERE' does not exist"),
        ("bad token", "QpudError: the session token"),
        ("no daemon", "QpudUnreachable: qpud does not answer at http://127.0.0.1:9: "),
        ("too much", "QpudError: the body of "),
        ("too many jobs", "QpudError: a batch of 1001 jobs: "),
        ("too many shots", "QpudError: 3000 "),
    ],
)
def test_a_refusal_is_raised_with_its_sentence(seen, what: str, sentence: str):
    assert seen[what].startswith(sentence)
    assert "\n" not in seen[what]


def test_without_a_daemon_named_it_says_how_to_name_one(worker_python: Path):
    code = "import qpud_pulser; qpud_pulser.QpudConnection()"
    command = [worker_python, "-c", code]
    done = subprocess.run(command, env={"PYTHONPATH": str(SHIM)}, capture_output=True, text=True, timeout=60)
    assert "QpudUnreachable: QPUD_URL is not set: start the script with `qpud run" in done.stderr
