"""Starts what is measured: the bare stack, qpud from this source tree, a private munged."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests" / "worker" / "samples"
WORKER = Path(os.environ.get("QPUD_WORKER_PYTHON", ROOT / ".venv" / "worker" / "bin" / "python"))


@dataclass
class Running:
    """A server under test."""

    port: int
    pid: int
    socket: Path | None = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: object, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.01)
    raise TimeoutError(what)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def munged(folder: Path) -> Iterator[Path]:
    program = shutil.which("munged", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise SystemExit("munged is not installed: apt-get install munge")
    (folder / "key").write_bytes(secrets.token_bytes(1024))
    (folder / "key").chmod(0o400)
    files = [f"--{name}-file={folder / name}" for name in ("key", "pid", "log", "seed")]
    with _process([program, "--foreground", "--force", f"--socket={folder / 'munge'}", *files], {}) as process:
        until((folder / "munge").exists, 10, "munged")
        assert process.poll() is None
        yield folder / "munge"


@contextlib.contextmanager
def bare(folder: Path, environment: dict[str, str]) -> Iterator[Running]:
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("bare.py")), str(port), str(folder / "bare.sqlite")]
    with _process(command, environment) as process:
        until(lambda: answers(port), 10, "the bare stack")
        yield Running(port, process.pid)


POLICY = """
[qpud]
Listen = unix:{folder}/qpud.sock, http://127.0.0.1:{port}
AuthType = {auth}
StateSaveLocation = {folder}/state
WorkerPython = {worker}
{daemon}
[queue production]
{queues}
[resource FRESNEL]
Driver = simulated
{resource}
"""


@contextlib.contextmanager
def qpud(
    folder: Path,
    environment: dict[str, str],
    *,
    auth: str = "none",
    daemon: str = "",
    resource: str = "",
    queues: str = "[queue development]",
    worker: bool = True,
) -> Iterator[Running]:
    port = free_port()
    python = WORKER if worker else Path("/nonexistent/python")
    text = POLICY.format(
        folder=folder, port=port, auth=auth, worker=python, daemon=daemon, resource=resource, queues=queues
    )
    (folder / "qpud.conf").write_text(text)
    command = [sys.executable, "-m", "qpud", "serve", "--config", str(folder / "qpud.conf")]
    with _process(command, environment, log=folder / "log") as process:
        until(lambda: answers(port), 20, f"qpud, see {folder / 'log'}")
        yield Running(port, process.pid, folder / "qpud.sock")


@contextlib.contextmanager
def _process(
    command: list[str], environment: dict[str, str], log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb")) if log else subprocess.DEVNULL
        process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, stdout=output, stderr=output, cwd=ROOT
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=20)


def ask(running: Running, path: str, body: object = None, headers: dict[str, str] | None = None) -> object:
    """One JSON request over the Unix socket, as the user who runs the benchmark."""
    assert running.socket is not None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(running.socket))
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "host: x", "connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines += [f"content-length: {len(content)}", "", ""]
        connection.sendall("\r\n".join(lines).encode() + content)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, text = answer.partition(b"\r\n\r\n")
    if not head.split()[1].startswith(b"2"):
        raise RuntimeError(answer.decode())
    return text.decode() if b"text/plain" in head.lower() else json.loads(text)


def memory_mb(pid: int) -> float:
    """Resident memory of one process in MB (10⁶ bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(pid)


def cpu_seconds(pid: int) -> float:
    """User and system seconds of one process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
