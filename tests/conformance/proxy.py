"""A network between client and daemon that loses replies: the request arrives, the answer does not."""

from __future__ import annotations

import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import httpx


class DropsReplies:
    """A reverse proxy on a port of its own.

    Args:
        upstream: Port of the daemon on 127.0.0.1.
        method: Requests whose replies may be lost.
        drops: How many of them are.
        instead: The status of a gateway that gives up: it closes the connection to the daemon once the request is
            sent, and answers this. None: the daemon's answer is taken, and the client's connection closed.
    """

    def __init__(self, upstream: int, method: str, drops: int, instead: int | None = None) -> None:
        self._instead = instead
        self.seen = 0
        """Requests with this method, those with a lost reply included."""
        self._upstream, self._method, self._drops = upstream, method, drops
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                outer._pass_on(self)

            do_GET = do_POST = do_DELETE = do_PUT = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self._server.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", 0))
        body = handler.rfile.read(length)
        headers = {
            name: value for name, value in handler.headers.items() if name.lower() not in ("host", "connection")
        }
        url = f"http://127.0.0.1:{self._upstream}{handler.path}"
        is_lost = self._is_lost(handler.command)
        if is_lost and self._instead is not None:
            daemon = HTTPConnection("127.0.0.1", self._upstream, timeout=60)
            daemon.request(handler.command, handler.path, body, headers)
            daemon.close()
            _send(handler, httpx.Response(self._instead, json={"status": "error"}))
            return
        with httpx.Client(trust_env=False, timeout=60) as client:
            reply = client.request(handler.command, url, content=body, headers=headers)
        if not is_lost:
            _send(handler, reply)

    def _is_lost(self, method: str) -> bool:
        if method != self._method:
            return False
        self.seen += 1
        return self.seen <= self._drops


def _send(handler: BaseHTTPRequestHandler, reply: httpx.Response) -> None:
    handler.send_response(reply.status_code)
    handler.send_header("Content-Type", reply.headers.get("content-type", "application/json"))
    handler.send_header("Content-Length", str(len(reply.content)))
    handler.end_headers()
    handler.wfile.write(reply.content)
