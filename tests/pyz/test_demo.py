"""`make run`: it shows what it promises, and nothing of it stays, however it ends."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parent.parent.parent / "packaging" / "demo" / "run.py"
pytestmark = [pytest.mark.pyz, pytest.mark.worker, pytest.mark.usefixtures("pyz", "worker_python")]


@pytest.fixture
def place():
    """A folder for temporary files with a path short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="qd-") as folder:
        yield Path(folder)


def demo(place: Path, **options) -> subprocess.Popen:
    env = {**os.environ, "TMPDIR": str(place)}
    return subprocess.Popen([sys.executable, DEMO], env=env, stdout=subprocess.PIPE, text=True, **options)


def processes_of(place: Path) -> list[str]:
    """Command lines of the living processes that know the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            known = bytes(place) in (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            found += [(entry / "cmdline").read_text()] if known else []
        except OSError:
            continue
    return found


def left(place: Path) -> tuple[list[str], list[str]]:
    return processes_of(place), os.listdir(place)


def test_production_overtakes_and_nothing_is_left(place: Path):
    with demo(place) as running:
        said, _ = running.communicate(timeout=120)
    assert running.returncode == 0
    assert "101010101  ████" in said
    assert "preempted by job 2 of queue production" in said
    assert max(map(len, said.splitlines())) <= 80
    assert "\033" not in said
    assert left(place) == ([], [])


@pytest.mark.parametrize("stage", ["$ qpud serve", "$ qpud run", "$ qpud submit"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_stage_leaves_nothing(place: Path, stage: str, number: signal.Signals):
    with demo(place) as running:
        assert any(line.startswith(stage) for line in running.stdout)
        running.send_signal(number)
        running.stdout.read()
        assert running.wait(30) == 128 + number
    assert left(place) == ([], [])


def test_a_second_ctrl_c_does_not_disturb_the_cleaning_up(place: Path):
    with demo(place) as running:
        assert any(line.startswith("$ qpud run") for line in running.stdout)
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGINT)
        running.stdout.read()
        running.wait(30)
    assert left(place) == ([], [])


def test_a_daemon_that_cannot_start_is_shown_with_its_log(place: Path):
    long = place / ("x" * 100)  # the socket's path becomes too long
    long.mkdir()
    with demo(long, stderr=subprocess.PIPE) as running:
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "make run failed: the daemon was not ready" in errors
    assert "the socket's path" in errors
    assert left(long) == ([], [])
