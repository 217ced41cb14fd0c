"""The daemon as a process: signals, a second one, a reload, a full disk, and being killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.daemon.builders import sums
from tests.daemon.harness import ROOT, Daemon, a_daemon, open_session, submit
from tests.daemon.test_chaos import stored

KILLS = 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_held_requests_and_exits_with_0_within_3_seconds(tmp_path: Path, number: int) -> None:
    with a_daemon(tmp_path) as daemon, daemon.client() as client:
        job = submit(client, open_session(client)).json()["id"]
        held: list[httpx.Response] = []

        def wait() -> None:
            with daemon.client() as other:
                held.append(other.get(f"/v1/jobs/{job}?wait=60"))

        waiting = threading.Thread(target=wait)
        waiting.start()
        _until_held(client)
        started = time.monotonic()
        assert daemon.end(number) == 0
        waiting.join(5)
        assert time.monotonic() - started < 3.0
        assert [answer.status_code for answer in held] == [200]
    assert stored(tmp_path / "state", "SELECT state FROM jobs") == [("PENDING",)]


def _until_held(client: httpx.Client) -> None:
    """A request of another connection that came before this one has been taken up once this one is answered."""
    for _ in range(20):
        client.get("/healthz")
        time.sleep(0.01)


def test_a_second_daemon_on_the_same_state_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon, daemon.client() as client:
        second = Daemon(tmp_path, sys.executable)
        process = second.spawn()
        assert process.wait(10) == 1
        second.forget()
        lines = [line for line in daemon.log.read_text().splitlines() if line.startswith("qpud: ")]
        assert len(lines) == 1
        assert lines[0].startswith(f"qpud: another qpud serves {tmp_path}/state: stop it first, or choose another")
        assert client.get("/healthz").status_code == 200


def test_a_reload_asked_for_while_the_daemon_starts_is_done_once_it_serves(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, sys.executable, daemon="SocketMode = 0666")
    process = daemon.spawn()
    try:
        _until_logged(daemon, "SocketMode = 0666 lets every user")
        process.send_signal(signal.SIGHUP)
        _until_logged(daemon, "policy reloaded")
        assert process.poll() is None
    finally:
        daemon.forget()


def _until_logged(daemon: Daemon, sentence: str) -> None:
    deadline = time.monotonic() + 60
    while sentence not in daemon.log.read_text():
        assert time.monotonic() < deadline, daemon.log.read_text()
        time.sleep(0.01)


def test_a_reload_takes_over_a_good_file_and_refuses_a_bad_one_whole(tmp_path: Path) -> None:
    with a_daemon(tmp_path, max_shots=10) as daemon, daemon.client() as client:
        session = open_session(client)
        assert submit(client, session, 11).status_code == 422
        daemon.write_policy(max_shots=20)
        assert client.post("/v1/reconfigure").status_code == 200
        assert submit(client, session, 11).status_code == 201
        daemon.write_policy(max_shots="many")
        refusal = client.post("/v1/reconfigure")
        assert (refusal.status_code, "MaxShots" in refusal.text) == (422, True)
        _until_logged(daemon, "the policy file was refused, the policy in force stays")
        (tmp_path / "qpud.conf").unlink()
        assert client.post("/v1/reconfigure").status_code == 422
        assert submit(client, session, 20).status_code == 201


def test_sighup_with_a_bad_file_keeps_the_daemon_and_its_policy(tmp_path: Path) -> None:
    with a_daemon(tmp_path, max_shots=10) as daemon, daemon.client() as client:
        session = open_session(client)
        for text in (b"[qpud\n", b"\xff\xfe\x00", b"[resource X]\nDriver = warp\n"):
            (tmp_path / "qpud.conf").write_bytes(text)
            _hang_up(daemon, "refused")
        assert submit(client, session, 11).status_code == 422
        daemon.write_policy(max_shots=20)
        _hang_up(daemon, "reloaded")
        assert submit(client, session, 11).status_code == 201


def _hang_up(daemon: Daemon, word: str) -> None:
    """Send SIGHUP and wait for what the log says about it."""
    assert daemon.process is not None
    before = daemon.log.read_text().count(word)
    daemon.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while daemon.log.read_text().count(word) == before:
        assert time.monotonic() < deadline, f"no {word!r} in the log"
        assert daemon.process.poll() is None, "the daemon died"
        time.sleep(0.01)


def test_a_daemon_without_a_worker_accepts_jobs_and_says_why_none_starts(tmp_path: Path) -> None:
    with a_daemon(tmp_path, "/nowhere/python") as daemon, daemon.client() as client:
        job = submit(client, open_session(client)).json()
        assert job["reason"] == "Validating"
        assert client.get("/healthz").status_code == 200


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A state folder on a file system of 2 MiB."""
    place = tmp_path / "state"
    place.mkdir()
    if (
        os.getuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "none", place]).returncode
    ):
        pytest.skip("only root may mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.worker
def test_on_a_full_disk_submissions_get_507_and_what_ran_is_stored_later(
    tmp_path: Path, small_disk: Path, worker_python: Path
) -> None:
    ballast = small_disk / "ballast"
    with a_daemon(tmp_path, worker_python, speed_up=5) as daemon, daemon.client() as client:
        session = open_session(client)
        job = submit(client, session, 60).json()["id"]
        assert client.get(f"/v1/jobs/{job}?wait=30").json()["state"] == "RUNNING"
        _fill(ballast)
        refusal = _refused(client, session)
        assert "StateSaveLocation" in refusal.json()["detail"]
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/jobs").status_code == 200
        _until_kept(daemon)
        ballast.unlink()
        answer = client.get(f"/v1/jobs/{job}/result?wait=30").json()
        assert sum(answer["counts"].values()) == 60
        assert submit(client, session).status_code == 201
        assert client.delete(f"/v1/sessions/{session['X-Warden-Session']}").status_code == 200
        assert daemon.end() == 0
    ledger, slices, jobs = sums(small_disk)
    assert ledger == slices == jobs >= 60


def _fill(ballast: Path) -> None:
    """Leave no byte."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def _refused(client: httpx.Client, session: dict[str, str]) -> httpx.Response:
    """Submit until the room that is left in the database's own files is used up."""
    for _ in range(2000):
        answer = submit(client, session)
        if answer.status_code != 201:
            assert answer.status_code == 507, answer.text
            return answer
    raise AssertionError("the disk is never full")


def _until_kept(daemon: Daemon) -> None:
    deadline = time.monotonic() + 20
    while "cannot be stored, trying again" not in daemon.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.worker
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # httpx leaks a socket that is refused
def test_killed_again_and_again_no_accepted_job_is_lost_and_none_is_counted_twice(
    tmp_path: Path, worker_python: Path
) -> None:
    daemon = Daemon(tmp_path, worker_python, speed_up=500)
    chance, accepted = random.Random(3), dict[int, int]()
    try:
        for kill in range(KILLS):
            daemon.start()
            long = kill % 7 == 6  # long enough for the worker to start and slices to run
            _load_and_kill(daemon, chance, accepted, 4.0 if long else 0.3)
        daemon.start()
        with daemon.client(60.0) as client:
            found = {job["id"]: job["shots"] for job in client.get("/v1/jobs?limit=1000").json()["jobs"]}
            assert accepted.items() <= found.items()
            for job, shots in found.items():  # also those whose answer the kill came before
                answer = client.get(f"/v1/jobs/{job}/result?wait=40").json()
                assert (answer["job"]["state"], sum(answer["counts"].values())) == ("DONE", shots), answer
        assert daemon.end() == 0
    except BaseException:
        print(daemon.log.read_text()[-8000:])
        raise
    finally:
        daemon.forget()
    ledger, slices, jobs = sums(tmp_path / "state")
    assert ledger == slices == jobs
    assert stored(tmp_path / "state", "SELECT count(*) FROM jobs WHERE state != 'DONE' OR shots_done != shots") == [
        (0,)
    ]
    assert len(accepted) >= KILLS // 2


def _load_and_kill(daemon: Daemon, chance: random.Random, accepted: dict[int, int], seconds: float) -> None:
    """Submit from two sides until the daemon is killed."""

    def user(seed: int) -> None:
        own = random.Random(seed)
        with contextlib.suppress(httpx.HTTPError), daemon.client() as client:
            session = open_session(client, own.choice(["production", "development"]))
            for _ in range(5):
                shots = own.randrange(1, 25)
                answer = submit(client, session, shots, key=f"{seed}/{own.random()}")
                if answer.status_code == 201:
                    accepted[answer.json()["id"]] = shots
                time.sleep(own.random() * 0.4)

    users = [threading.Thread(target=user, args=(chance.getrandbits(30),)) for _ in range(2)]
    for each in users:
        each.start()
    before, deadline = len(accepted), time.monotonic() + 15
    while chance.random() < 0.99 and len(accepted) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(chance.random() * seconds)
    daemon.end(signal.SIGKILL)
    for each in users:
        each.join(25)
        assert not each.is_alive()


BROKEN_SCHEDULER = """
import asyncio, sys
from qpud.cli import main
from qpud.scheduler.runner import Runner

async def run(self, in_flight):
    await asyncio.sleep(0.2)
    {how}

Runner.run = run
sys.exit(main(["serve", "--config", sys.argv[1]]))
"""


@pytest.mark.parametrize("how", ["raise ZeroDivisionError", "raise asyncio.CancelledError", "return"])
def test_a_scheduler_task_that_ends_takes_the_process_down(tmp_path: Path, how: str) -> None:
    daemon = Daemon(tmp_path, sys.executable)
    command = [sys.executable, "-c", BROKEN_SCHEDULER.format(how=how), str(tmp_path / "qpud.conf")]
    done = subprocess.run(command, capture_output=True, timeout=20, cwd=ROOT)
    daemon.forget()
    assert done.stdout.startswith(b"ready")
    assert done.returncode not in (0, None), done.stderr
