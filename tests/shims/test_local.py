"""The Pulser shim without a daemon: it emulates, and says so; but not in place of a QPU that was asked for."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
SHIM = HERE.parent.parent / "sdk_shims" / "pulser"
pytestmark = pytest.mark.worker


@pytest.fixture(scope="module")
def seen(worker_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What use_local.py saw, on a machine with nothing but a dead daemon in the user's file."""
    config = tmp_path_factory.mktemp("config")
    (config / "token").write_text("t")
    (config / "qpud.ini").write_text(f"qpu = FRESNEL\nurl = http://127.0.0.1:9\ntoken_file = {config}/token\n")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SHIM), "XDG_CONFIG_HOME": str(config)}
    done = subprocess.run([worker_python, HERE / "use_local.py"], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout.splitlines()[-1]), "stdout": done.stdout, "stderr": done.stderr}


def test_the_tensor_network_comes_first(seen: dict[str, Any]) -> None:
    assert seen["first"] == "emu-mps"


def test_every_emulator_flips_the_atoms(seen: dict[str, Any]) -> None:
    assert seen["emulators"] == {name: {"11": 20} for name in ("emu-mps", "emu-sv", "qutip")}


def test_results_carry_the_atoms_of_the_sequence(seen: dict[str, Any]) -> None:
    assert seen["atoms"] == ["a", "b"]


def test_one_atom_goes_to_another_emulator(seen: dict[str, Any]) -> None:
    assert seen["one atom"] == {"1": 20}


def test_an_open_batch_works_as_on_the_daemon(seen: dict[str, Any]) -> None:
    jobs, progress, status, late = seen["open batch"]
    assert (jobs, progress, status) == (2, [[[5, 5]], [[7, 7]]], "DONE")
    assert late.startswith("LocalError: batch ") and late.endswith(" is closed: open another")


def test_it_says_in_one_line_what_it_uses_and_why(seen: dict[str, Any]) -> None:
    line = "qpud: emulates in this process with emu-mps: qpud does not answer at http://127.0.0.1:9: "
    assert seen["stderr"].count(line) == 1


def test_nothing_of_the_emulators_is_on_standard_output(seen: dict[str, Any]) -> None:
    assert seen["stdout"].count("\n") == 1


def test_an_emulator_s_name_asks_for_any(seen: dict[str, Any]) -> None:
    assert seen["an emulator's name"] == "LocalConnection"


@pytest.mark.parametrize("what", ["a QPU without a daemon", "a daemon that is away", "never"])
def test_what_was_asked_for_is_not_replaced(seen: dict[str, Any], what: str) -> None:
    assert seen[what].startswith("QpudUnreachable: qpud does not answer at http://127.0.0.1:9")


def test_an_emulator_can_be_forced(seen: dict[str, Any]) -> None:
    assert seen["forced"] == ""


def test_an_unknown_emulator_is_told(seen: dict[str, Any]) -> None:
    assert seen["unknown"] == "LocalError: there is no emulator 'emu-xyz', known are emu-mps, emu-sv, qutip"


def test_without_any_it_says_what_to_install(seen: dict[str, Any]) -> None:
    assert seen["none installed"].startswith("LocalError: nothing can be emulated here: pip install one of emu-mps")
