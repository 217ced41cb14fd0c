"""`Launcher = slurm` on a real cluster: workers of an emulator are Slurm jobs, whatever becomes of node or daemon."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from qpud.site.srun import Srun
from tests.daemon.harness import Daemon, open_session
from tests.site.cluster import Cluster, until
from tests.worker.programs import atoms_apart, drive, sample

pytestmark = [pytest.mark.slurm, pytest.mark.worker]

PATIENCE = 120.0
QUICK = sample("valid_n04.json").sequence
POLICY = """
[qpud]
Listen = unix:{folder}/q.sock
StateSaveLocation = {folder}/state
WorkerPython = {python}
SlurmConf = {conf}
[queue development]
PriorityTier = 10
SliceSeconds = 1
[resource EMU]
Driver = emulator
Launcher = slurm
LauncherOptions = {options}
Workers = {workers}
WorkerIdleTime = {idle}
"""


def slow(number: int = 0) -> str:
    """A program that takes some 5 s on a quiet machine; each number is another one."""
    return atoms_apart(12, drive(6.0, -3.0 - number / 10, 20_000), distance=7.0).sequence


class Site(Daemon):
    """A daemon whose emulator's workers run on a cluster."""

    def write_policy(self, **changes: Any) -> None:
        self.values |= changes
        (self.folder / "qpud.conf").write_text(POLICY.format(**self.values))


@contextmanager
def a_site(cluster: Cluster, python: Path, **changes: Any) -> Iterator[tuple[Site, httpx.Client]]:
    values = {"conf": cluster.conf, "options": "-p development", "workers": 1, "idle": 120, **changes}
    with tempfile.TemporaryDirectory(prefix="qpud-", dir="/tmp") as folder:
        site = Site(Path(folder), python, **values)
        try:
            site.start()
            with site.client(seconds=PATIENCE) as client:
                yield site, client
        except BaseException:
            print(site.log.read_text()[-8000:])
            raise
        finally:
            if site.process is not None:
                site.end(seconds=PATIENCE)


