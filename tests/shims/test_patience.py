"""The Pulser shim asks again what a daemon that has just started cannot tell yet."""

from __future__ import annotations

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

SHIM = Path(__file__).resolve().parents[2] / "sdk_shims" / "pulser"
SCRIPT = """
import sys
from qpud_pulser import QpudConnection
print(QpudConnection(qpu="X", url=sys.argv[1], token="t").resources())
"""
pytestmark = pytest.mark.worker


def test_an_answer_that_is_not_ready_is_asked_for_again(worker_python: Path) -> None:
    answers = [(503, {"detail": "not known yet"}), (200, {"resources": [{"name": "X"}]})]

    class Starting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, answer = answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    with HTTPServer(("127.0.0.1", 0), Starting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [worker_python, "-c", SCRIPT, f"http://127.0.0.1:{server.server_address[1]}"]
        done = subprocess.run(command, env={"PYTHONPATH": str(SHIM)}, capture_output=True, text=True, timeout=120)
        server.shutdown()
    assert done.stdout == "['X']\n", done.stderr
    assert not answers
