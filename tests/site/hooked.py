"""A real cluster with the hooks, options and job_submit.lua of packaging/slurm, and a real daemon from the zipapp."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conformance import munged
from tests.conformance.livesite import EMULATED, SIMULATED, Site
from tests.site.cluster import NODES, Cluster, require_slurm, running_cluster, until

ROOT = Path(__file__).resolve().parents[2]
PIECES = ROOT / "packaging" / "slurm"
SEQUENCE = ROOT / "tests" / "worker" / "samples" / "valid_n04.json"
HEADER = Path("/usr/include/slurm/spank.h")
SLOW = """\
[resource ORION]
Driver = simulated
Device = AnalogDevice
SpeedUp = 40
MaxAtoms = 12
"""
"""A QPU whose slices take half a second: long enough for others to come meanwhile."""
QPUS = '{ "FRESNEL", "ORION", "EMU_MPS" }'
WITHOUT_LICENCE = '{ "EMU_MPS" }'
SLURM_CONF = (
    "PrologFlags=Alloc",
    "Prolog={folder}/hooks/prolog.sh",
    "Epilog={folder}/hooks/epilog.sh",
    "TaskProlog={folder}/hooks/task_prolog.sh",
    "EpilogSlurmctld={folder}/hooks/epilog_slurmctld.sh",
    "JobSubmitPlugins=lua",
    "AuthInfo=socket={folder}/munge/sock,cred_expire=5",  # a requeued job waits for so long, else for two minutes
)
DAEMON = """\
ValidationWait = 20
DefaultResource = FRESNEL
AdminUsers = root, slurm
SocketGroup = slurm
SlurmLookup = yes
SlurmConf = {folder}/slurm.conf
"""
# Two slurmd share this host, so that each needs a folder of its own.
HOOKS_CONF = """\
QPUD={folder}/qpud
QPUD_SOCKET={socket}
QPUD_URL={url}
QPUD_JOBS={folder}/jobs/$SLURMD_NODENAME
QPUD_PARTITIONS="production"
QPUD_LICENCE=qpu
QPUD_PATIENCE=30
"""
# Everybody unpacks into a folder of this test's own.
QPUD = """\
#!/bin/sh
SHIV_ROOT={folder}/out/cache.$(id -u)
export SHIV_ROOT
exec {folder}/qpud.pyz "$@"
"""


class Slice(NamedTuple):
    """One slice, as the daemon's database has it."""

    user: str
    queue: str
    job: int
    started_at: float
    shots: int


class Hooked:
    """The cluster, the daemon, and what the hooks leave."""

    def __init__(self, cluster: Cluster, site: Site) -> None:
        self.cluster = cluster
        self.site = site
        self.folder = cluster.folder
        self.submit_command = self.submitting(10)

    def submitting(self, shots: int) -> str:
        """The command line of a job script that runs shots and waits for them."""
        return f"{self.folder}/qpud submit {self.folder}/sequence.json --shots {shots} --wait"

    def sessions(self, job: int) -> list[dict[str, Any]]:
        """Open sessions of a Slurm job."""
        found: list[dict[str, Any]] = self.site.get("/v1/sessions", active="true")
        return [one for one in found if str(one["slurm_job_id"]).split(".")[0] == str(job)]

    def open_sessions(self, job: int, number: int = 1) -> list[dict[str, Any]]:
        """The same, waited for: Slurm says RUNNING while the Prolog still runs."""
        until(lambda: len(self.sessions(job)) == number, f"{number} sessions of job {job}")
        return self.sessions(job)

    def written(self, job: int) -> str:
        """What a job wrote so far."""
        path = self.folder / "out" / f"{job}.txt"
        return path.read_text() if path.exists() else ""

    def token_files(self, job: int) -> list[Path]:
        """What lies on the nodes for a Slurm job."""
        return [path for node in NODES for path in (self.folder / "jobs" / node / str(job)).glob("*")]

    def slices(self, *jobs: int) -> list[Slice]:
        """Every slice of the sessions of Slurm jobs that has ended, in the order of their starts."""
        found = self._rows(
            "SELECT sessions.slurm_job_id, sessions.user, jobs.queue, jobs.id, slices.started_at, slices.shots_done"
            " FROM slices JOIN jobs ON jobs.id = job_id JOIN sessions ON sessions.id = session_id"
            " WHERE slices.ended_at IS NOT NULL ORDER BY slices.started_at"
        )
        names = {str(job) for job in jobs}
        return [Slice(*row[1:]) for row in found if row[0] in names]

    def times(self, job: int) -> tuple[float, float]:
        """When the only qpud job of a Slurm job was accepted, and when it ended."""
        rows = self._rows(
            "SELECT submitted_at, jobs.ended_at, slurm_job_id FROM jobs JOIN sessions ON sessions.id = session_id"
        )
        (found,) = [row[:2] for row in rows if row[2] == str(job)]
        return found[0], found[1]

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        path = self.site.folder / "state" / "state.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()

    @property
    def hooks_conf(self) -> str:
        return (self.folder / "hooks" / "slurm-hooks.conf").read_text()

    @contextlib.contextmanager
    def replaced(self, name: str, text: str) -> Iterator[None]:
        """One of the pieces has another text for a while."""
        path = self.folder / name
        before = path.read_text()
        path.write_text(text)
        try:
            yield
        finally:
            path.write_text(before)

    def wait_warm(self) -> None:
        """Wait for what the workers tell once they have started; a job that comes earlier is told to come again."""
        with self.site.unix() as client:
            for name in ("FRESNEL", "ORION", "EMU_MPS"):
                until(lambda name=name: client.get(f"/r/{name}/qpu/specs").status_code == 200, f"specs of {name}", 120)  # type: ignore[misc]

    def tokens(self) -> int:
        """How many tokens all open sessions have."""
        return int(self._rows("SELECT count(*) FROM tokens")[0][0])

    def run_to_the_end(self, body: str, *options: str, env: Mapping[str, str] | None = None) -> str:
        """Submit, wait for COMPLETED; what it wrote."""
        job = self.cluster.submit(body, *options, env=env)
        state = self.cluster.wait(job, "COMPLETED", "FAILED")
        assert state == "COMPLETED", self.cluster.output(job)
        return self.cluster.output(job)

    def expect_nothing_left(self, job: int) -> None:
        """No session and no token file, within seconds."""
        until(lambda: not self.sessions(job) and not self.token_files(job), f"nothing to be left of job {job}")

    def node_states(self) -> set[str]:
        return set(self.cluster.run("sinfo", "-h", "-N", "-o", "%T").split())