def submit(client: httpx.Client, session: dict[str, str], sequence: str = QUICK, shots: int = 100) -> int:
    answer = client.post("/v1/jobs", json={"sequence": sequence, "shots": shots}, headers=session)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def job(client: httpx.Client, number: int) -> dict[str, Any]:
    answer = client.get(f"/v1/jobs/{number}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def explanation(client: httpx.Client, number: int) -> str:
    entries = client.get("/v1/queue").json()["queue"]
    return next((str(one["explanation"]) for one in entries if one["id"] == number), "")


def result(client: httpx.Client, number: int) -> dict[str, Any]:
    """The result of a job once it has ended."""
    until(lambda: job(client, number)["state"] in ("DONE", "ERROR", "CANCELED"), f"the end of job {number}", PATIENCE)
    found: dict[str, Any] = client.get(f"/v1/jobs/{number}/result").json()
    return found


def done(client: httpx.Client, number: int, shots: int = 100) -> dict[str, Any]:
    found = result(client, number)
    assert job(client, number)["state"] == "DONE", found
    assert sum(found["counts"].values()) == shots
    return found


def resource(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/info").json()["resources"][0]
    return found


def emulating(client: httpx.Client) -> list[dict[str, Any]]:
    """The workers that emulate a job now."""
    return [one for one in resource(client)["workers"] if one["job_id"] is not None]


def slurm_jobs(cluster: Cluster) -> list[str]:
    """State of each Slurm job of a qpud that has not ended."""
    rows = [row.split() for row in cluster.run("squeue", "-h", "-o", "%j %T %A").splitlines()]
    return [state for name, state, _ in rows if name.startswith("qpud-")]


def seen(holds: Callable[[], bool], what: str) -> None:
    until(holds, what, PATIENCE)


def test_a_job_runs_on_a_worker_that_is_started_for_it_and_cancelled_when_idle(
    cluster: Cluster, worker_python: Path
) -> None:
    with a_site(cluster, worker_python, idle=1) as (_, client):
        assert slurm_jobs(cluster) == []
        found = done(client, submit(client, open_session(client)))
        assert found["provenance"]["node"] in ("qn1", "qn2")
        assert found["provenance"]["slurm_job_id"].isdigit()
        seen(lambda: slurm_jobs(cluster) == [], "an idle worker to be cancelled")
        assert resource(client)["workers"] == []
        assert resource(client)["state"] == "up"


def test_several_workers_emulate_the_next_jobs_in_line_ahead(cluster: Cluster, worker_python: Path) -> None:
    with a_site(cluster, worker_python, workers=3) as (_, client):
        session = open_session(client)
        jobs = [submit(client, session, slow(number)) for number in range(3)]
        seen(lambda: sorted(one["job_id"] for one in emulating(client)) == jobs, "three workers at once")
        assert slurm_jobs(cluster) == ["RUNNING"] * 3
        assert [job(client, one)["state"] for one in jobs] == ["RUNNING", "PENDING", "PENDING"]
        assert "emulated on node qn" in explanation(client, jobs[1])
        results = [done(client, one) for one in jobs]
        started = [one["slices"][0]["started_at"] for one in results]
        assert started == sorted(started)
        assert len({one["provenance"]["slurm_job_id"] for one in results}) == 3
        assert all(one["qpu_seconds"] > 0.5 for one in results)  # each pays for its own emulation, ahead or not


def test_what_was_emulated_ahead_for_a_cancelled_job_is_thrown_away_and_charged_to_nobody(
    cluster: Cluster, worker_python: Path
) -> None:
    with a_site(cluster, worker_python, workers=2) as (_, client):
        session = open_session(client)
        first, second = (submit(client, session, slow(number)) for number in range(2))
        seen(lambda: len(emulating(client)) == 2, "two workers at once")
        assert client.delete(f"/v1/jobs/{second}").status_code == 200
        seen(lambda: [one["job_id"] for one in emulating(client)] == [first], "its worker to be free")
        assert result(client, second)["qpu_seconds"] == 0.0
        done(client, first)


def test_a_drained_resource_throws_away_what_was_emulated_ahead(cluster: Cluster, worker_python: Path) -> None:
    with a_site(cluster, worker_python, workers=2) as (_, client):
        session = open_session(client)
        first, second = (submit(client, session, slow(number)) for number in range(2))
        seen(lambda: len(emulating(client)) == 2, "two workers at once")
        assert client.post("/v1/resources/EMU/drain", json={"reason": "maintenance"}).status_code == 200
        done(client, first)
        seen(lambda: emulating(client) == [], "what is ahead to be thrown away")
        assert job(client, second)["reason"] == "ResourceDrained"
        assert client.post("/v1/resources/EMU/resume").status_code == 200
        done(client, second)


def test_a_job_says_that_its_worker_waits_for_slurm_and_pays_nothing_for_that(
    cluster: Cluster, worker_python: Path
) -> None:
    blocker = cluster.start("sleep 300", "-N2", "--exclusive")
    with a_site(cluster, worker_python) as (_, client):
        session = open_session(client)
        waiting = submit(client, session)
        seen(lambda: job(client, waiting)["reason"] == "Worker", "the reason Worker")
        seen(lambda: "PENDING (" in explanation(client, waiting), "Slurm's word")
        assert "waits: Slurm job" in explanation(client, waiting)
        assert "is to start a worker" in client.get(f"/v1/jobs/{waiting}/logs").text
        assert [one["state"] for one in resource(client)["workers"]] == ["PENDING"]
        withdrawn = submit(client, session)
        assert client.delete(f"/v1/jobs/{withdrawn}").status_code == 200
        assert result(client, withdrawn)["qpu_seconds"] == 0.0
        cluster.cancel(blocker)
        assert done(client, waiting)["qpu_seconds"] < 3.0


def test_a_job_that_is_cancelled_while_its_worker_waits_costs_nothing(cluster: Cluster, worker_python: Path) -> None:
    blocker = cluster.start("sleep 300", "-N2", "--exclusive")
    with a_site(cluster, worker_python, idle=1) as (_, client):
        waiting = submit(client, open_session(client))
        seen(lambda: slurm_jobs(cluster) == ["PENDING"], "a pending worker")
        assert client.delete(f"/v1/jobs/{waiting}").status_code == 200
        found = result(client, waiting)
        assert (job(client, waiting)["state"], found["qpu_seconds"]) == ("CANCELED", 0.0)
        seen(lambda: slurm_jobs(cluster) == [], "the pending worker to be withdrawn")
    cluster.cancel(blocker)


def scancelled(cluster: Cluster, worker: dict[str, Any]) -> None:
    cluster.run("scancel", worker["slurm_job_id"])


def without_its_node(cluster: Cluster, worker: dict[str, Any]) -> None:
    cluster.run("scontrol", "update", f"NodeName={worker['node']}", "State=DOWN", "Reason=test")


def without_its_step(_cluster: Cluster, worker: dict[str, Any]) -> None:
    """SIGKILL of what runs on the node: a crash of the worker."""
    wanted = f"SLURM_JOB_ID={worker['slurm_job_id']}".encode()
    for process in Path("/proc").iterdir():
        try:
            if wanted in (process / "environ").read_bytes() and b"main_on_node" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except (OSError, ValueError):
            continue


@pytest.mark.parametrize("loss", [scancelled, without_its_node, without_its_step])
def test_a_worker_lost_in_the_middle_of_a_slice_costs_nothing_but_a_retry(
    cluster: Cluster, worker_python: Path, loss: Callable[[Cluster, dict[str, Any]], None]
) -> None:
    with a_site(cluster, worker_python) as (_, client):
        number = submit(client, open_session(client), slow(), shots=300)
        seen(lambda: len(emulating(client)) == 1, "a worker that emulates")
        lost = emulating(client)[0]
        loss(cluster, lost)
        found = done(client, number, shots=300)
        assert found["provenance"]["slurm_job_id"] != lost["slurm_job_id"]
        (line,) = found["slices"]
        assert line["shots_done"] == 300
        assert found["qpu_seconds"] == pytest.approx(line["qpu_seconds"])
    cluster.attempt("scontrol", "update", "NodeName=qn[1-2]", "State=RESUME")
    cluster.wait_idle()


@pytest.mark.parametrize("is_pending", [False, True])
def test_a_killed_daemon_leaves_no_slurm_job(cluster: Cluster, worker_python: Path, is_pending: bool) -> None:
    blocker = cluster.start("sleep 300", "-N2", "--exclusive") if is_pending else None
    with a_site(cluster, worker_python) as (site, client):
        submit(client, open_session(client), slow())
        state = "PENDING" if is_pending else "RUNNING"
        seen(lambda: slurm_jobs(cluster) == [state], f"a {state} worker")
        if not is_pending:
            seen(lambda: len(emulating(client)) == 1, "a worker that emulates")
        site.end(signal.SIGKILL)
        seen(lambda: slurm_jobs(cluster) == [], "no Slurm job to be left")
    if blocker is not None:
        cluster.cancel(blocker)


@pytest.mark.parametrize("is_pending", [False, True])
def test_a_stopped_daemon_leaves_no_slurm_job(cluster: Cluster, worker_python: Path, is_pending: bool) -> None:
    blocker = cluster.start("sleep 300", "-N2", "--exclusive") if is_pending else None
    with a_site(cluster, worker_python) as (site, client):
        submit(client, open_session(client), slow())
        seen(lambda: slurm_jobs(cluster) == ["PENDING" if is_pending else "RUNNING"], "a worker")
        assert site.end(seconds=PATIENCE) == 0
        assert slurm_jobs(cluster) == []
    if blocker is not None:
        cluster.cancel(blocker)


def test_the_job_of_a_killed_daemon_is_emulated_again_after_the_restart(cluster: Cluster, worker_python: Path) -> None:
    with a_site(cluster, worker_python) as (site, client):
        number = submit(client, open_session(client), slow())
        seen(lambda: len(emulating(client)) == 1, "a worker that emulates")
        site.end(signal.SIGKILL)
        site.start()
        with site.client(seconds=PATIENCE) as again:
            done(again, number)


def test_what_an_earlier_life_left_is_cancelled_at_the_start_and_nothing_else(
    cluster: Cluster, worker_python: Path
) -> None:
    with a_site(cluster, worker_python) as (site, _):
        other = Srun(cluster.conf, Path("/another/daemon")).name("EMU", 1)
        left = Srun(cluster.conf, site.folder / "state").name("EMU", 1).replace("@", "@0")
        srun = ["srun", "-D", "/", "-n1"]
        running = [
            subprocess.Popen([*srun, "-J", name, "sleep", "300"], env=cluster.environment) for name in (other, left)
        ]
        try:
            seen(lambda: slurm_jobs(cluster) == ["RUNNING"] * 2, "two Slurm jobs")
            site.end(signal.SIGKILL)
            site.start()
            seen(lambda: cluster.run("squeue", "-h", "-o", "%j") == other, "the left one to be cancelled")
        finally:
            for process in running:
                process.terminate()
                process.wait(30)


def test_a_partition_that_does_not_exist_is_told_in_one_sentence_and_nothing_starts(
    cluster: Cluster, worker_python: Path
) -> None:
    with a_site(cluster, worker_python, options="-p gpu") as (_, client):
        number = submit(client, open_session(client))
        seen(lambda: resource(client)["state"] == "down", "the resource to be down")
        assert resource(client)["message"].startswith("no worker starts for EMU: invalid partition specified: gpu")
        seen(lambda: job(client, number)["reason"] == "ResourceDown", "the reason ResourceDown")
        assert "is down (no worker starts for EMU" in explanation(client, number)
        assert client.delete(f"/v1/jobs/{number}").status_code == 200
        assert result(client, number)["qpu_seconds"] == 0.0


def test_an_interpreter_that_the_node_lacks_is_told(cluster: Cluster, worker_python: Path) -> None:
    with a_site(cluster, worker_python, idle="120\nWorkerPython = /nowhere/python") as (_, client):
        submit(client, open_session(client))
        seen(lambda: "/nowhere/python: No such file" in resource(client)["message"], "the reason")


def test_while_slurm_is_away_the_daemon_answers_and_jobs_wait(cluster: Cluster, worker_python: Path) -> None:
    with a_site(cluster, worker_python) as (_, client):
        session = open_session(client)
        with cluster.down():
            number = submit(client, session)
            seen(lambda: resource(client)["state"] == "down", "the resource to be down")
            assert "Unable to contact slurm controller" in resource(client)["message"]
            assert client.get("/healthz").status_code == 200
        done(client, number)


def test_a_worker_that_ends_while_slurmctld_is_away_leaves_no_slurm_job(cluster: Cluster, worker_python: Path) -> None:
    with a_site(cluster, worker_python, idle=15) as (_, client):
        done(client, submit(client, open_session(client)))
        with cluster.down():
            assert resource(client)["workers"], "the worker was dismissed before slurmctld was away"
            seen(lambda: resource(client)["workers"] == [], "the idle worker to be dismissed")
        seen(lambda: slurm_jobs(cluster) == [], "its Slurm job to be cancelled")
