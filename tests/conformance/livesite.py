"""A site as an administrator would run it: the built zipapp, a policy file, a Unix socket and a TCP port.

QPUD_CONFORMANCE_SOURCE=1 runs `python -m qpud` from the tree instead, for work on the daemon itself.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 60.0
STOP_SECONDS = 20.0
SIMULATED = """\
[resource FRESNEL]
Driver = simulated
Device = AnalogDevice
SpeedUp = 1000
MaxAtoms = 12
"""
EMULATED = """\
[resource EMU_MPS]
Driver = emulator
"""
SLOW = """\
[resource FRESNEL]
Driver = simulated
Device = AnalogDevice
SpeedUp = 4
MaxAtoms = 12
"""
"""A simulated QPU that gives 4 shots per second: slow enough to be caught in the middle."""


def behind(url: str, name: str = "FRESNEL") -> str:
    """A resource that is another qpud's, by the on-prem API."""
    return f"[resource {name}]\nDriver = pasqal-qpu\nUrl = {url}\nShotRate = 4\nPollMax = 1\nRequestTimeout = 3\n"


class DaemonFailed(Exception):
    """The daemon did not start, did not stop, or left something behind; the message ends with its log."""


class Site:
    """One daemon with its folder; may be killed and started again on the same state.

    Args:
        command: How to run qpud, without the verb.
        folder: For state, socket, policy and log; must not be used by another site.
        worker_python: The interpreter that has Pulser.
        resources: The policy's resource sections.
        daemon: Further lines of the section [qpud].
        queues: The policy's queue sections; empty: the defaults.
    """

    def __init__(
        self, command: list[str], folder: Path, worker_python: Path, resources: str, daemon: str = "", queues: str = ""
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.command = command
        self.port = free_port()
        self.config = folder / "qpud.conf"
        self.config.write_text(
            f"[qpud]\nListen = unix:{folder}/qpud.sock, http://127.0.0.1:{self.port}\nAuthType = munge\n"
            f"StateSaveLocation = {folder}/state\nWorkerPython = {worker_python}\n{daemon}\n{queues}\n{resources}"
        )
        self.log = folder / "qpud.log"
        self.ready_line = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._mark = f"QPUD_TEST_SITE={uuid.uuid4()}"

    @property
    def url(self) -> str:
        """Where it listens on TCP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self._process is not None, "the daemon was not started"
        return self._process.pid

    def start(self) -> Site:
        """Start the daemon and wait until it says that it is ready."""
        ready = threading.Event()
        name, value = self._mark.split("=")
        with self.log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*self.command, "serve", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, name: value},
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, args=(self._process, ready), daemon=True)
        self._reader.start()
        if not ready.wait(START_SECONDS) or not self.ready_line:
            self.kill()
            raise DaemonFailed(f"no line `ready …` within {START_SECONDS:.0f} s:\n{self.story()}")
        return self

    def _read(self, process: subprocess.Popen[bytes], ready: threading.Event) -> None:
        """Copy stdout to the log; note the line that says ready. Ends with the daemon."""
        assert process.stdout is not None
        self.ready_line = ""
        with process.stdout, self.log.open("ab", buffering=0) as log:
            for line in process.stdout:
                log.write(line)
                if line.startswith(b"ready"):
                    self.ready_line = line.decode()
                    ready.set()
        ready.set()  # the daemon ended without saying so

    def kill(self) -> None:
        """SIGKILL to the daemon alone, as the kernel's OOM killer would; its children must then end by themselves."""
        self._end(signal.SIGKILL)
        self.expect_nothing_left()

    def stop(self) -> None:
        """SIGTERM; it must end with exit code 0 and leave no process behind."""
        code = self._end(signal.SIGTERM)
        if code != 0:
            raise DaemonFailed(f"exit code {code} after SIGTERM:\n{self.story()}")
        self.expect_nothing_left()

    def _end(self, how: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        self._process = None
        process.send_signal(how)
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise DaemonFailed(f"still there {STOP_SECONDS:.0f} s after {how.name}:\n{self.story()}") from None
        finally:
            assert self._reader is not None
            self._reader.join(STOP_SECONDS)
        return code

    def expect_nothing_left(self) -> None:
        """Every process that the daemon started has ended, or does within seconds. Raises: DaemonFailed."""
        deadline = time.monotonic() + 5
        while left := list(self.processes()):
            if time.monotonic() > deadline:
                for pid, _command in left:
                    os.kill(pid, signal.SIGKILL)
                raise DaemonFailed(f"left behind: {left}\n{self.story()}")
            time.sleep(0.05)

    def processes(self) -> Iterator[tuple[int, str]]:
        """Pid and command of every living process of this site, by a mark in its environment."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                marked = self._mark.encode() in (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # gone, or another user's
            if marked and command:
                yield int(entry.name), command

    def resident_bytes(self) -> int:
        """What the daemon itself holds in memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
        raise DaemonFailed(f"no VmRSS of process {self.pid}")

    def story(self) -> str:
        """The end of the daemon's log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-60:])

    def tcp(self, **headers: str) -> httpx.Client:
        """A client over TCP, without credential unless `headers` bring one. Close it."""
        return httpx.Client(base_url=self.url, timeout=60.0, trust_env=False, headers=headers)

    def unix(self) -> httpx.Client:
        """A client over the Unix socket: this process's user, an administrator if root. Close it."""
        transport = httpx.HTTPTransport(uds=str(self.folder / "qpud.sock"))
        return httpx.Client(base_url="http://qpud", timeout=60.0, transport=transport)

    def get(self, path: str, **query: Any) -> Any:
        """A GET as administrator over the Unix socket; the decoded body, which must be a success."""
        with self.unix() as client:
            reply = client.get(path, params=query)
        assert reply.status_code == 200, f"GET {path}: {reply.status_code} {reply.text}"
        return reply.json()

    def spec(self, name: str = "FRESNEL") -> Any:
        """A device spec; on a busy machine the worker takes its time to load Pulser. Raises: DaemonFailed."""
        deadline = time.monotonic() + START_SECONDS
        with self.unix() as client:
            while (reply := client.get(f"/v1/resources/{name}/spec")).status_code != 200:  # held for 10 s each
                if time.monotonic() > deadline:
                    raise DaemonFailed(f"no device spec of {name}: {reply.text}\n{self.story()}")
        return reply.json()["spec"]

    def open_session(self, user_id: int = 0, **ask: Any) -> dict[str, Any]:
        """Open a session as administrator, for anyone: id and token."""
        with self.unix() as client:
            reply = client.post("/v1/sessions", json={"user": user_id, **ask})
        assert reply.status_code in (200, 201), reply.text
        session: dict[str, Any] = reply.json()
        return session

    def submit(self, token: str, **job: Any) -> dict[str, Any]:
        """Submit one job over TCP; it must be accepted."""
        with self.tcp(Authorization=f"Bearer {token}") as client:
            reply = client.post("/v1/jobs", json=job)
        assert reply.status_code == 201, reply.text
        accepted: dict[str, Any] = reply.json()
        return accepted

    def ended(self, job: int, seconds: float = 60.0) -> dict[str, Any]:
        """Wait for a job's end; the job as it then is."""
        return self.until(job, lambda found: found["state"] in ("DONE", "CANCELED", "ERROR"), seconds)

    def until(self, job: int, wanted: Any, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until a job is as wanted, by `?wait=`: the daemon answers at the next change. Raises: DaemonFailed."""
        deadline = time.monotonic() + seconds
        while True:
            found: dict[str, Any] = self.get(f"/v1/jobs/{job}")
            if wanted(found):
                return found
            if time.monotonic() > deadline:
                raise DaemonFailed(f"job {job} after {seconds:.0f} s: {found}\n{self.story()}")
            self.get(f"/v1/jobs/{job}", wait=0.5)

    def counts(self, job: int) -> dict[str, int]:
        """A job's counts so far."""
        found: dict[str, int] = self.get(f"/v1/jobs/{job}/result")["counts"]
        return found


def command_of(pyz: Path | None) -> list[str]:
    """How to run qpud: the zipapp, or the tree if there is none."""
    return [sys.executable, "-m", "qpud"] if pyz is None else [sys.executable, str(pyz)]


def runs_from_source() -> bool:
    """Whether the tree is to be run instead of the zipapp."""
    return bool(os.environ.get("QPUD_CONFORMANCE_SOURCE"))


def free_port() -> int:
    """A TCP port that is free now; fixed, since a daemon that starts again must be found where it was."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
