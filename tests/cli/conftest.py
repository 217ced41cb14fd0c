"""A daemon that replays native JSON on a real Unix socket and TCP port, and the real command line as a subprocess."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

DEADLINE = 60.0


class Asked(NamedTuple):
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Any


Answer = Callable[[Asked], tuple[int, Any]]


class Replay:
    """Routes → answers; what was asked is kept. An answer of None drops the connection without a word."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "qpud.sock"
        self.asked: list[Asked] = []
        self._routes: dict[tuple[str, str], list[Answer]] = {}
        self._lock = threading.Lock()
        self._servers = [_UnixServer(str(self.socket), _handler(self)), _TcpServer(("127.0.0.1", 0), _handler(self))]
        self._threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in self._servers]
        for thread in self._threads:
            thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._servers[1].server_address[1]}"

    def on(self, method: str, path: str, *answers: Any, status: int = 200) -> None:
        """Answer a route; of several answers each serves once and the last one for ever."""
        ready = [answer if callable(answer) else (lambda _, answer=answer: (status, answer)) for answer in answers]
        self._routes[method, path] = ready

    def answer(self, asked: Asked) -> tuple[int, Any]:
        with self._lock:
            self.asked.append(asked)
            answers = self._routes.get((asked.method, asked.path))
            if not answers:
                return 404, {"detail": f"nothing at {asked.method} {asked.path}", "code": "not_found"}
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer(asked)

    def requests(self, method: str, path: str) -> list[Asked]:
        return [one for one in self.asked if (one.method, one.path) == (method, path)]

    def close(self) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join(DEADLINE)


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class _TcpServer(ThreadingHTTPServer):
    daemon_threads = True


def _handler(replay: Replay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self.client_address = ("local", 0)

        def handle_any(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            path, _, query = self.path.partition("?")
            body = json.loads(raw) if raw else None
            status, answer = replay.answer(Asked(self.command, path, query, dict(self.headers), body))
            if answer is None:
                self.close_connection = True
                return
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Replay]:
    replay = Replay(tmp_path)
    yield replay
    replay.close()


class Shell:
    """Runs `python -m qpud`, by default against one socket and with no other QPUD_* variable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("QPUD_", "QRMI_", "SLURM_"))
        }
        self.env = {**clean, "QPUD_SOCKET": str(folder / "qpud.sock"), "TZ": "UTC", "PYTHONWARNINGS": "error"}
        self.env["XDG_CONFIG_HOME"] = str(folder / "config")  # nothing of who runs the tests

    def __call__(self, *args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*args),
            input=stdin,
            env={**self.env, **env},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*args),
            env={**self.env, **env},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def argv(*args: str) -> list[str]:
        return [sys.executable, "-m", "qpud", *args]


@pytest.fixture
def qpud(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path)
    shell.env["PYTHONPATH"] = str(Path(__file__).parents[2])
    return shell
