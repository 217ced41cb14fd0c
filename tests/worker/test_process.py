"""The worker dies, hangs, is missing or runs where nothing may be written: the daemon's side never hangs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import textwrap
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from qpud.drivers import launch
from qpud.drivers import workers as workers_module
from qpud.drivers.workers import WorkerFault, Workers
from tests.drivers.builders import device_spec
from tests.worker.programs import atoms_apart, drive, sample

pytestmark = pytest.mark.worker

NOBODY = 65534


@asynccontextmanager
async def started(python: Path, timeout: float = 10) -> AsyncIterator[Workers]:
    workers = Workers(python, validation_memory=2 << 30, validation_timeout=timeout)
    await workers.open()
    try:
        async with asyncio.timeout(60):
            yield workers
    finally:
        await workers.close()


async def until(true: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def evolving(workers: Workers, job: int = 1) -> tuple[asyncio.Task[dict[str, str]], int]:
    """A long evolution under way, and the pid of its child."""
    spec = await workers.device_spec("AnalogDevice")
    before = set(children(workers.pid or 0))
    minutes = workers.evolve(job, sample("valid_n20.json"), spec, shots=10, seed=1, options={})
    task = asyncio.create_task(minutes)
    await until(lambda: workers.progress(job) is not None)
    (child,) = set(children(workers.pid or 0)) - before
    return task, child


async def test_a_killed_worker_fails_what_waits_and_comes_back(worker_python: Path) -> None:
    async with started(worker_python) as workers:
        task, _ = await evolving(workers)
        os.kill(workers.pid or 0, signal.SIGKILL)
        with pytest.raises(WorkerFault) as raised:
            async with asyncio.timeout(2):
                await task
        assert raised.value.transient
        await until(workers.ready.is_set)
        spec = await workers.device_spec("AnalogDevice")
        assert (await workers.validate(sample("valid_n04.json"), 1, spec)).ok


async def test_who_asks_just_after_a_death_waits_for_the_next_worker(worker_python: Path) -> None:
    async with started(worker_python) as workers:
        spec = await workers.device_spec("AnalogDevice")
        os.kill(workers.pid or 0, signal.SIGKILL)
        await until(lambda: not workers.ready.is_set())
        assert workers.failure == ""
        await workers.evolve(1, sample("valid_n04.json"), spec, shots=10, seed=1, options={})


async def test_children_die_with_a_killed_parent(worker_python: Path) -> None:
    async with started(worker_python) as workers:
        task, _ = await evolving(workers)
        offspring = children(workers.pid or 0)
        os.kill(workers.pid or 0, signal.SIGKILL)
        await until(lambda: not any(alive(child) for child in offspring), 5)
        with pytest.raises(WorkerFault):
            await task


async def test_a_lost_emulation_is_told_when_it_is_asked_for(worker_python: Path) -> None:
    async with started(worker_python) as workers:
        with pytest.raises(WorkerFault, match="job 5 is gone") as raised:
            await workers.deal(5, 0, 1)
        assert raised.value.transient


async def test_a_killed_emulation_is_a_fault_that_may_be_repeated(worker_python: Path) -> None:
    async with started(worker_python) as workers:
        task, child = await evolving(workers)
        os.kill(child, signal.SIGKILL)
        with pytest.raises(WorkerFault, match="signal 9") as raised:
            await task
        assert raised.value.transient


async def test_a_cancelled_evolution_ends_its_child_within_a_second(worker_python: Path) -> None:
    async with started(worker_python) as workers:
        task, child = await evolving(workers)
        task.cancel()
        await until(lambda: not alive(child), 1)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_released_job_ends_its_child(worker_python: Path) -> None:
    async with started(worker_python) as workers:
        task, child = await evolving(workers)
        workers.release(1)
        with pytest.raises(WorkerFault, match="job 1 was stopped"):
            await task
        assert not alive(child)


async def test_a_killed_validator_is_replaced_and_the_question_asked_again(worker_python: Path) -> None:
    async with started(worker_python) as workers:
        spec = await workers.device_spec("AnalogDevice")
        questions = [asyncio.create_task(workers.validate(sample("valid_n20.json"), 1, spec)) for _ in range(20)]
        await asyncio.sleep(0)  # the questions are on their way
        for validator in children(workers.pid or 0):
            os.kill(validator, signal.SIGKILL)
        assert all(verdict.ok for verdict in await asyncio.gather(*questions))


async def test_too_much_time_is_a_verdict_that_names_the_limit(worker_python: Path) -> None:
    async with started(worker_python, timeout=0.3) as workers:
        spec = await workers.device_spec("DigitalAnalogDevice")
        slow = atoms_apart(2, *[drive(1.0, 0.0, 16)] * 4000)
        verdict = await workers.validate(slow, 1, spec)
        assert "ValidationTimeout 0.3 s" in verdict.sentence


async def test_a_stopped_worker_process_does_not_outlive_close(worker_python: Path) -> None:
    workers = Workers(worker_python, validation_memory=2 << 30, validation_timeout=10)
    await workers.open()
    await workers.versions()
    parent = workers.pid or 0
    offspring = children(parent)
    async with asyncio.timeout(10):
        await workers.close()
    assert not any(alive(pid) for pid in [parent, *offspring])


async def test_close_during_the_start_leaves_nothing(worker_python: Path) -> None:
    workers = Workers(worker_python, validation_memory=2 << 30, validation_timeout=10)
    await workers.open()
    await until(lambda: workers.pid is not None)
    parent = workers.pid or 0
    await workers.close()
    assert not alive(parent)


async def test_a_daemon_that_is_killed_takes_the_worker_with_it(worker_python: Path) -> None:
    daemon = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from qpud.drivers.workers import Workers
        async def main():
            workers = Workers(Path({str(worker_python)!r}), validation_memory=1 << 30, validation_timeout=10)
            await workers.open()
            await workers.versions()
            print(workers.pid, flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
    """)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", daemon, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    parent = int(await asyncio.wait_for(process.stdout.readline(), 60))
    offspring = children(parent)
    process.kill()
    await process.communicate()
    await until(lambda: not any(alive(pid) for pid in [parent, *offspring]), 5)


