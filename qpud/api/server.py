"""uvicorn with what it lacks: the peer's uid, bounded headers, JSON refusals, and a stop that is ours to call."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Generator, Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from qpud.api.app import App
from qpud.site.peer import peer_credentials

KEEP_ALIVE_SECONDS = 75
STOP_SECONDS = 2
LARGEST_HEAD = 64 << 10  # bytes of request line and headers; httptools has no limit of its own
HEAD_SECONDS = 30.0  # from the first byte of a head to its end
BODY_SECONDS = 60.0  # from the end of a head to that of its body: nothing is known yet of who sends it
OVER_TCP, OF_ONE_USER, OF_ALL_USERS = 1 / 2, 1 / 4, 7 / 8  # of the open files: the rest is root's and our own


class WholeAnswers:
    """A transport that sends head and body of an answer together: apart they cost a packet and a wake-up more.

    Args:
        transport: What sends; everything but writing is left to it.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send, but keep a head back until more follows; `100 Continue` is an answer of its own."""
        if data.startswith(b"HTTP/1.1 ") and data[9:10] != b"1" and not self._head:
            self._head = data
        else:
            self._head, held = b"", self._head
            self._transport.write(held + data)

    def flush(self) -> None:
        """Send a head that nothing follows, as after HEAD."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Close after what was written."""
        self.flush()
        self._transport.close()


class Protocol(HttpToolsProtocol):
    """One connection."""

    uid: int | None = None  # of the peer; None over TCP
    _head_bytes = 0
    _in_head = True
    _in_body = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note who is at the other end of a Unix socket; close connections that never ask anything."""
        super().connection_made(transport)
        self.transport = WholeAnswers(transport)  # type: ignore[assignment]
        self.uid = peer_uid(transport.get_extra_info("socket"))
        if self.uid is not None:
            self.app_state = {**self.app_state, "peer_uid": self.uid}
        if self._is_one_too_many():
            self._refuse("503 Service Unavailable", "unavailable", "there are too many connections: close some")
        else:
            self._close_when_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._end_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; refuse a head or a body that does not end. What comes in one piece needs no timer."""
        self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_head:
            self._head_bytes = 0
        if not (self._in_head or self._in_body):
            self._end_deadline()
        elif self._head_bytes > LARGEST_HEAD:
            self.send_400_response(f"the request's head exceeds {LARGEST_HEAD} bytes")
        elif self._deadline is None and not self.transport.is_closing():
            self._start_deadline()

    def on_message_begin(self) -> None:
        """A request starts."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head has ended."""
        self._in_head, self._in_body = False, True
        self._end_deadline()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Its body has ended."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer has ended."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in JSON like everything else."""
        self._refuse("400 Bad Request", "bad_request", msg)

    def _refuse(self, status: str, code: str, sentence: str) -> None:
        body = f'{{"detail":"{sentence}","code":"{code}"}}'
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode("ascii", "replace"))
        self.transport.close()

    def _is_one_too_many(self) -> bool:
        """Whether the connection would leave too few files to others: nobody locks root out, or us out of the disk."""
        if self.uid == 0:
            return False
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        alike = sum(getattr(one, "uid", None) == self.uid for one in self.connections)
        share = OVER_TCP if self.uid is None else OF_ONE_USER
        return alike > share * files or len(self.connections) > OF_ALL_USERS * files

    def _start_deadline(self) -> None:
        seconds = HEAD_SECONDS if self._in_head else BODY_SECONDS
        late = "the request's head" if self._in_head else "the body"
        sentence = f"{late} did not arrive whole within {seconds:g} s"
        self._deadline = self.loop.call_later(seconds, self.send_400_response, sentence)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_when_idle(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)


def peer_uid(sock: Any) -> int | None:
    """The uid at the other end of a Unix socket; None on TCP."""
    return peer_credentials(sock).uid if sock is not None and sock.family == socket.AF_UNIX else None


class _Uvicorn(uvicorn.Server):
    """Handles no signals (it would raise them again at its end) and waits for the stop instead of polling for it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # keeps the Date header
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.stopping.wait()


class Server:
    """The HTTP server on sockets that the daemon has bound and that listen.

    Args:
        app: The application; its held requests are answered at the stop.
        sockets: Listening sockets, Unix and TCP; closed at the stop.
    """

    def __init__(self, app: App, sockets: Sequence[socket.socket]) -> None:
        self._app = app
        self._sockets = list(sockets)
        self._uvicorn = _Uvicorn(_config(app))

    async def run(self) -> None:
        """Serve until `stop`, or until cancelled; then answer what is under way and end within about two seconds."""
        serving = asyncio.create_task(self._uvicorn.serve(sockets=self._sockets), name="uvicorn")
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self.stop()
            await serving
            raise

    async def listening(self) -> None:
        """Return as soon as requests are answered."""
        await self._uvicorn.listening.wait()

    def stop(self) -> None:
        """Accept nothing more, answer what is held, end `run`."""
        self._app.release_waits()
        self._uvicorn.should_exit = True
        self._uvicorn.stopping.set()


def _config(app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        loop="none",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
