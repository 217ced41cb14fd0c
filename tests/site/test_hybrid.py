"""Three ways of sharing a QPU on a real cluster: packaging/slurm/examples, and a job that gives nodes back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.site.cluster import USER, until
from tests.site.hooked import PIECES, Hooked, running_hooked

pytestmark = [pytest.mark.slurm, pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]
PATIENCE = 90.0
POLICY = "SlurmControl = yes\n"
SPEED = {"SpeedUp = 1000": "SpeedUp = 10"}
"""Ten shots a second: slow enough for nodes to idle meanwhile."""


@pytest.fixture(scope="module")
def hooked_of_the_module(pyz: Path, worker_python: Path) -> Iterator[Hooked]:
    with running_hooked(pyz, worker_python, policy=POLICY, changes=SPEED) as running:
        yield running


@pytest.fixture
def hooked(hooked_of_the_module: Hooked) -> Iterator[Hooked]:
    """All of it, without jobs."""
    yield hooked_of_the_module
    hooked_of_the_module.cluster.cancel_all()
    hooked_of_the_module.cluster.wait_idle()


@pytest.fixture
def examples(hooked: Hooked) -> Iterator[Path]:
    """A copy of the examples that their user may write into."""
    folder = hooked.folder / "out" / "examples"
    shutil.copytree(PIECES / "examples", folder)
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def environment(hooked: Hooked, **more: str) -> dict[str, str]:
    return {"PATH": f"{hooked.folder}:/usr/local/bin:/usr/bin:/bin", **more}


def job_of_the_qpu(hooked: Hooked, number: int) -> dict[str, Any]:
    found: dict[str, Any] = hooked.site.get(f"/v1/jobs/{number}")
    return found


def test_the_three_examples_find_the_same_and_hold_less_the_less_they_wait(hooked: Hooked, examples: Path) -> None:
    printed = hooked.cluster.run_as(
        USER,
        *("sh", "-c", f"cd {examples} && python3 compare.py 100"),
        env=environment(hooked),
        seconds=300,
    )
    print(printed)
    rows = {line.split()[0]: line.split() for line in printed.splitlines()[1:]}
    held = {way: float(row[1]) for way, row in rows.items()}
    assert {" ".join(row[3:]) for row in rows.values()} == {"pattern 101010101"}
    assert held["workflow"] < held["malleable"] < held["time_multiplexed"]


def test_a_job_that_waits_gives_a_node_back_and_goes_on_with_the_other(hooked: Hooked) -> None:
    submit = f"qpud submit {hooked.folder}/sequence.json --shots=60 --json"
    body = f"""
job=$({submit} | /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
nodes=$(qpud wait --yield-nodes $job 2>&3) || exit
eval "$nodes"
echo "now $SLURM_NNODES $SLURM_JOB_NODELIST"
srun sh -c 'echo "step on $SLURMD_NODENAME"'
qpud result $job --json"""
    job = hooked.cluster.submit(
        f"exec 3>&1\n{body}", "--qpu=FRESNEL", "-N2", "--qpu-hint=cc-heavy", env=environment(hooked)
    )
    (session,) = hooked.open_sessions(job)
    assert session["nodes"] == 2
    until(lambda: hooked.sessions(job)[0]["nodes"] == 1, "the session to have one node", PATIENCE)
    left = hooked.folder / "jobs" / "qn2" / str(job)
    until(lambda: not left.exists(), "the token on the node that left to be gone", PATIENCE)
    assert (hooked.folder / "jobs" / "qn1" / str(job) / "token").exists()
    assert hooked.cluster.wait(job, "COMPLETED", "FAILED", seconds=PATIENCE) == "COMPLETED"
    written = hooked.written(job)
    assert f"qpud: Slurm job {job} gave 1 node of 2 back and goes on with qn1" in written
    assert "now 1 qn1\nstep on qn1\n" in written
    assert sum(json.loads(written[written.index("{\n") :])["counts"].values()) == 60
    hooked.expect_nothing_left(job)


def test_a_node_on_which_a_step_runs_is_not_given_back(hooked: Hooked) -> None:
    body = f"""
srun -N2 -n2 sleep 300 &
until squeue --noheader --steps --jobs=$SLURM_JOB_ID --format=%i | grep -q '[.]0$'; do sleep 0.1; done
job=$(qpud submit {hooked.folder}/sequence.json --shots=10 --json |
    /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
echo "stdout '$(qpud wait --yield-nodes $job 2>&3)'"
echo "nodes $(squeue --noheader --jobs=$SLURM_JOB_ID --format=%D)"
"""
    job = hooked.cluster.submit(f"exec 3>&1\n{body}", "--qpu=FRESNEL", "-N2", env=environment(hooked))
    until(lambda: "nodes 2" in hooked.written(job), "the job to go on with both nodes", PATIENCE)
    assert f"Slurm job {job} keeps its nodes while it waits: step {job}.0 still runs" in hooked.written(job)
    assert "stdout ''" in hooked.written(job)


def test_where_slurm_shrinks_no_job_it_waits_all_the_same_and_says_why(hooked: Hooked) -> None:
    text = hooked.cluster.conf.read_text()
    body = f"""
job=$(qpud submit {hooked.folder}/sequence.json --shots=10 --json |
    /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
echo "stdout '$(qpud wait --yield-nodes $job 2>&1)' $?"
qpud result $job | head -1
"""
    with hooked.replaced("slurm.conf", text.replace("bf_interval=1,", "bf_interval=1,disable_job_shrink,")):
        hooked.cluster.run("scontrol", "reconfigure")
        written = hooked.run_to_the_end(body, "--qpu=FRESNEL", "-N2", env=environment(hooked))
    hooked.cluster.run("scontrol", "reconfigure")
    assert "keeps its nodes while it waits: scontrol says Requested operation not supported" in written
    assert "DONE: 10 of 10 shots" in written


def test_a_later_job_fetches_the_result_with_nothing_but_what_the_hooks_set(hooked: Hooked) -> None:
    fetch = f'until [ -s "{hooked.folder}/out/$SLURM_JOB_ID.job" ]; do sleep 0.1; done\n'
    fetch += f'qpud result "$(cat {hooked.folder}/out/$SLURM_JOB_ID.job)" --json'
    held = hooked.cluster.submit(fetch, "--hold", "--qpu=EMU_MPS", env=environment(hooked))
    body = f"""
qpud submit {hooked.folder}/sequence.json --shots=40 --then-release={held} --json |
    /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])' >{hooked.folder}/out/{held}.job
cat {hooked.folder}/out/{held}.job"""
    number = int(hooked.run_to_the_end(body, "--qpu=FRESNEL", env=environment(hooked)).split()[-1])
    assert hooked.cluster.wait(held, "COMPLETED", "FAILED", seconds=PATIENCE) == "COMPLETED"
    result = json.loads(hooked.written(held))
    assert (result["job"]["id"], sum(result["counts"].values())) == (number, 40)
    assert job_of_the_qpu(hooked, number)["state"] == "DONE"
