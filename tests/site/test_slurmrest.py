"""Jobs from slurmrestd: the real one over its socket, and the shapes of other versions."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qpud.core.slurm import SlurmAway
from qpud.site.slurm import Slurm
from qpud.site.slurmrest import SlurmRest, _job_in
from tests.site.cluster import STRANGER, Cluster, until


def a_job(**changes: Any) -> dict[str, Any]:
    """As Slurm 22.05 tells it (v0.0.38)."""
    job = {"job_id": 1, "user_id": 1001, "partition": "production", "job_state": "RUNNING", "node_count": 2}
    times = {"start_time": 1795330629, "end_time": 1795330749, "time_limit": 2}
    return {
        **job,
        **times,
        "licenses": "qpu:3",
        "tres_per_node": "gres:qpu:2",
        "account": "",
        "qos": "normal",
        "priority": 5000,
        **changes,
    }


def set_to(number: int) -> dict[str, Any]:
    return {"set": True, "infinite": False, "number": number}


def as_v40(job: dict[str, Any]) -> dict[str, Any]:
    """The same as 23.11 and later tell it."""
    numbers = {name: set_to(job[name]) for name in ("node_count", "start_time", "end_time", "time_limit", "priority")}
    return {**job, **numbers, "job_state": [job["job_state"]]}


def test_both_shapes_are_the_same_job() -> None:
    old = _job_in({"jobs": [a_job()], "errors": []}, 1)
    assert old is not None
    assert old == _job_in({"jobs": [as_v40(a_job())], "errors": []}, 1)
    assert (old.user_id, old.units, old.nodes, old.ends_at, old.account) == (1001, 3, 2, 1795330749.0, None)
    assert (old.qos, old.priority) == ("normal", 5000)


def test_a_state_with_a_flag_is_told_as_squeue_tells_it() -> None:
    for states, told in ((["RUNNING", "CONFIGURING"], "CONFIGURING"), (["CANCELLED", "COMPLETING"], "COMPLETING")):
        job = _job_in({"jobs": [a_job(job_state=states)]}, 1)
        assert job is not None
        assert job.state == told


@pytest.mark.parametrize("limit", [None, {"set": False, "infinite": True, "number": 0}])
def test_without_a_time_limit_there_is_no_end(limit: Any) -> None:
    job = _job_in({"jobs": [a_job(time_limit=limit)]}, 1)
    assert job is not None
    assert job.ends_at is None


def test_errors_are_told_apart() -> None:
    assert _job_in({"jobs": [], "errors": [{"error_number": 2017}]}, 1) is None
    assert _job_in({"jobs": [a_job(job_id=2)], "errors": []}, 1) is None
    with pytest.raises(SlurmAway, match="Unable to contact"):
        _job_in({"jobs": [], "errors": [{"error_number": 1800, "error": "Unable to contact slurm controller"}]}, 1)
    with pytest.raises(SlurmAway, match="unknown shape"):
        _job_in({"jobs": [a_job(start_time=10**400)]}, 1)
    with pytest.raises(SlurmAway, match="unknown shape"):
        _job_in({"jobs": [{"job_id": 1}], "errors": []}, 1)


@pytest.mark.parametrize(
    "body",
    [
        {"errors": ["no such job"]},
        {"errors": {"error": 2017}},
        {"jobs": ["1"]},
        {"jobs": {"1": a_job()}},
        {"jobs": [a_job(job_state=[])]},
        {"jobs": [a_job(job_state=None)]},
        {"jobs": [a_job(node_count={"set": True})]},
        {"jobs": [a_job(start_time=10**400)]},
        {"jobs": [a_job(priority="high")]},
        {"jobs": [a_job(licenses=["qpu:3"])]},
    ],
)
def test_whatever_else_is_answered_is_no_answer(body: dict[str, Any]) -> None:
    with pytest.raises(SlurmAway, match="unknown shape"):
        _job_in(body, 1)


async def test_an_answer_that_is_nested_too_deeply_cannot_be_read(tmp_path: Path) -> None:
    body = b'{"jobs":' + b"[" * 100_000

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async with asyncio.timeout(30), await asyncio.start_unix_server(answer, str(tmp_path / "rest.sock")):
        with pytest.raises(SlurmAway, match="cannot be read"):
            await SlurmRest(tmp_path / "rest.sock").job(1)


@pytest.fixture
def rest(cluster: Cluster) -> Iterator[Path]:
    """The socket of a slurmrestd, which refuses to run as root."""
    program = shutil.which("slurmrestd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("slurmrestd is not installed")
    path = cluster.folder / "out" / "rest.sock"
    # without slurmdbd it starts only if the plugins for that are left out
    command = [program, "-f", str(cluster.conf), "-a", "rest_auth/local", "-s", "openapi/v0.0.38", f"unix:{path}"]
    process = subprocess.Popen(
        ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", *command],
        env=cluster.environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(path.exists, "slurmrestd")
        yield path
    finally:
        process.terminate()
        process.wait(timeout=10)
        path.unlink(missing_ok=True)


@pytest.mark.slurm
async def test_rest_and_squeue_tell_the_same(cluster: Cluster, rest: Path) -> None:
    for options in (["-p", "test", "-L", "qpu:3", "-N2", "-A", "chem"], ["--gres=qpu:2", "-t", "30"]):
        number = cluster.start("sleep 300", *options)
        told = await SlurmRest(rest).job(number)
        assert told is not None
        assert told == await Slurm(cluster.conf, time.monotonic).look_up(number)
    assert await SlurmRest(rest).job(4_000_000) is None


@pytest.mark.slurm
async def test_the_look_up_uses_rest_and_without_it_squeue(
    cluster: Cluster, rest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = cluster.start()
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", "/nonexistent")
    by_rest = await Slurm(cluster.conf, time.monotonic, rest).look_up(number)
    monkeypatch.setenv("PATH", path)
    by_squeue = await Slurm(cluster.conf, time.monotonic, rest.with_name("nothing.sock")).look_up(number)
    assert by_rest is not None
    assert by_rest == by_squeue


@pytest.mark.slurm
async def test_a_slurmrestd_that_hangs_leaves_time_for_squeue(cluster: Cluster, tmp_path: Path) -> None:
    number = cluster.start()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        job = await Slurm(cluster.conf, time.monotonic, tmp_path / "s").look_up(number)
    assert job is not None
    assert job.state == "RUNNING"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
    ],
)
async def test_an_answer_that_cannot_be_read_is_no_answer(tmp_path: Path, answer: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(reply, str(tmp_path / "s")):
        with pytest.raises(SlurmAway):
            await SlurmRest(tmp_path / "s").job(1)