@contextlib.contextmanager
def running_hooked(
    pyz: Path, worker_python: Path, *, policy: str = "", changes: Mapping[str, str] | None = None
) -> Iterator[Hooked]:
    """All of it; skips where Slurm, its headers or munge are missing.

    Args:
        pyz: The zipapp.
        worker_python: The interpreter that has Pulser.
        policy: More of the section [qpud].
        changes: Texts of the resources' sections, and what stands there instead.
    """
    require_slurm()
    if not HEADER.exists():
        pytest.skip(f"no {HEADER}: apt-get install libslurm-dev gcc")
    with contextlib.ExitStack() as stack:
        started: list[Site] = []

        def prepare(folder: Path) -> None:
            started.append(_prepare(folder, pyz, worker_python, policy, changes or {}))

        try:
            stack.enter_context(munged.running())
        except munged.NoMunge as why:
            pytest.skip(str(why))
        cluster = stack.enter_context(running_cluster(*SLURM_CONF, prepare=prepare))
        stack.callback(started[0].stop)
        started[0].start()
        running = Hooked(cluster, started[0])
        running.wait_warm()
        yield running


def _prepare(folder: Path, pyz: Path, worker_python: Path, policy: str, changes: Mapping[str, str]) -> Site:
    resources = SIMULATED + SLOW + EMULATED
    for before, after in changes.items():
        assert before in resources
        resources = resources.replace(before, after)
    site = Site([str(pyz)], folder / "site", worker_python, resources, DAEMON.format(folder=folder) + policy)
    values = {"folder": folder, "socket": site.folder / "qpud.sock", "url": site.url}
    shutil.copytree(PIECES, folder / "hooks")
    common = folder / "hooks" / "common.sh"
    common.write_text(
        common.read_text().replace("/etc/qpud/", f"{folder}/hooks/")
    )  # not this machine's, if it has one
    (folder / "hooks" / "slurm-hooks.conf").write_text(HOOKS_CONF.format(**values))
    shutil.copy(pyz, folder / "qpud.pyz")
    shutil.copy(SEQUENCE, folder / "sequence.json")
    (folder / "qpud").write_text(QPUD.format(**values))
    for path in (folder / "qpud", folder / "qpud.pyz"):
        path.chmod(0o755)
    subprocess.run(["make", "--silent", "spank"], cwd=ROOT, check=True, timeout=60)
    shutil.copy(ROOT / "dist" / "qpud_spank.so", folder)
    (folder / "plugstack.conf").write_text(f"optional {folder}/qpud_spank.so\n")
    rules = (PIECES / "job_submit.lua").read_text()
    for name, names in (("QPUS", QPUS), ("WITHOUT_LICENCE", WITHOUT_LICENCE)):
        assert f"local {name} = {{}}" in rules
        rules = rules.replace(f"local {name} = {{}}", f"local {name} = {names}")
    (folder / "job_submit.lua").write_text(rules)
    return site
