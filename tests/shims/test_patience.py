"""The Pulser shim asks a daemon that has just started again, and one that restarts."""

from __future__ import annotations

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

SHIM = Path(__file__).resolve().parents[2] / "sdk_shims" / "pulser"
CONNECT = """
import sys, qpud_pulser
qpud_pulser.WAIT_SECONDS, qpud_pulser.PACE_SECONDS = 5, 0.1
connection = qpud_pulser.QpudConnection(qpu="X", url=sys.argv[1], token="t")
"""
RESOURCES = {"resources": [{"name": "X"}]}
Answer = tuple[int, bytes] | None
pytestmark = pytest.mark.worker


def run(script: str, answers: list[Answer], python: Path) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a script against a daemon that gives these answers, then none; also the key of each request, "" without.

    None: it hangs up without a word.
    """
    keys = []

    class Daemon(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/v1/info":  # asked for after a body whose answer is lost: was it too large?
                answer = told(200, {"max_body_size": 1 << 20})
            else:
                keys.append(self.headers.get("Idempotency-Key", ""))
                answer = answers.pop(0) if answers else None
            if answer is not None:
                self.send_response(answer[0])
                self.send_header("Content-Length", "1000" if answer[1].endswith(b"...") else str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1])

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    with HTTPServer(("127.0.0.1", 0), Daemon) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [python, "-c", CONNECT + script, f"http://127.0.0.1:{server.server_address[1]}"]
        done = subprocess.run(command, env={"PYTHONPATH": str(SHIM)}, capture_output=True, text=True, timeout=120)
        server.shutdown()
    return done, keys


def told(status: int, body: object) -> Answer:
    return status, json.dumps(body).encode()


def test_an_answer_that_is_not_ready_is_asked_for_again(worker_python: Path) -> None:
    answers = [told(503, {"detail": "not known yet"}), told(200, RESOURCES)]
    done, _ = run("print(connection.resources())", answers, worker_python)
    assert done.stdout == "['X']\n", done.stderr
    assert not answers


@pytest.mark.parametrize("lost", [None, (200, b'{"half of an answer": ...')])
def test_an_answer_that_a_restart_lost_is_asked_for_again_under_the_same_key(
    worker_python: Path, lost: Answer
) -> None:
    script = "connection.resources(); print(connection.resources(), connection._post('/v1/batches', {})['id'])"
    answers = [told(200, RESOURCES), lost, told(200, RESOURCES), lost, told(201, {"id": "b"})]
    done, keys = run(script, answers, worker_python)
    assert done.stdout == "['X'] b\n", done.stderr
    assert "; asking again for 5 s" in done.stderr
    assert keys[3] == keys[4] != ""


@pytest.mark.parametrize(("before", "asked"), [([], 1), ([told(200, RESOURCES)], 3)], ids=["never seen", "gone"])
def test_a_daemon_that_is_not_there_is_waited_for_only_if_it_was(
    worker_python: Path, before: list[Answer], asked: int
) -> None:
    done, keys = run("while True: connection.resources()", list(before), worker_python)
    assert "QpudUnreachable: qpud does not answer at http://127.0.0.1:" in done.stderr
    assert len(keys) == 1 if asked == 1 else len(keys) >= asked