async def test_an_interpreter_without_pulser_is_named_in_one_sentence() -> None:
    async with started(Path(sys.executable)) as workers:
        with pytest.raises(WorkerFault, match=f"{sys.executable}.*cannot import the package pulser"):
            await workers.versions()


async def test_a_missing_interpreter_is_named(tmp_path: Path) -> None:
    async with started(tmp_path / "python") as workers:
        with pytest.raises(WorkerFault, match=str(tmp_path / "python")):
            await workers.versions()


async def test_a_program_that_is_no_python_is_named() -> None:
    async with started(Path("/bin/false")) as workers:
        with pytest.raises(WorkerFault, match="/bin/false ended before it was ready"):
            await workers.device_spec("AnalogDevice")


async def test_the_worker_runs_from_a_read_only_folder_as_another_user_without_home(
    worker_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path("/tmp") / f"qpud-{tmp_path.name}-{os.getpid()}"  # tmp_path is closed to other users
    copy = folder / "qpud"
    shutil.copytree(launch.FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [folder, copy, *copy.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.setattr(launch, "FOLDER", copy)
    monkeypatch.delenv("HOME", raising=False)
    try:
        async with started(as_nobody(worker_python, tmp_path)) as workers:
            spec = await workers.device_spec("AnalogDevice")
            await workers.evolve(1, sample("valid_n04.json"), spec, shots=10, seed=1, options={})
            assert sum((await workers.deal(1, 0, 10)).values()) == 10
        assert not list(copy.rglob("__pycache__"))
    finally:
        folder.chmod(0o755)
        for path in [path for path in copy.rglob("*") if path.is_dir()] + [copy]:
            path.chmod(0o755)
        shutil.rmtree(folder)


def as_nobody(python: Path, folder: Path) -> Path:
    """A wrapper that gives up root; without root we are another user already."""
    if os.geteuid() != 0:
        return python
    wrapper = folder / "python"
    wrapper.write_text(f'#!/bin/sh\nexec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {python} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


async def test_the_worker_leaves_no_folder_behind(
    worker_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with started(worker_python) as workers:
        await workers.versions()
        assert [path.name[:12] for path in tmp_path.iterdir()] == ["qpud-worker-"]
    assert list(tmp_path.iterdir()) == []


async def test_the_daemons_packages_and_sockets_stay_out_of_the_worker(worker_python: Path) -> None:
    async with started(worker_python) as workers:
        await workers.versions()
        maps = Path(f"/proc/{workers.pid}/maps").read_text()
        assert "msgspec" not in maps
        sockets = [fd for fd in Path(f"/proc/{workers.pid}/fd").iterdir() if "socket" in os.readlink(fd)]
        assert len(sockets) == 1 + len(children(workers.pid or 0))


ONE_BY_ONE = """
import json, socket, sys, time
daemon = socket.socket(fileno=int(sys.argv[1]))
def say(message):
    daemon.sendall(json.dumps(message).encode() + bytes([10]))
say({"ready": {}})
for line in daemon.makefile("rb"):
    time.sleep(0.02)
    say({"id": json.loads(line)["id"], "ok": {}})
"""


class OneByOne(Workers):
    """Its parent is a stand-in that takes 20 ms for each verdict."""

    async def _launch(self) -> launch.Launched:
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", ONE_BY_ONE, str(theirs.fileno())), pass_fds=(theirs.fileno(),), stderr=PIPE
            )
        return launch.Launched(process=process, reader=reader, writer=writer, folder=TemporaryDirectory())


async def test_a_worker_whose_validators_have_much_to_do_is_not_taken_for_one_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers_module, "HANG_SECONDS", 0.2)
    workers = OneByOne(Path(sys.executable), validation_memory=1 << 30, validation_timeout=0.1)
    await workers.open()
    try:
        async with asyncio.timeout(30):
            asked = [workers.validate(sample("valid_n04.json"), shots, device_spec()) for shots in range(1, 61)]
            assert all(verdict.ok for verdict in await asyncio.gather(*asked))
    finally:
        await workers.close()


async def test_a_worker_that_hangs_is_killed_and_started_again(
    worker_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "HANG_SECONDS", 0.5)
    async with started(worker_python, timeout=0.1) as workers:
        await workers.versions()
        hung = workers.pid or 0
        os.kill(hung, signal.SIGSTOP)
        with pytest.raises(WorkerFault, match="hung"):
            await workers.device_spec("MockDevice")
        await until(lambda: workers.ready.is_set() and workers.pid != hung)
        await workers.versions()
