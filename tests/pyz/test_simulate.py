"""`qpud simulate` from the one file: the chart's script is started from where the file unpacked itself."""

import json
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.pyz


def simulate(pyz: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(pyz), "simulate", "--generate", "hybrid", "--number", "5", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))


def test_figures_need_nothing_but_the_file(pyz: Path):
    assert json.loads(simulate(pyz, "--json").stdout)["scheduler"] == "share"


@pytest.mark.worker
def test_the_plot_is_drawn_by_the_workers_interpreter(pyz: Path, worker_python: Path, tmp_path: Path):
    done = simulate(pyz, "--plot", str(tmp_path / "x.svg"), "--worker-python", str(worker_python))
    assert done.returncode == 0, done.stderr
    assert "<svg" in (tmp_path / "x.svg").read_text()
