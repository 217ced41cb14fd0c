"""The process that asks munged for the daemon: answers in order, a munged that hangs, its own end."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from qpud.core.errors import Unauthenticated, Unavailable
from qpud.site import munge_process
from qpud.site.asking import LARGEST_GROUP
from qpud.site.munge import LONGEST_CREDENTIAL, Munge
from qpud.site.munge_process import MungeProcess

pytestmark = pytest.mark.munge

ME = os.geteuid()


@pytest.fixture
def munge(munge_socket: Path) -> Iterator[Munge]:
    with Munge(munge_socket) as opened:
        yield opened


def nothing() -> None: ...


def child_of(asking: MungeProcess) -> int:
    return asking._process.pid


def is_there(pid: int) -> bool:
    """Zombies count."""
    return Path(f"/proc/{pid}").exists()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def eventually(attempt: Callable[[], Awaitable[int]], seconds: float = 15.0) -> int:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await attempt()
        except Unavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def test_credentials_that_wait_together_are_each_told_their_own_answer(munge: Munge, munge_socket: Path) -> None:
    used = munge.encode()
    munge.decode(used)
    with MungeProcess(munge_socket) as asking:
        asked = [asking.decode(one, nothing) for one in (munge.encode(), used, "garbage", munge.encode())]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [int, Unauthenticated, Unauthenticated, int]
    assert "used before" in str(answers[1])
    assert "is no munge credential" in str(answers[2])


async def test_more_credentials_than_fit_at_once_are_all_answered(munge: Munge, munge_socket: Path) -> None:
    longest = f"MUNGE:{'A' * (LONGEST_CREDENTIAL - 7)}:"
    asked = [credential for _ in range(8 * LARGEST_GROUP) for credential in (munge.encode(), longest)]
    with MungeProcess(munge_socket) as asking:
        answers = await asyncio.gather(*(asking.decode(one, nothing) for one in asked), return_exceptions=True)
    assert [type(answer) for answer in answers] == [int, Unauthenticated] * 8 * LARGEST_GROUP


async def test_something_else_is_done_while_munged_is_asked(munge: Munge, munge_socket: Path) -> None:
    done: list[str] = []
    with MungeProcess(munge_socket) as asking:
        assert await asking.decode(munge.encode(), lambda: done.append("looked")) == ME
        with pytest.raises(Unauthenticated):
            await asking.decode("garbage", lambda: done.append("nobody asked munged"))
    assert done == ["looked"]


async def test_who_does_not_wait_any_more_disturbs_nobody(munge: Munge, munge_socket: Path) -> None:
    with MungeProcess(munge_socket) as asking:
        leaving = asyncio.create_task(asking.decode(munge.encode(), nothing))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await asking.decode(munge.encode(), nothing) == ME


async def test_a_stopped_munged_does_not_stop_the_loop(start_munged: Callable[[Path], Path], tmp_path: Path) -> None:
    path = start_munged(tmp_path)
    credentials, munged = [Munge(path).encode() for _ in range(3)], int((tmp_path / "pid").read_text())
    with MungeProcess(path) as asking:
        os.kill(munged, signal.SIGSTOP)
        try:
            began = time.monotonic()
            tasks = [asyncio.create_task(asking.decode(one, nothing)) for one in credentials]
            await asyncio.sleep(0)
            stood_still = time.monotonic() - began
            await asyncio.sleep(0.2)
            assert not any(task.done() for task in tasks)
        finally:
            os.kill(munged, signal.SIGCONT)
        async with asyncio.timeout(15):
            assert await asyncio.gather(*tasks) == [ME] * 3
    assert stood_still < 0.1


async def test_a_munged_that_hangs_is_waited_for_once_by_all_and_found_again(
    start_munged: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = start_munged(tmp_path)
    munge, munged = Munge(path), int((tmp_path / "pid").read_text())
    credentials = [munge.encode() for _ in range(2 * LARGEST_GROUP)]
    with MungeProcess(path) as asking:
        os.kill(munged, signal.SIGSTOP)
        began = time.monotonic()
        asked = [asking.decode(one, nothing) for one in credentials]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert time.monotonic() - began < 13
        assert {type(answer) for answer in answers} == {Unavailable}
        began = time.monotonic()
        with pytest.raises(Unavailable, match="munged does not answer; it is tried again every second"):
            await asking.decode("MUNGE:AAAA:", nothing)
        assert time.monotonic() - began < 0.1
        os.kill(munged, signal.SIGCONT)
        assert await eventually(lambda: asking.decode(munge.encode(), nothing)) == ME


async def test_a_socket_that_nobody_serves_is_waited_for_once_and_found_again(
    munge: Munge, start_munged: Callable[[Path], Path], tmp_path: Path
) -> None:
    (tmp_path / "slow").mkdir()
    path = tmp_path / "slow" / "sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # a socket that nobody listens on: libmunge tries for two seconds
    with MungeProcess(path) as asking:
        with pytest.raises(Unavailable, match="refused"):
            await asking.decode(munge.encode(), nothing)
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            await asking.decode(munge.encode(), nothing)
        assert time.monotonic() - began < 0.1
        start_munged(tmp_path / "slow")
        with Munge(path) as slow:
            assert await eventually(lambda: asking.decode(slow.encode(), nothing)) == ME


async def test_the_log_says_once_that_munged_is_away_and_once_that_it_is_back(
    start_munged: Callable[[Path], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m" / "sock"
    with MungeProcess(path) as asking, caplog.at_level("INFO", munge_process.__name__):
        for _ in range(3):
            with pytest.raises(Unavailable):
                await asking.decode("MUNGE:AAAA:", nothing)
        start_munged(tmp_path / "m")
        for _ in range(3):
            await asking.decode(Munge(path).encode(), nothing)
    assert [record.message for record in caplog.records] == [
        "munged does not answer: credentials are refused with 503",
        "munged answers again",
    ]


async def test_the_environment_names_the_socket(
    munge: Munge, munge_socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QPUD_MUNGE_SOCKET", str(munge_socket))
    with MungeProcess() as asking:
        assert await asking.decode(munge.encode(), nothing) == ME


async def test_a_process_that_dies_refuses_who_waits_and_is_started_again(
    munge: Munge, start_munged: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(munge_process, "PROBE_SECONDS", 0.0)
    path = start_munged(tmp_path)
    credentials, munged = [Munge(path).encode() for _ in range(3)], int((tmp_path / "pid").read_text())
    with MungeProcess(path) as asking:
        os.kill(munged, signal.SIGSTOP)
        tasks = [asyncio.create_task(asking.decode(one, nothing)) for one in credentials]
        await asyncio.sleep(0.05)
        first = child_of(asking)
        os.kill(first, signal.SIGKILL)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(answer) for answer in answers] == ["the process that asks munged has ended: try again"] * 3
        assert not is_there(first)
        os.kill(munged, signal.SIGCONT)
        assert await asking.decode(Munge(path).encode(), nothing) == ME


async def test_a_process_that_dies_at_once_is_started_once_a_second(munge_socket: Path, munge: Munge) -> None:
    with MungeProcess(munge_socket) as asking:
        os.kill(child_of(asking), signal.SIGKILL)
        await asyncio.sleep(0.05)
        with pytest.raises(Unavailable, match="has ended: try again"):
            await asking.decode(munge.encode(), nothing)
        assert await eventually(lambda: asking.decode(munge.encode(), nothing), 5) == ME


async def test_closing_leaves_nothing_and_refuses_the_rest(munge: Munge, munge_socket: Path) -> None:
    with MungeProcess(munge_socket) as asking:
        child = child_of(asking)
        waiting = asyncio.create_task(asking.decode(munge.encode(), nothing))
        await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="is closed"):
        await waiting
    with pytest.raises(Unavailable, match="is closed"):
        await asking.decode(munge.encode(), nothing)
    assert not is_there(child)


async def test_the_process_sees_no_variable_and_no_descriptor_of_ours(
    munge: Munge, munge_socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QPUD_TOKEN", "secret")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    with MungeProcess(munge_socket) as asking:
        await asking.decode(munge.encode(), nothing)
        proc = Path(f"/proc/{child_of(asking)}")
        assert b"secret" not in (proc / "environ").read_bytes()
        assert {int(one.name) for one in (proc / "fd").iterdir()} == {0, 1, 2}


ABANDONED = """
import asyncio, os, sys
from pathlib import Path
from qpud.site.munge_process import MungeProcess
async def main():
    asking = MungeProcess(Path(sys.argv[1]))
    print(asking._process.pid, flush=True)
    asyncio.create_task(asking.decode(sys.argv[2], lambda: None))
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_the_process_ends_with_a_killed_daemon_even_while_munged_hangs(
    start_munged: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = start_munged(tmp_path)
    credential, munged = Munge(path).encode(), int((tmp_path / "pid").read_text())
    os.kill(munged, signal.SIGSTOP)
    try:
        command = [sys.executable, "-c", ABANDONED, str(path), credential]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as daemon:
            assert daemon.stdout is not None
            child = int(daemon.stdout.readline())
            time.sleep(0.3)  # until it waits for munged
            assert is_there(child)
            daemon.kill()
        until(lambda: not is_there(child), 3)
    finally:
        os.kill(munged, signal.SIGCONT)
