"""Acting on a real Slurm: what it does, what it refuses, what no value can turn an action into."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from qpud.core.errors import BadRequest
from qpud.core.slurm import SlurmAway, SlurmForbidden, SlurmRefused
from qpud.site.slurmcontrol import PATIENCE_SECONDS, PAUSE_SECONDS, Deed, SlurmControl
from tests.site.cluster import STRANGER, Cluster, until

OURS = "qpud_FRESNEL"


class Told:
    """Keeps the deeds."""

    def __init__(self) -> None:
        self.deeds: list[Deed] = []

    async def __call__(self, deed: Deed) -> None:
        self.deeds.append(deed)

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(deed.action, deed.outcome) for deed in self.deeds]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def control(cluster: Cluster, told: Told) -> Iterator[SlurmControl]:
    yield SlurmControl(cluster.conf, time.monotonic, told)
    cluster.attempt("scontrol", "delete", f"ReservationName={OURS}")


def reason_of(cluster: Cluster, job: int) -> str:
    return cluster.run("squeue", "-h", "-j", str(job), "-o", "%r")


@pytest.mark.slurm
async def test_reserved_licences_let_new_jobs_wait_with_a_reason_and_running_ones_run(
    cluster: Cluster, control: SlurmControl, told: Told
) -> None:
    running = cluster.start("sleep 300", "-L", "qpu:3")
    await control.reserve(OURS, "qpu:10")
    assert (await control.reservations())[OURS] == "qpu:10"
    waits = cluster.submit("true", "-L", "qpu:1")
    without = cluster.submit("true")
    cluster.wait(without, "COMPLETED")
    assert (cluster.state(running), cluster.state(waits)) == ("RUNNING", "PENDING")
    until(lambda: reason_of(cluster, waits) == "Licenses", "the reason")
    await control.change_reservation(OURS, "qpu:2")
    cluster.wait(waits, "COMPLETED", seconds=60)
    await control.unreserve(OURS)
    assert OURS not in await control.reservations()
    assert told.outcomes == [("reserve", "done"), ("change-reservation", "done"), ("unreserve", "done")]


@pytest.mark.slurm
async def test_a_partition_is_down_for_new_jobs_only(cluster: Cluster, control: SlurmControl) -> None:
    running = cluster.start("sleep 300", "-p", "test")
    await control.set_partition("test", "DOWN")
    assert (await control.partitions()) == {"production": "UP", "test": "DOWN", "development": "UP"}
    waits = cluster.submit("true", "-p", "test")
    assert (cluster.state(running), reason_of(cluster, waits)) == ("RUNNING", "PartitionDown")
    await control.set_partition("test", "UP")
    cluster.wait(waits, "COMPLETED", seconds=60)


@pytest.mark.slurm
async def test_a_comment_is_one_line_whatever_it_says(cluster: Cluster, control: SlurmControl) -> None:
    job = cluster.start("sleep 300", "-t", "10")
    await control.comment(job, "qpud qpu=FRESNEL share=3; TimeLimit=1 Partition=test $(id) 'a \"b")
    shown = cluster.run("scontrol", "show", "job", str(job))
    assert "AdminComment=qpud qpu=FRESNEL share=3; TimeLimit=1 Partition=test $(id) 'a \"b" in shown
    assert "TimeLimit=00:10:00" in shown and "Partition=development" in shown


@pytest.mark.slurm
async def test_a_held_job_is_released(cluster: Cluster, control: SlurmControl, told: Told) -> None:
    job = cluster.submit("true", "--hold")
    await control.release(job, "nobody")
    cluster.wait(job, "COMPLETED", seconds=60)
    assert [(deed.by, deed.target) for deed in told.deeds] == [("nobody", f"Slurm job {job}")]


@pytest.mark.slurm
async def test_what_slurm_refuses_is_told_in_its_words(control: SlurmControl, told: Told) -> None:
    with pytest.raises(SlurmRefused, match=r"Slurm refused to release Slurm job 4000000: Invalid job id"):
        await control.release(4_000_000, "nobody")
    with pytest.raises(SlurmRefused, match="Invalid license specification"):
        await control.reserve(OURS, "nosuch:1")
    assert told.outcomes == [("release", "refused"), ("reserve", "refused")]


@pytest.mark.slurm
async def test_a_daemon_whose_user_is_no_operator_is_told_so(
    cluster: Cluster, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = cluster.start("sleep 300")
    tmp_path.chmod(0o755)
    program, real = tmp_path / "scontrol", shutil.which("scontrol")
    become = f"setpriv --reuid={STRANGER} --regid={STRANGER} --clear-groups"
    program.write_text(f'#!/bin/sh\nexec {become} {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    control = SlurmControl(cluster.conf, time.monotonic, told)
    actions = (control.reserve(OURS, "qpu:1"), control.set_partition("test", "DOWN"), control.comment(job, "x"))
    for action in (*actions, control.release(job, "games")):
        with pytest.raises(
            SlurmForbidden,
            match=r"\(the daemon's user must be root, SlurmUser or an (operator|administrator) of Slurm\)$",
        ):
            await action
    assert [deed.outcome for deed in told.deeds] == ["refused"] * 4


@pytest.mark.slurm
async def test_a_hung_slurm_costs_the_actions_time_and_the_next_one_nothing(
    cluster: Cluster, control: SlurmControl, told: Told
) -> None:
    with cluster.hung():
        started = time.monotonic()
        with pytest.raises(SlurmAway):
            await control.unreserve(OURS)
        assert time.monotonic() - started < PATIENCE_SECONDS + 2
        started = time.monotonic()
        with pytest.raises(SlurmAway):
            await control.unreserve(OURS)
        assert time.monotonic() - started < 1
    assert told.outcomes == [("unreserve", "away")] * 2 and control.is_away


@pytest.fixture
async def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A scontrol that keeps the words it was called with; what it cannot show is that Slurm takes them."""
    program, words = tmp_path / "scontrol", tmp_path / "words"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{words}\nenv | grep -c "^SLURM_\\|^SQUEUE_" >>{words}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SQUEUE_FORMAT", "%j")
    yield words


