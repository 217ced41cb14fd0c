"""The Pulser shim keeps its token to the daemon it was given."""

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

SHIM = Path(__file__).resolve().parents[2] / "sdk_shims" / "pulser"
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from qpud_pulser import QpudConnection, QpudError
try:
    QpudConnection(qpu="X", url=sys.argv[2], token="qpud_secret").fetch_available_devices()
except QpudError as refused:
    print(refused)
"""
pytestmark = pytest.mark.worker


def test_a_redirect_is_not_followed(worker_python: Path) -> None:
    asked = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    with HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [worker_python, "-c", SCRIPT, SHIM, f"http://127.0.0.1:{server.server_address[1]}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        server.shutdown()
    assert done.stdout == "qpud answered 302: \n", done.stderr
    assert asked == ["/v1/resources/X/spec"]
