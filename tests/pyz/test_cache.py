"""The cache: whole, shared between starts, and never piling up."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from machine import build_of, caches, start, variant

pytestmark = pytest.mark.pyz
WAITS = """
import importlib, sys
def main():
    print("up", flush=True)
    sys.stdin.read()
    print(importlib.import_module("qpud.core.errors").__name__)
    return 0
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    return folder


def ids(pyz: Path, folder: Path, *names: str) -> list[Path]:
    """Variants of the zipapp that differ in their build id."""
    return [variant(pyz, folder / f"{name}.pyz", id=name) for name in names]


def run_in_turn(root: Path, files: list[Path]) -> None:
    for number, file in enumerate(files, start=1):
        assert start(file, root).returncode == 0
        mark = next(root.glob(f".qpud_{file.stem}.use"))
        os.utime(mark, (number, number))  # the clock's grain must not decide


def test_old_builds_do_not_pile_up_but_one_stays_for_going_back(tmp_path: Path, root: Path, pyz: Path):
    run_in_turn(root, ids(pyz, tmp_path, "a", "b", "c", "d"))
    assert caches(root) == ["c", "d"]


def test_nothing_else_of_a_removed_build_stays(tmp_path: Path, root: Path, pyz: Path):
    run_in_turn(root, ids(pyz, tmp_path, "a", "b", "c"))
    assert not [path for path in root.iterdir() if "qpud_a" in path.name]


def test_files_of_other_zipapps_in_a_shared_shiv_root_are_left_alone(tmp_path: Path, root: Path, pyz: Path):
    (root / "black_0123").mkdir()
    run_in_turn(root, ids(pyz, tmp_path, "a", "b", "c"))
    assert (root / "black_0123").exists()


def test_a_running_server_keeps_its_files_whatever_starts_beside_it(tmp_path: Path, root: Path, pyz: Path):
    server = variant(pyz, tmp_path / "server.pyz", program=WAITS, id="server")
    env = {"PATH": os.environ["PATH"], "SHIV_ROOT": str(root)}
    with subprocess.Popen([server], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "up\n"
        os.utime(root / ".qpud_server.use", (0, 0))
        run_in_turn(root, ids(pyz, tmp_path, "a", "b", "c", "d"))
        said, _ = running.communicate(timeout=30)
    assert said == "qpud.core.errors\n"


def test_the_files_of_a_server_that_ended_go_in_turn(tmp_path: Path, root: Path, pyz: Path):
    server = variant(pyz, tmp_path / "server.pyz", program=WAITS, id="server")
    env = {"PATH": os.environ["PATH"], "SHIV_ROOT": str(root)}
    subprocess.run([server], env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=30)
    os.utime(root / ".qpud_server.use", (0, 0))
    run_in_turn(root, ids(pyz, tmp_path, "a", "b"))
    assert caches(root) == ["a", "b"]


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["missing", "cut short"])
def test_a_damaged_cache_is_unpacked_again(root: Path, pyz: Path, harm):
    start(pyz, root)
    harm(next(root.glob("qpud_*/site-packages/msgspec/_core*.so")))
    done = start(pyz, root)
    assert done.returncode == 0, done.stderr


def test_eight_first_starts_at_once_all_succeed(root: Path, pyz: Path):
    env = {"PATH": os.environ["PATH"], "SHIV_ROOT": str(root)}
    started = [subprocess.Popen([pyz, "version"], env=env, stdout=subprocess.DEVNULL) for _ in range(8)]
    assert [process.wait(60) for process in started] == [0] * 8


def test_a_start_killed_while_unpacking_is_repaired_by_the_next(root: Path, pyz: Path):
    env = {"PATH": os.environ["PATH"], "SHIV_ROOT": str(root)}
    unpacking = root / f"qpud_{build_of(pyz)['id']}.tmp"
    with subprocess.Popen([pyz, "version"], env=env, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while not unpacking.exists() and time.monotonic() < deadline:
            pass
        process.send_signal(signal.SIGKILL)
    assert unpacking.exists()
    assert start(pyz, root).returncode == 0


def test_a_warm_start_writes_nothing_but_its_mark(root: Path, pyz: Path):
    for _ in range(2):
        start(pyz, root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.suffix != ".use"}
    start(pyz, root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.suffix != ".use"} == before
