"""The shims from the zipapp's point of view: examples in the SDKs' own venvs, one script on every path, pip."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import venvs
from conftest import SHOTS
from livesite import Site
from seen import is_antiferromagnet, variation
from test_sdks import LARGEST_VARIATION

from qpud import __version__

ROOT = Path(__file__).resolve().parents[2]
SHIMS = ROOT / "sdk_shims"
SCRIPTS = Path(__file__).resolve().parent / "scripts"
SECONDS = 300.0
pytestmark = [pytest.mark.client, pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment that names no daemon, with the shims copied to where Python finds them."""
    config = str(tmp_path_factory.mktemp("config"))
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{SHIMS / 'pulser'}:{SHIMS / 'qiskit'}",
        "XDG_CONFIG_HOME": config,
        **{name: value for name, value in os.environ.items() if name.startswith(("QPUD_TEST_", "SHIV_"))},
    }


def output_of(command: list[Any], env: dict[str, str]) -> str:
    """What a command prints. Fails with all it said if its exit code is not 0."""
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def inside(site: Site, env: dict[str, str]) -> dict[str, str]:
    """The same with the site's daemon."""
    return {**env, "QPUD_SOCKET": str(site.folder / "qpud.sock")}


def run_on(site: Site, env: dict[str, str], qpu: str, *command: Any) -> str:
    """What a command prints in `qpud run`."""
    return output_of([*site.command, "run", f"--qpu={qpu}", "--", *command], inside(site, env))


@pytest.mark.parametrize(
    ("client", "script", "said"),
    [
        ("qiskit", "qiskit/sampler.py", "detuning ends at +22 rad/µs: 10011 in "),
        ("cudaq", "cudaq/ahs.py", "11001 in "),
        ("myqlm", "myqlm/fresnel.py", "111 in "),
        ("pasqal_cloud", "cloud/batch.py", "111 in "),
    ],
)
def test_each_example_runs_in_its_own_environment(
    site: Site, outside: dict[str, str], client: str, script: str, said: str
) -> None:
    assert said in run_on(site, outside, "FRESNEL", venvs.python_of(client), SHIMS / script)


def test_the_cloud_example_runs_on_the_resource_of_its_run_though_another_has_the_same_device(
    site: Site, outside: dict[str, str]
) -> None:
    run_on(site, outside, "EMU_MPS", venvs.python_of("pasqal_cloud"), SHIMS / "cloud/batch.py")
    assert site.get("/v1/jobs?limit=1")["jobs"][0]["resource"] == "EMU_MPS"


def test_the_cloud_example_finds_its_token_in_a_file_as_in_a_slurm_job(
    site: Site, outside: dict[str, str], tmp_path: Path
) -> None:
    lay = f'umask 077; echo "$QPUD_TOKEN" >{tmp_path}/token; unset QPUD_TOKEN; export QPUD_TOKEN_FILE={tmp_path}/token'
    example = f"exec {venvs.python_of('pasqal_cloud')} {SHIMS / 'cloud/batch.py'}"
    assert "111 in " in run_on(site, outside, "FRESNEL", "sh", "-c", f"{lay}; {example}")


@pytest.fixture(scope="session")
def sweep(worker_python: Path) -> list[Any]:
    """One script, unchanged on every path."""
    return [worker_python, SCRIPTS / "pulser_anywhere.py", SHOTS]


@pytest.fixture(scope="session")
def qiskit_run(site: Site, outside: dict[str, str]) -> Any:
    """Qiskit's script."""
    return json.loads(
        run_on(site, outside, "FRESNEL", venvs.python_of("qiskit"), SCRIPTS / "qiskit_anywhere.py", SHOTS)
    )


@pytest.fixture(scope="session")
def runs(site: Site, outside: dict[str, str], sweep: list[Any]) -> dict[str, Any]:
    """What the script saw on the laptop, on the cluster's emulator, on the QPU, and in a shell."""
    shell = 'eval "$("$@" env --sdk pulser --qpu FRESNEL --shell)" && exec $SWEEP'
    with_sweep = {**inside(site, outside), "SWEEP": " ".join(map(str, sweep))}
    found = {
        "laptop, emu-mps": output_of(sweep, outside),
        "laptop, qutip": output_of(sweep, {**outside, "QPUD_LOCAL": "qutip"}),
        "EMU_MPS": run_on(site, outside, "EMU_MPS", *sweep),
        "FRESNEL": run_on(site, outside, "FRESNEL", *sweep),
        "a shell": output_of(["sh", "-c", shell, "sh", *site.command], with_sweep),
    }
    return {where: json.loads(text) for where, text in found.items()}


def test_one_script_runs_where_its_environment_says(runs: dict[str, Any]) -> None:
    assert [one["where"] for one in runs.values()] == ["local", "local", "EMU_MPS", "FRESNEL", "FRESNEL"]


def test_one_script_gives_the_same_physics_everywhere(runs: dict[str, Any], qiskit_run: Any) -> None:
    samples = {where: one["counts"] for where, one in runs.items()} | {"qiskit": qiskit_run["counts"]}
    assert all(sum(counts.values()) == SHOTS and is_antiferromagnet(counts) for counts in samples.values())
    pairs = itertools.combinations(samples, 2)
    distances = {pair: variation(samples[pair[0]], samples[pair[1]]) for pair in pairs}
    assert max(distances.values()) < LARGEST_VARIATION, distances


def test_qiskits_sampler_takes_several_pubs_and_lists_of_values(qiskit_run: Any) -> None:
    assert qiskit_run["list"] == [{"00000": 10}, {"00000": 10}]
    assert qiskit_run["done"] is True


def test_the_providers_own_sampler_runs_on_the_shims_backend(qiskit_run: Any) -> None:
    assert is_antiferromagnet(qiskit_run["theirs"])


def test_qiskits_provider_lists_the_resources(qiskit_run: Any) -> None:
    assert qiskit_run["backends"] == ["FRESNEL", "EMU_MPS", "local"]


def test_pip_installs_the_shims_with_qpuds_version(tmp_path: Path) -> None:
    subprocess.run([venvs.base_python(), "-m", "venv", tmp_path / "venv"], check=True, timeout=SECONDS)
    python = tmp_path / "venv" / "bin" / "python"
    output_of([python, "-m", "pip", "install", "--quiet", "--no-deps", f"{SHIMS}[pulser]"], dict(os.environ))
    sdk = next((venvs.python_of("qiskit").parent.parent / "lib").glob("python3*/site-packages"))
    site_packages = next((tmp_path / "venv" / "lib").glob("python3*/site-packages"))
    (site_packages / "sdk.pth").write_text(f"{sdk}\n")
    ask = (
        "import importlib.metadata as m, qpud_local, qpud_pulser, qpud_qiskit\n"
        "print(m.version('qpud-shims'), *(one.__file__ for one in (qpud_local, qpud_pulser, qpud_qiskit)))"
    )
    version, *files = output_of([python, "-c", ask], {"PATH": os.environ["PATH"]}).split()
    assert version == __version__
    assert {str(Path(file).parent) for file in files} == {str(site_packages)}
