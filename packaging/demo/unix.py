"""GET from a daemon over its Unix socket, with the standard library."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("qpud", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(socket_path: Path, path: str, timeout: float = 60.0) -> Any:
    """The JSON of an answer. Raises: OSError when there is none, or it is a refusal."""
    connection = UnixConnection(socket_path, timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise OSError(f"GET {path}: {answer.status} {body.decode(errors='replace')}")
    return json.loads(body)
