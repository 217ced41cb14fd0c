"""sbatch --qpu on a real cluster: what the options, job_submit.lua and the hooks of packaging/slurm do."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.conformance import venvs
from tests.site.cluster import STRANGER, USER, until
from tests.site.hooked import ROOT, Hooked

pytestmark = [pytest.mark.slurm, pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]
PRINT_FILE = 'printf "%s" "$QPUD_TOKEN_FILE"'


def test_a_job_submits_with_nothing_but_what_the_hooks_set(hooked: Hooked) -> None:
    written = hooked.run_to_the_end(f"env; {hooked.submit_command} --json", "--qpu=FRESNEL")
    result = json.loads(written[written.index("\n{") :])
    assert sum(result["counts"].values()) == 10
    assert "QPUD_TOKEN_FILE=" in written


def test_no_token_is_in_the_environment_of_a_job(hooked: Hooked) -> None:
    written = hooked.run_to_the_end('cat "$QPUD_TOKEN_FILE"; env', "--qpu=FRESNEL,EMU_MPS")
    token, _, environment = written.partition("\n")
    assert token.startswith("qpud_")
    assert token not in environment
    assert "QRMI_JOB_QPU_RESOURCES=FRESNEL,EMU_MPS\n" in environment


def test_the_jobs_of_a_slurm_job_belong_to_its_session(hooked: Hooked) -> None:
    job = hooked.cluster.start(f"{hooked.submit_command}; sleep 300", "--qpu=FRESNEL", "--qpu-hint=qc-heavy")
    (session,) = hooked.open_sessions(job)
    until(lambda: "FRESNEL" in hooked.written(job), "the result")
    assert (session["user"], session["hint"]) == (USER, "qc-heavy")
    assert len(hooked.site.get("/v1/jobs", session=session["id"])["jobs"]) == 1


@pytest.mark.client
@pytest.mark.parametrize("step", ["", "srun "])
def test_the_released_qrmi_client_runs_with_nothing_but_what_the_hooks_set(hooked: Hooked, step: str) -> None:
    python = venvs.python_of("qrmi")
    script = ROOT / "tests" / "conformance" / "scripts" / "qrmi_task.py"
    body = f"printf '%s\\n' \"$FRESNEL_QRMI_JOB_ACQUISITION_TOKEN\"; {step}{python} -B {script} FRESNEL 20"
    written = hooked.run_to_the_end(f"{body} <{hooked.folder}/sequence.json", "--qpu=FRESNEL")
    given, seen = written.splitlines()[0], json.loads(written.splitlines()[-1])
    assert seen["session"] == given
    assert sum(seen["counter"].values()) == 20


def test_another_user_can_neither_read_the_token_nor_list_the_folders(hooked: Hooked) -> None:
    job = hooked.cluster.start(f"{PRINT_FILE}; sleep 300", "--qpu=FRESNEL")
    until(lambda: hooked.written(job).endswith("/token"), "the path of the token")
    token = Path(hooked.cluster.output(job))
    assert hooked.cluster.run_as(USER, "cat", str(token)).startswith("qpud_")
    for command in (
        ["cat", token],
        ["ls", token.parent],
        ["ls", token.parent.parent],
        ["cat", token.parent / "session"],
    ):
        refused = hooked.cluster.try_as(STRANGER, *map(str, command))
        assert "Permission denied" in refused.stderr
    assert hooked.cluster.try_as(USER, "rm", "-f", str(token)).returncode != 0


def test_each_node_of_a_job_has_a_token_and_loses_it(hooked: Hooked) -> None:
    body = "srun -N2 -n2 sh -c 'cat $QPUD_TOKEN_FILE'; sleep 300"
    job = hooked.cluster.start(body, "--qpu=FRESNEL", "-N2")
    until(lambda: hooked.written(job).count("qpud_") == 2, "two tokens")
    assert len(hooked.sessions(job)) == 1
    hooked.cluster.cancel(job)
    hooked.expect_nothing_left(job)


@pytest.mark.parametrize("command", [["srun"], ["salloc", "srun"]])
def test_srun_and_salloc_take_the_options(hooked: Hooked, command: list[str]) -> None:
    first, *then = command
    printed = hooked.cluster.run_as(
        USER, first, "--qpu=EMU_MPS", *then, "sh", "-c", 'echo "$QPUD_QPU"; cat $QPUD_TOKEN_FILE'
    )
    assert printed.startswith("EMU_MPS\nqpud_")


def test_a_comment_asks_too(hooked: Hooked) -> None:
    job = hooked.cluster.start("sleep 300", "--comment=qpud:qpu=EMU_MPS,hint=cc-heavy")
    assert hooked.open_sessions(job)[0]["hint"] == "cc-heavy"


def test_a_job_of_a_listed_partition_needs_the_licence_only(hooked: Hooked) -> None:
    job = hooked.cluster.start("sleep 300", "-p", "production", "-L", "qpu:3")
    (session,) = hooked.open_sessions(job)
    assert (session["queue"], session["share"]) == ("production", 3)


def test_without_plugin_and_hooks_the_licences_are_the_share_all_the_same(hooked: Hooked) -> None:
    submit = f"{hooked.folder}/qpud submit {hooked.folder}/sequence.json --shots=10 --queue=production --share=9"
    job = hooked.cluster.start(f"{submit} --url={hooked.site.url}; sleep 300", "-p", "development", "-L", "qpu:3")
    (session,) = hooked.open_sessions(job)
    assert (session["user"], session["queue"], session["share"]) == (USER, "development", 3)
    hooked.cluster.cancel(job)
    hooked.expect_nothing_left(job)


def test_a_job_that_asks_for_no_qpu_gets_no_session(hooked: Hooked) -> None:
    job = hooked.cluster.start(f"{PRINT_FILE}; echo .; sleep 300", "-p", "development")
    until(lambda: hooked.written(job).endswith(".\n"), "the job's line")
    assert (hooked.sessions(job), hooked.token_files(job), hooked.written(job)) == ([], [], ".\n")


def test_a_job_submitted_from_a_job_does_not_inherit_its_token(hooked: Hooked) -> None:
    env = {"QPUD_TOKEN_FILE": "/run/qpud-jobs/1/token"}
    job = hooked.cluster.submit(PRINT_FILE, "-p", "development", env=env)
    hooked.cluster.wait(job, "COMPLETED")
    assert hooked.cluster.output(job) == ""


@pytest.mark.parametrize(
    ("options", "licences", "comment"),
    [
        (["--qpu=FRESNEL"], "qpu:1", "qpud qpu=FRESNEL share=1"),
        (["--qpu=FRESNEL", "--qpu-share=3", "--qpu-hint=qc-heavy"], "qpu:3", "qpud qpu=FRESNEL share=3 hint=qc-heavy"),
        (["--qpu=FRESNEL,EMU_MPS", "-L", "qpu:2"], "qpu:2", "qpud qpu=FRESNEL,EMU_MPS share=2"),
        (["--qpu=EMU_MPS"], "(null)", "qpud qpu=EMU_MPS share=1"),
        (["--qpu=EMU_MPS", "--qpu-share=3"], "qpu:3", "qpud qpu=EMU_MPS share=3"),
        (["--qpu=EMU_MPS,FRESNEL"], "qpu:1", "qpud qpu=EMU_MPS,FRESNEL share=1"),
    ],
)
def test_the_options_become_licences_and_an_admin_comment(
    hooked: Hooked, options: list[str], licences: str, comment: str
) -> None:
    job = str(hooked.cluster.submit("sleep 300", *options))
    shown = hooked.cluster.run("scontrol", "show", "job", job)
    assert hooked.cluster.run("squeue", "-h", "-j", job, "-o", "%W") == licences
    assert f"AdminComment={comment}" in [line.strip() for line in shown.splitlines()]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--qpu=FRESNL"], "there is no QPU FRESNL: there are FRESNEL, ORION, EMU_MPS"),
        (["--qpu=FRESNEL,"], "--qpu=FRESNEL, is not the name of a QPU, or several with commas"),
        (["--qpu=a b"], "--qpu=a b is not the name of a QPU, or several with commas"),
        (
            ["--qpu=FRESNEL", "--qpu-share=11"],
            "--qpu-share=11 is not a number of units from 1 to 10, which are the whole QPU",
        ),
        (
            ["--qpu=FRESNEL", "--qpu-share=x"],
            "--qpu-share=x is not a number of units from 1 to 10, which are the whole QPU",
        ),
        (["--qpu=FRESNEL", "--qpu-hint=fast"], "--qpu-hint=fast is not qc-heavy, cc-heavy or qc-balanced"),
        (["--qpu-share=2"], "--qpu-share and --qpu-hint need --qpu=NAME"),
        (
            ["--qpu=FRESNEL", "--qpu-share=2", "-L", "qpu:3"],
            "--qpu-share=2 and --licenses=qpu:3 differ: give one of them",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_submission_in_one_sentence(hooked: Hooked, options: list[str], why: str) -> None:
    refused = hooked.cluster.try_as(USER, "sbatch", *options, "--wrap=true")
    assert refused.returncode != 0
    assert [line.partition("qpud: ")[2] for line in refused.stderr.splitlines() if "qpud: " in line] == [why]
    assert not hooked.cluster.run("squeue", "-h")


def test_a_directive_in_the_script_does_what_the_option_does(hooked: Hooked) -> None:
    printed = hooked.run_to_the_end('#SBATCH --qpu=EMU_MPS\necho "$QPUD_QPU"')
    assert printed == "EMU_MPS\n"


def test_a_daemon_that_is_down_drains_no_node_and_fails_no_job(hooked: Hooked) -> None:
    hooked.site.stop()
    try:
        written = hooked.run_to_the_end(f"{hooked.folder}/qpud queue 2>&1 || echo $QPUD_QPU", "--qpu=FRESNEL")
        hooked.cluster.wait_idle()
    finally:
        hooked.site.start()
    assert "no qpud daemon answers" in written
    assert written.endswith("\nFRESNEL\n")
    assert hooked.node_states() == {"idle"}


def test_a_daemon_that_hangs_drains_no_node_and_fails_no_job(hooked: Hooked) -> None:
    with hooked.replaced("hooks/slurm-hooks.conf", hooked.hooks_conf.replace("QPUD_PATIENCE=30", "QPUD_PATIENCE=1")):
        os.kill(hooked.site.pid, signal.SIGSTOP)
        try:
            assert hooked.run_to_the_end("echo ran", "--qpu=FRESNEL") == "ran\n"
            hooked.cluster.wait_idle()
        finally:
            os.kill(hooked.site.pid, signal.SIGCONT)
    assert hooked.node_states() == {"idle"}


def test_a_broken_configuration_of_the_hooks_drains_no_node(hooked: Hooked) -> None:
    with hooked.replaced("hooks/slurm-hooks.conf", 'QPUD=("'):
        assert hooked.run_to_the_end("echo ran", "--qpu=FRESNEL") == "ran\n"
        hooked.cluster.wait_idle()
    assert hooked.node_states() == {"idle"}


@pytest.mark.parametrize("end", ["true", "exit 3", "kill -KILL $$"])
def test_nothing_is_left_after_a_job_that_ends_by_itself(hooked: Hooked, end: str) -> None:
    job = hooked.cluster.submit(end, "--qpu=FRESNEL")
    hooked.cluster.wait(job, "COMPLETED", "FAILED")
    hooked.expect_nothing_left(job)


def test_nothing_is_left_after_a_cancel_not_even_of_qpud_run_inside(hooked: Hooked) -> None:
    run = f"{hooked.folder}/qpud run --hint=qc-heavy -- sleep 300"
    job = hooked.cluster.start(run, "--qpu=FRESNEL", "--qpu-share=2")
    hooked.open_sessions(job, 2)
    hooked.cluster.cancel(job)
    hooked.expect_nothing_left(job)


def test_a_requeued_job_gets_a_session_of_its_own(hooked: Hooked) -> None:
    job = hooked.cluster.start("sleep 300", "--qpu=FRESNEL", "--requeue")
    (before,) = hooked.open_sessions(job)
    hooked.cluster.run("scontrol", "requeue", str(job))
    until(lambda: [one["id"] for one in hooked.sessions(job)] not in ([], [before["id"]]), "another session", 60)
    assert len(hooked.sessions(job)) == 1
    hooked.cluster.cancel(job)
    hooked.expect_nothing_left(job)


def test_nothing_is_left_after_the_time_limit(hooked: Hooked) -> None:
    job = hooked.cluster.start("sleep 300", "--qpu=FRESNEL", "--time=1")
    hooked.open_sessions(job)
    hooked.cluster.run("scontrol", "update", f"JobId={job}", "EndTime=now+1")
    hooked.cluster.wait(job, "TIMEOUT", seconds=120)
    hooked.expect_nothing_left(job)


def test_nothing_is_left_after_a_node_has_failed(hooked: Hooked) -> None:
    job = hooked.cluster.start("sleep 300", "--qpu=FRESNEL", "--no-requeue")
    hooked.open_sessions(job)
    node = hooked.cluster.run("squeue", "-h", "-j", str(job), "-o", "%N")
    hooked.cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    hooked.cluster.wait(job, "NODE_FAIL")
    hooked.expect_nothing_left(job)


@pytest.mark.parametrize("broken", ["epilog.sh", "epilog_slurmctld.sh"])
def test_each_of_the_two_epilogs_alone_closes_the_session(hooked: Hooked, broken: str) -> None:
    with hooked.replaced(f"hooks/{broken}", "#!/bin/sh\n"):
        job = hooked.cluster.start("sleep 300", "--qpu=FRESNEL", "-N2")
        (session,) = hooked.open_sessions(job)
        hooked.cluster.cancel(job)
        hooked.open_sessions(job, 0)
    closed = hooked.site.get(f"/v1/sessions/{session['id']}")
    assert closed["close_reason"] == "manual"  # not the daemon's sweep


def test_a_node_without_the_socket_does_it_all_by_munge(hooked: Hooked) -> None:
    with hooked.replaced(
        "hooks/slurm-hooks.conf", hooked.hooks_conf.replace("QPUD_SOCKET=", "QPUD_SOCKET=/nonexistent")
    ):
        job = hooked.cluster.submit(f"cat $QPUD_TOKEN_FILE; {hooked.submit_command}; sleep 300", "--qpu=FRESNEL")
        (session,) = hooked.open_sessions(job)
        until(lambda: "FRESNEL" in hooked.written(job), "the result")
        assert hooked.written(job).startswith("qpud_")
        assert len(hooked.site.get("/v1/jobs", session=session["id"])["jobs"]) == 1
        hooked.cluster.cancel(job)
        hooked.expect_nothing_left(job)


def test_tasks_that_start_together_on_a_node_without_the_socket_get_one_token(hooked: Hooked) -> None:
    with hooked.replaced(
        "hooks/slurm-hooks.conf", hooked.hooks_conf.replace("QPUD_SOCKET=", "QPUD_SOCKET=/nonexistent")
    ):
        body = "srun -n4 sh -c 'cat $QPUD_TOKEN_FILE'; sleep 300"
        job = hooked.cluster.start(body, "--qpu=FRESNEL", "-N2", "-n4")
        until(lambda: hooked.written(job).count("qpud_") == 4, "four tasks with a token")
        assert len(set(hooked.written(job).split())) == 2
        assert hooked.tokens() == 2
        hooked.cluster.cancel(job)
        hooked.expect_nothing_left(job)


@pytest.mark.client
def test_the_pulser_shim_runs_with_nothing_but_what_the_hooks_set(hooked: Hooked) -> None:
    script = hooked.folder / "out" / "shim.py"
    script.write_text(
        "import os; from qpud_pulser import QpudConnection\n"
        "print(*QpudConnection().fetch_available_devices(), 'QPUD_TOKEN' in os.environ)\n"
    )
    path = f"PYTHONPATH={ROOT / 'sdk_shims' / 'pulser'}"
    assert (
        hooked.run_to_the_end(f"{path} {venvs.python_of('qrmi')} -B {script} 2>/dev/null", "--qpu=EMU_MPS")
        == "EMU_MPS False\n"
    )