@pytest.mark.parametrize("name", ["a b", "a\nState=DOWN", "a,b", "-a", "", "a=b", "x" * 129, "ALL;id", "é"])
async def test_a_name_becomes_no_other_option(name: str, recorded: Path, told: Told) -> None:
    control = SlurmControl(None, time.monotonic, told)
    for action in (control.unreserve(name), control.set_partition(name, "UP"), control.reserve(name, "qpu:1")):
        with pytest.raises(BadRequest):
            await action
    assert not recorded.exists() and not told.deeds


@pytest.mark.parametrize("licenses", ["", "qpu", "qpu:0", "qpu:1 Users=x", "qpu:1\n", "qpu:1,", "qpu:-1"])
async def test_licences_become_no_other_option(licenses: str, recorded: Path, told: Told) -> None:
    with pytest.raises(BadRequest):
        await SlurmControl(None, time.monotonic, told).reserve(OURS, licenses)
    assert not recorded.exists()


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\x00b", "é", "x" * 251])
async def test_a_comment_holds_no_second_line(text: str, recorded: Path, told: Told) -> None:
    with pytest.raises(BadRequest):
        await SlurmControl(None, time.monotonic, told).comment(17, text)
    assert not recorded.exists()


@pytest.mark.parametrize("number", [0, -1, 2**32])
async def test_a_job_is_a_number_that_slurm_may_have(number: int, recorded: Path, told: Told) -> None:
    with pytest.raises(BadRequest):
        await SlurmControl(None, time.monotonic, told).release(number, "nobody")
    assert not recorded.exists()


async def test_actions_come_one_after_the_other_with_a_pause(recorded: Path, told: Told) -> None:
    control = SlurmControl(Path("/x/slurm.conf"), time.monotonic, told)
    started = time.monotonic()
    await asyncio.gather(*(control.release(number, "nobody") for number in range(1, 6)))
    assert time.monotonic() - started >= 4 * PAUSE_SECONDS
    assert recorded.read_text().split("\n")[:4] == [
        "release 1",
        "2",
        "release 2",
        "2",
    ]  # SLURM_CONF, SLURM_TIME_FORMAT
