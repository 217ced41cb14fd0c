"""The tutorial of sdk_shims/README.md, done as it says: its commands in their order, its script unchanged."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

SHIMS = Path(__file__).resolve().parents[2] / "sdk_shims"
SECTION = (SHIMS / "README.md").read_text().split("\n## ")[1]
READY = "until qpud info >/dev/null 2>&1; do sleep 0.1; done"
SECONDS = 400.0
pytestmark = [pytest.mark.pyz, pytest.mark.worker]


def blocks(language: str) -> list[str]:
    """The section's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def laptop(pyz: Path, worker_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A folder with the script and its shims, and Python and qpud on the PATH: what a user has."""
    folder = tmp_path_factory.mktemp("t")
    commands = folder / "bin"
    commands.mkdir()
    (commands / "qpud").symlink_to(pyz)
    for name in ("mis.py", "qpud_pulser.py", "qpud_local.py"):
        shutil.copy(SHIMS / "pulser" / name, folder)
    (folder / "run").mkdir(mode=0o700)
    marks = {name: value for name, value in os.environ.items() if name.startswith("QPUD_TEST_")}
    home = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run"), "SHIV_ROOT": str(folder / "cache")}
    return {
        "PATH": f"{commands}:{worker_python.parent}:{os.environ['PATH']}",
        "MPLCONFIGDIR": str(folder / "mpl"),
        **home,
        **marks,
    }


@pytest.fixture(scope="module")
def said(laptop: dict[str, str]) -> str:
    """What a shell said that ran all commands of the section, in a session of its own."""
    script = "\n".join(["set -e", *(line.replace("&\n", f"&\n{READY}\n") for line in blocks("sh")), "kill $!", "wait"])
    log = Path(laptop["HOME"]) / "said"
    with log.open("w") as output:
        shell = subprocess.Popen(
            ["sh", "-c", script],
            cwd=laptop["HOME"],
            env=laptop,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert shell.wait(SECONDS) == 0, log.read_text()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)  # the daemon, if a command before its end failed
    return log.read_text()


def test_the_loop_runs_here_on_an_emulator_and_on_the_qpu(said: str) -> None:
    places = re.findall(r"^qpud: (emulates in this process with emu-mps|\w+ \(QPUD_QPU\))", said, re.MULTILINE)
    assert places == ["emulates in this process with emu-mps", "EMU_MPS (QPUD_QPU)", "FRESNEL (QPUD_QPU)"]


def test_it_finds_the_largest_independent_set_everywhere(said: str) -> None:
    found = re.findall(r"^independent set (\d+) in (\d+) of 100 shots", said, re.MULTILINE)
    assert [bits for bits, _ in found] == ["10011"] * 3
    assert all(int(number) > 40 for _, number in found)


def test_doctor_finds_every_hop_in_order(said: str) -> None:
    hops = re.findall(r"^ok +(\w+) ", said, re.MULTILINE)
    assert hops == ["settings", "daemon", "identity", "resource", "session", "url", "specs", "job"]


def test_what_the_tutorial_shows_of_the_script_is_in_it() -> None:
    (shown,) = blocks("python")
    assert shown in (SHIMS / "pulser" / "mis.py").read_text()
