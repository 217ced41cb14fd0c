"""A site that has QRMI's own SPANK plugin and none of ours: `sbatch --qpu` works, and the hooks catch what it misses.

The plugin's calls are made by tests/site/spank_qrmi_like.c through the C API of the released qrmi wheel. The plugin
itself is GPL and has no released binary: QPUD_SPANK_QRMI names one that was compiled for this Slurm, and then the same
tests run that one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import venvs
from tests.site.cluster import until
from tests.site.hooked import ROOT, Hooked

pytestmark = [pytest.mark.slurm, pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker, pytest.mark.client]
GIVEN = os.environ.get("QPUD_SPANK_QRMI")
TOKEN = "$FRESNEL_QRMI_JOB_ACQUISITION_TOKEN"
NO_HOOKS = "exit 0\n"
QRMI_TASK = ROOT / "tests" / "conformance" / "scripts" / "qrmi_task.py"


@pytest.fixture
def site(hooked: Hooked) -> Iterator[Hooked]:
    """The cluster with QRMI's plugin instead of ours."""
    places = {name: {"QRMI_WARDEN_URL": hooked.site.url + path} for name, path in PATHS.items()}
    config = [{"name": name, "type": "pasqal-local", "environment": place} for name, place in places.items()]
    (hooked.folder / "qrmi_config.json").write_text(json.dumps({"resources": config}))
    with hooked.replaced("plugstack.conf", plugstack(hooked.folder)):
        yield hooked


PATHS = {"FRESNEL": "", "EMU_MPS": "/r/EMU_MPS"}


def plugstack(folder: Path) -> str:
    """The line of plugstack.conf."""
    if GIVEN:
        return f"required {GIVEN} {folder}/qrmi_config.json\n"
    python = Path(venvs.python_of("qrmi"))
    (core,) = (python.parent.parent / "lib").glob("python3*/site-packages/qrmi/_core.abi3.so")
    stubs = compiled(folder / "stubs", stubs_of(core))
    plugin = compiled(folder / "spank_qrmi_like", (ROOT / "tests/site/spank_qrmi_like.c").read_text())
    return f"required {plugin} {folder}/qrmi_config.json {stubs} {core}\n"


def stubs_of(core: Path) -> str:
    """Something under each name of Python that the wheel's library wants; no interpreter is in slurmstepd."""
    listed = subprocess.run(["nm", "-D", "--undefined-only", str(core)], capture_output=True, text=True, check=True)
    names = [line.split()[-1] for line in listed.stdout.splitlines()]
    return "\n".join(f"void *{name}[64];" for name in names if name.startswith(("Py", "_Py")))


def compiled(path: Path, text: str) -> Path:
    """A shared library of C."""
    library = path.with_suffix(".so")
    path.with_suffix(".c").write_text(text)
    flags = ("-std=gnu11", "-O1", "-w", "-fPIC", "-shared")
    subprocess.run(["cc", *flags, "-o", str(library), str(path.with_suffix(".c")), "-ldl"], check=True, timeout=120)
    return library


@pytest.mark.parametrize("hooks", ["without our hooks", "with our hooks"])
def test_the_plugin_opens_the_session_that_the_released_client_uses(site: Hooked, hooks: str) -> None:
    body = f'echo "{TOKEN}"; {venvs.python_of("qrmi")} -B {QRMI_TASK} FRESNEL 20 <{site.folder}/sequence.json'
    text = NO_HOOKS if hooks.startswith("without") else site.hooks_conf
    with site.replaced("hooks/slurm-hooks.conf", text):
        written = site.run_to_the_end(body, "--qpu=FRESNEL", "-p", "production", "-L", "qpu:3")
    given, seen = written.splitlines()[0], json.loads(written.splitlines()[-1])
    assert (seen["session"], sum(seen["counter"].values())) == (given, 20)
    session = site.site.get(f"/v1/sessions/{given}")
    assert (session["queue"], session["share"], session["close_reason"]) == ("production", 3, "manual")


@pytest.mark.parametrize("asked", ["EMU_MPS", *(["FRESNEL,EMU_MPS"] if GIVEN else [])])
def test_a_resource_that_is_not_the_default_is_found_by_its_name(site: Hooked, asked: str) -> None:
    written = site.run_to_the_end('echo "$QRMI_JOB_QPU_RESOURCES $SLURM_JOB_QPU_TYPES"', f"--qpu={asked}")
    assert written == f"{asked} {','.join('pasqal-local' for _ in asked.split(','))}\n"


def test_a_resource_that_is_not_configured_fails_the_job_and_drains_no_node(site: Hooked) -> None:
    job = site.cluster.submit("true", "--qpu=NOSUCH")
    assert site.cluster.wait(job, "COMPLETED", "FAILED", "CANCELLED") != "COMPLETED"
    site.expect_nothing_left(job)
    site.cluster.wait_idle()


def test_a_killed_slurmstepd_leaves_no_session_of_the_plugin(site: Hooked) -> None:
    job = site.cluster.start("echo $PPID; sleep 300", "--qpu=FRESNEL")
    site.open_sessions(job)
    until(lambda: site.written(job).strip().isdigit(), "the pid of slurmstepd")
    step = int(site.written(job))
    assert Path(f"/proc/{step}/cmdline").read_text().startswith(f"slurmstepd: [{job}.")
    os.kill(step, signal.SIGKILL)
    site.cluster.kill_processes(job)
    site.cluster.cancel(job)
    site.expect_nothing_left(job)
