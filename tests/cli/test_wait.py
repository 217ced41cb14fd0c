"""wait: exit codes, and what it asks of Slurm with --yield-nodes. Slurm's commands stand in as scripts that record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_jobs import DONE, ERROR, RUNNING, job, plain

SQUEUE = """#!/bin/sh
case "$*" in *--steps*) cat "{folder}/steps" ;; *) cat "{folder}/nodes" ;; esac
"""
SCONTROL = """#!/bin/sh
echo "$*" >>"{folder}/told"
[ ! -e "{folder}/refuses" ] || {{ cat "{folder}/refuses" >&2; exit 1; }}
echo "42|RUNNING|1|qn1" >"{folder}/nodes"
{script}
"""
SCRIPT = """cat >slurm_job_42_resize.sh <<'END'
export SLURM_JOB_NODELIST="qn1"
export SLURM_NNODES=1
unset SLURM_NTASKS
rm -rf /
END"""


class FakeSlurm:
    """squeue and scontrol of a job 42 on qn[1-2]."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "nodes").write_text("42|RUNNING|2|qn[1-2]\n")
        (folder / "steps").write_text("42.batch\n")
        self.program("squeue", SQUEUE.format(folder=folder))
        self.program("scontrol", SCONTROL.format(folder=folder, script=SCRIPT))
        self.environment = {"SLURM_JOB_ID": "42", "PATH": f"{folder}:/usr/bin:/bin"}

    def program(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    @property
    def told(self) -> str:
        path = self.folder / "told"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    folder = tmp_path / "slurm"
    folder.mkdir()
    return FakeSlurm(folder)


def wait_in_slurm(qpud: Any, slurm: FakeSlurm, *more: str) -> Any:
    return qpud("wait", "--yield-nodes", "7", *more, **slurm.environment)


def ends(daemon: Any) -> None:
    """Job 7 runs when it is first asked for, and is then done."""
    daemon.on("GET", "/v1/jobs/7", plain(job(state=RUNNING)), plain(job(state=DONE, shots_done=100)))
    daemon.on("GET", "/v1/sessions", [{"id": "s-1"}])
    daemon.on("POST", "/v1/sessions/s-1/renew", {"id": "s-1"})


def test_waiting_ends_with_the_last_of_the_jobs(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/jobs/7", plain(job(state=RUNNING)), plain(job(state=DONE, shots_done=100)))
    daemon.on("GET", "/v1/jobs/8", plain(job(id=8, state=DONE, shots_done=100)))
    ended = qpud("wait", "7", "8")
    assert ended.returncode == 0
    assert ended.stdout.splitlines() == [f"job {one} DONE: 100 of 100 shots on FRESNEL" for one in (7, 8)]


def test_waiting_for_a_job_that_fails_says_so_and_exits_1(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/jobs/7", plain(job(state=ERROR)))
    ended = qpud("wait", "7")
    assert ended.returncode == 1
    assert "job 7 ERROR: 0 of 100 shots on FRESNEL: see `qpud show 7`" in ended.stderr


def test_waiting_in_vain_exits_6_and_for_no_job_5(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/jobs/7", plain(job(state=RUNNING)))
    assert qpud("wait", "7", "--timeout", "0.1").returncode == 6
    assert qpud("wait", "9").returncode == 5


def test_the_slurm_job_gives_its_nodes_back_and_the_shell_and_the_daemon_learn_of_it(
    qpud: Any, daemon: Any, slurm: FakeSlurm
) -> None:
    ends(daemon)
    ended = wait_in_slurm(qpud, slurm)
    assert ended.returncode == 0
    assert slurm.told == "update JobId=42 NumNodes=1\n", ended.stderr
    assert ended.stdout == 'export SLURM_JOB_NODELIST="qn1"\nexport SLURM_NNODES=1\nunset SLURM_NTASKS\n'
    assert "Slurm job 42 gave 1 node of 2 back and goes on with qn1" in ended.stderr
    assert [one.query for one in daemon.requests("GET", "/v1/sessions")] == ["slurm_job_id=42&active=true"]
    assert len(daemon.requests("POST", "/v1/sessions/s-1/renew")) == 1


def test_where_slurm_writes_no_script_the_shell_learns_the_same(qpud: Any, daemon: Any, slurm: FakeSlurm) -> None:
    ends(daemon)
    slurm.program("scontrol", SCONTROL.format(folder=slurm.folder, script=""))
    written = wait_in_slurm(qpud, slurm).stdout.splitlines()
    assert 'export SLURM_JOB_NODELIST="qn1"' in written
    assert {"export SLURM_NNODES=1", "export SLURM_JOB_NUM_NODES=1", "unset SLURM_NTASKS"} <= set(written)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("refuses", "slurm_update error: not supported", "scontrol says slurm_update error: not supported"),
        ("nodes", "42|RUNNING|1|qn1", "it has 1 node, qn1, and is to keep 1"),
        ("nodes", "43|RUNNING|2|qn[1-2]", "Slurm does not show it as running"),
        ("steps", "42.batch\n42.3\n", "step 42.3 still runs, and would be killed"),
    ],
)
def test_where_no_node_can_go_it_waits_all_the_same_and_says_why(
    qpud: Any, daemon: Any, slurm: FakeSlurm, name: str, text: str, why: str
) -> None:
    ends(daemon)
    (slurm.folder / name).write_text(text)
    ended = wait_in_slurm(qpud, slurm)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert f"Slurm job 42 keeps its nodes while it waits: {why}" in ended.stderr
    assert not daemon.requests("GET", "/v1/sessions")


def test_outside_slurm_it_only_waits(qpud: Any, daemon: Any) -> None:
    ends(daemon)
    ended = qpud("wait", "--yield-nodes", "7")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "this runs in no Slurm job" in ended.stderr


def test_a_job_that_has_ended_already_gives_nothing_back(qpud: Any, daemon: Any, slurm: FakeSlurm) -> None:
    daemon.on("GET", "/v1/jobs/7", plain(job(state=DONE)))
    assert wait_in_slurm(qpud, slurm).returncode == 0
    assert not slurm.told
