"""The real daemon as a process of its own: `python -m qpud serve --config`, its log shown when a test fails."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
SEQUENCE = (ROOT / "tests" / "worker" / "samples" / "valid_n04.json").read_text
START_SECONDS = 60.0

POLICY = """
[qpud]
Listen = unix:{folder}/q.sock
StateSaveLocation = {state}
WorkerPython = {python}
ValidationWait = 0
{daemon}
[queue production]
PriorityTier = 100
PreemptMode = OFF
SliceSeconds = 1

[queue development]
PriorityTier = 10
SliceSeconds = 1
MaxShots = {max_shots}

[resource TWIN]
Driver = simulated
ShotRate = 10
SpeedUp = {speed_up}
Counts = product
"""


class Daemon:
    """A daemon and its folder; may be started, killed and started again.

    Args:
        folder: For policy, socket and log; short, because socket paths are.
        python: WorkerPython.
        changes: Values of POLICY.
    """

    def __init__(self, folder: Path, python: Path | str, **changes: Any) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.values = {"state": folder / "state", "daemon": "", "max_shots": 1000, "speed_up": 50, **changes}
        self.values |= {"folder": folder, "python": python}
        self.process: subprocess.Popen[bytes] | None = None
        self.write_policy()

    def write_policy(self, **changes: Any) -> None:
        self.values |= changes
        (self.folder / "qpud.conf").write_text(POLICY.format(**self.values))

    def start(self) -> Daemon:
        """Start it and wait until it answers."""
        process = self.spawn()
        line = self._first_line(process)
        if not line.startswith(b"ready"):
            raise AssertionError(f"the daemon did not start: {line!r}\n{self.log.read_text()}")
        return self

    def spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "qpud", "serve", "--config", str(self.folder / "qpud.conf")],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
            )
        return self.process

    def _first_line(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        deadline = threading.Timer(START_SECONDS, process.kill)
        deadline.start()
        try:
            return process.stdout.readline()
        finally:
            deadline.cancel()

    def end(self, number: int = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Send a signal and wait for the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        finally:
            self.forget()

    def forget(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    @contextmanager
    def client(self, seconds: float = 60.0) -> Iterator[httpx.Client]:
        transport = httpx.HTTPTransport(uds=str(self.folder / "q.sock"))
        with httpx.Client(transport=transport, base_url="http://qpud", timeout=seconds) as client:
            yield client


@contextmanager
def a_daemon(folder: Path, python: Path | str = sys.executable, **changes: Any) -> Iterator[Daemon]:
    """A running daemon that is always killed; without a worker's interpreter it accepts jobs and starts none."""
    daemon = Daemon(folder, python, **changes)
    try:
        yield daemon.start()
    except BaseException:
        print(daemon.log.read_text()[-8000:])
        raise
    finally:
        daemon.forget()


def open_session(client: httpx.Client, queue: str = "development") -> dict[str, str]:
    """Open a session; returns the header that names it."""
    answer = client.post("/v1/sessions", json={"queue": queue})
    assert answer.status_code == 201, answer.text
    return {"X-Warden-Session": answer.json()["id"]}


def submit(client: httpx.Client, session: dict[str, str], shots: int = 10, key: str | None = None) -> httpx.Response:
    headers = {**session, **({"Idempotency-Key": key} if key else {})}
    return client.post("/v1/jobs", json={"sequence": SEQUENCE(), "shots": shots}, headers=headers)
