"""From nothing to a first user's job, with Slurm, as packaging/README.md says: its own lines are what is run here.

Paths lie below a folder of this test, there is no systemd, and the worker's interpreter is there already.
"""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.conformance import munged
from tests.conformance.livesite import Site
from tests.site.cluster import USER, running_cluster
from tests.site.hooked import HEADER, ROOT, SEQUENCE

pytestmark = [pytest.mark.slurm, pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]
README = (ROOT / "packaging" / "README.md").read_text()
PLACES = ("/usr/local/", "/usr/lib/slurm/", "/etc/qpud/", "/etc/slurm/")


def block(first: str) -> str:
    """The indented lines of the README from one that begins so to the next that is not indented."""
    lines = README[README.index(f"\n    {first}") + 1 :].splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("    ") and line)
    return textwrap.dedent("\n".join(lines[:end]))


class Newcomer:
    """Types what the README says, below a folder.

    Args:
        folder: Stands for /.
        pyz: The zipapp, and nothing else.
    """

    def __init__(self, folder: Path, pyz: Path) -> None:
        self.folder = folder
        self.pyz = pyz

    def here(self, text: str) -> str:
        """The same with its paths below the folder."""
        for place in PLACES:
            text = text.replace(f" {place}", f" {self.folder}{place}").replace(f"={place}", f"={self.folder}{place}")
        return text.replace(">>/etc", f">>{self.folder}/etc")

    def type(self, first: str) -> None:
        """Run the commands of a block."""
        text = self.here(block(first)).replace("--slurm --apply", f"--root {self.folder} --slurm --apply")
        for folder in PLACES:
            (self.folder / folder.strip("/")).mkdir(parents=True, exist_ok=True)
        command = text.replace("qpud-0.1.0-cp311-linux_x86_64.pyz", str(self.pyz))
        subprocess.run(["sh", "-e", "-c", command], check=True, capture_output=True, timeout=120)

    def slurm(self) -> str:
        """The lines of slurm.conf; those that the cluster has already are left out."""
        return "\n".join(line for line in self.here(block("PrologFlags")).splitlines() if "Licenses" not in line)


def a_site(newcomer: Newcomer, worker_python: Path) -> Site:
    """The daemon with the README's policy of the first day, at ports and folders of this test."""
    qpud = newcomer.folder / "usr/local/bin/qpud"
    site = Site([str(qpud)], newcomer.folder / "site", worker_python, "")
    policy = (
        block("[qpud]").replace("unix:/run/qpud", f"unix:{site.folder}").replace("http://127.0.0.1:8006", site.url)
    )
    policy = policy.replace("/opt/qpud/worker/bin/python", f"{worker_python}\nStateSaveLocation = {site.folder}/state")
    site.config.write_text(policy)
    check(newcomer, site)
    return site


def add_slurm(newcomer: Newcomer, site: Site) -> None:
    """The README's lines for Slurm, below [qpud]."""
    lines = f"[qpud]\n{block('SlurmLookup')}\nSlurmConf = {newcomer.folder}/slurm.conf\n"
    site.config.write_text(site.config.read_text().replace("[qpud]\n", lines))
    check(newcomer, site)


def check(newcomer: Newcomer, site: Site) -> None:
    qpud = newcomer.folder / "usr/local/bin/qpud"
    subprocess.run([qpud, "check", site.config], check=True, capture_output=True, timeout=60)


def lay(folder: Path, pyz: Path, worker_python: Path) -> tuple[Newcomer, Site]:
    """All of the README before Slurm starts."""
    newcomer = Newcomer(folder, pyz)
    newcomer.type("sh qpud-0.1.0-cp311-linux_x86_64.pyz install --slurm")
    newcomer.type("cc -O2")
    site = a_site(newcomer, worker_python)
    hooks, pieces = folder / "etc/qpud/slurm-hooks.conf", folder / "usr/local/lib/qpud/slurm"
    text = hooks.read_text().replace("/run/qpud/qpud.sock", f"{site.folder}/qpud.sock")
    text = text.replace("http://127.0.0.1:8006", site.url).replace("PATIENCE=5", "PATIENCE=30")  # a busy machine
    text = text.replace("=/run/qpud-jobs", f"={folder}/jobs/$SLURMD_NODENAME")
    cache = f"SHIV_ROOT={folder}/out/cache.$(id -u)\nexport SHIV_ROOT\n"
    hooks.write_text(newcomer.here(text) + cache)
    common = (pieces / "common.sh").read_text()
    (pieces / "common.sh").write_text(common.replace("/etc/qpud/", f"{folder}/etc/qpud/"))
    (folder / "job_submit.lua").write_text((pieces / "job_submit.lua").read_text())
    (folder / "plugstack.conf").write_text((folder / "etc/slurm/plugstack.conf").read_text())
    (folder / "sequence.json").write_text(SEQUENCE.read_text())
    with (folder / "slurm.conf").open("a") as conf:
        conf.write(newcomer.slurm() + "\n")
    return newcomer, site


def test_the_readme_leads_to_a_first_users_job(pyz: Path, worker_python: Path) -> None:
    if not HEADER.exists():
        pytest.skip(f"no {HEADER}: apt-get install libslurm-dev gcc")
    laid: list[tuple[Newcomer, Site]] = []
    with munged.running(), running_cluster(prepare=lambda at: laid.append(lay(at, pyz, worker_python))) as cluster:
        newcomer, site = laid[0]
        site.start()
        try:
            qpud = f"{newcomer.folder}/usr/local/bin/qpud"
            env = {"SHIV_ROOT": f"{newcomer.folder}/out/cache.job"}
            command = f"{qpud} submit {newcomer.folder}/sequence.json --shots=100 --wait"
            here = (*command.split(), "--qpu=EMU_MPS", f"--url={site.url}")
            direct = cluster.run_as(USER, *here, env=env)
            site.stop()
            add_slurm(newcomer, site)
            site.start()
            outside = cluster.try_as(USER, *here, env=env)
            job = cluster.submit(command, "--qpu=EMU_MPS", "--export=ALL", env=env)
            assert cluster.wait(job, "COMPLETED", "FAILED", seconds=120) == "COMPLETED", cluster.output(job)
            (session,) = [one for one in site.get("/v1/sessions") if one["slurm_job_id"] == str(job)]
        finally:
            site.stop()
    assert "EMU_MPS" in direct
    assert "OpenSessions=admin" in outside.stderr
    assert session["user"] == USER
