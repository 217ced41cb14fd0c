"""However a Slurm job ends, nothing of it stays open: what test_hooks.py does not show, with the hooks installed."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.conformance import munged
from tests.site.cluster import STRANGER, Cluster, until
from tests.site.hooked import Hooked

pytestmark = [pytest.mark.slurm, pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]
DEAD_SECONDS = 90.0
"""SlurmdTimeout is 10 s, and slurmctld takes up to 20 s more."""
SLEEP = "echo $PPID; sleep 300"
"""The parent of a batch script is its slurmstepd."""


def running_alone_on_qn1(hooked: Hooked) -> tuple[int, int]:
    """A job with an open session on the first node, and the pid of its slurmstepd."""
    job = hooked.cluster.start(SLEEP, "--qpu=FRESNEL", "-w", "qn1", "--no-requeue")
    hooked.open_sessions(job)
    until(lambda: hooked.written(job).strip().isdigit(), "the pid of slurmstepd")
    step = int(hooked.written(job))
    with open(f"/proc/{step}/cmdline", encoding="utf-8") as line:
        assert line.read().startswith(f"slurmstepd: [{job}.")
    return job, step


def slurmd_start(cluster: Cluster) -> str:
    """When the first node's slurmd began, in Slurm's words."""
    (line,) = [one for one in cluster.run("scontrol", "show", "node", "qn1").splitlines() if "SlurmdStartTime" in one]
    return line.strip()


def test_a_preempted_job_leaves_no_session_and_gets_another_when_it_runs_again(hooked: Hooked) -> None:
    cluster = hooked.cluster
    whole = ("-N2", "--exclusive", "--qpu=FRESNEL")
    low = cluster.start("sleep 300", *whole, "-p", "development", "--requeue")
    (before,) = hooked.open_sessions(low)
    high = cluster.start("sleep 300", *whole, "-p", "production", user=STRANGER)
    assert cluster.wait(low, "PENDING") == "PENDING"
    hooked.expect_nothing_left(low)
    assert hooked.open_sessions(high)[0]["queue"] == "production"
    cluster.cancel(high)
    until(lambda: [one["id"] for one in hooked.sessions(low)] not in ([], [before["id"]]), "another session", 60)
    assert len(hooked.sessions(low)) == 1
    cluster.cancel(low)
    hooked.expect_nothing_left(low)


def test_a_node_that_dies_with_all_its_processes_leaves_no_session(hooked: Hooked) -> None:
    cluster = hooked.cluster
    job, step = running_alone_on_qn1(hooked)
    cluster.kill_node("qn1")
    os.kill(step, signal.SIGKILL)
    cluster.kill_processes(job)
    try:
        cluster.wait(job, "NODE_FAIL", seconds=DEAD_SECONDS)
        hooked.open_sessions(job, 0)
    finally:
        cluster.start_node("qn1")
        cluster.wait_idle()


def test_a_killed_slurmd_that_comes_back_closes_nothing(hooked: Hooked) -> None:
    cluster = hooked.cluster
    job, _ = running_alone_on_qn1(hooked)
    (session,) = hooked.sessions(job)
    before = slurmd_start(cluster)
    cluster.kill_node("qn1")
    cluster.start_node("qn1")
    until(lambda: slurmd_start(cluster) != before, "the new slurmd", 60)
    assert cluster.state(job) == "RUNNING"
    assert [one["id"] for one in hooked.sessions(job)] == [session["id"]]
    cluster.cancel(job)
    hooked.expect_nothing_left(job)


def test_a_killed_slurmstepd_leaves_no_session_after_the_time_limit(hooked: Hooked) -> None:
    cluster = hooked.cluster
    job, step = running_alone_on_qn1(hooked)
    os.kill(step, signal.SIGKILL)
    try:
        cluster.run("scontrol", "update", f"JobId={job}", "EndTime=now+1")
        cluster.wait(job, "TIMEOUT", "FAILED", "NODE_FAIL", "CANCELLED", seconds=120)
        hooked.expect_nothing_left(job)
    finally:
        cluster.kill_processes(job)


def test_a_foreign_jobs_number_opens_nothing_by_munge(hooked: Hooked) -> None:
    job = hooked.cluster.start("sleep 300", "--qpu=FRESNEL", "-p", "production", "-L", "qpu:9")
    (session,) = hooked.open_sessions(job)
    ask = (f"{hooked.folder}/qpud", "slurm", "token", f"--url={hooked.site.url}", f"--slurm-job={job}")
    refused = hooked.cluster.try_as(STRANGER, *ask)
    assert refused.returncode != 0
    assert f"Slurm job {job} is no job of user {STRANGER}" in refused.stderr
    assert not refused.stdout
    assert hooked.sessions(job) == [session]


def test_what_a_stranger_tells_qrmi_of_a_foreign_job_opens_nothing(hooked: Hooked) -> None:
    job = hooked.cluster.start("sleep 300", "--qpu=FRESNEL", "-p", "production")
    (session,) = hooked.open_sessions(job)
    owner = session["user_id"]
    games = 5
    for claimed in (owner, games):
        for name in (str(job), f"{job}.run-1"):
            with hooked.site.tcp(**{"X-Munge-Cred": munged.credential(games)}) as client:
                body = {"user_id": str(claimed), "scheduler_job_id": name}
                answer = client.post("/sessions", json=body)
            assert answer.status_code == 403, answer.text
    assert hooked.sessions(job) == [session]
    with hooked.site.tcp(**{"X-Munge-Cred": munged.credential(games), "X-Warden-Session": session["id"]}) as client:
        text = (hooked.folder / "sequence.json").read_text()
        answer = client.post("/jobs", json={"sequence": text, "shots": 1})
    assert answer.status_code == 403, answer.text
    assert json.loads(answer.text)["detail"]
