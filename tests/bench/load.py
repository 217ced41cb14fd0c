"""A small HTTP load generator: one request in flight per connection, bytes prepared before the clock starts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast


@dataclass
class Figures:
    """What one run gave. Rates are answers per second, times milliseconds."""

    rate: float
    p50: float
    p99: float
    answers: int
    statuses: dict[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.rate:7.0f}/s  p50 {self.p50:6.2f} ms  p99 {self.p99:7.2f} ms  {self.statuses}"


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], until: float, done: asyncio.Future[None]) -> None:
        self.requests, self.until, self.done = requests, until, done
        self.times: list[float] = []
        self.statuses: dict[int, int] = {}
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._next()

    def _next(self) -> None:
        request = None if time.perf_counter() > self.until else next(self.requests, None)
        if request is None:
            self.transport.close()
            return
        self._began = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        lowered = head.lower()
        at = lowered.index(b"content-length:") + 15
        length = int(lowered[at : lowered.index(b"\r", at) if b"\r" in lowered[at:] else None])
        if len(rest) < length:
            return
        self.times.append(time.perf_counter() - self._began)
        status = int(head[9:12])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self._buffer = b""
        self._next()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def closed_loop(port: int, requests: list[bytes], connections: int, seconds: float) -> Figures:
    """Send requests over `connections` for `seconds`, each as soon as the answer before it is in."""
    loop = asyncio.get_running_loop()
    source = iter(requests)
    began = time.perf_counter()
    running = []
    for _ in range(connections):
        done = loop.create_future()
        _transport, connection = await loop.create_connection(
            lambda done=done: _Connection(source, began + seconds, done), "127.0.0.1", port
        )
        running.append(connection)
    await asyncio.gather(*(connection.done for connection in running))
    took = time.perf_counter() - began
    return _figures(running, took)


async def open_loop(port: int, requests: list[bytes], rate: float) -> Figures:
    """Send one request every 1/rate seconds, whatever the answers do; latency counts from the planned moment."""
    loop = asyncio.get_running_loop()
    pool: asyncio.Queue[_Planned] = asyncio.Queue()
    connections = []
    for _ in range(16):
        _transport, connection = await loop.create_connection(_Planned, "127.0.0.1", port)
        connections.append(connection)
        pool.put_nowait(connection)
    began = time.perf_counter()

    async def one(number: int, request: bytes) -> None:
        planned = began + number / rate
        await asyncio.sleep(planned - time.perf_counter())
        connection = await pool.get()
        await connection.ask(request, planned)
        pool.put_nowait(connection)

    await asyncio.gather(*(one(number, request) for number, request in enumerate(requests)))
    took = time.perf_counter() - began
    for connection in connections:
        connection.transport.close()
    return _figures(connections, took)


class _Planned(_Connection):
    def __init__(self) -> None:
        super().__init__(iter(()), 0.0, asyncio.get_running_loop().create_future())
        self._answered: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    async def ask(self, request: bytes, planned: float) -> None:
        self._answered = asyncio.get_running_loop().create_future()
        self._began = planned
        self.transport.write(request)
        await self._answered

    def _next(self) -> None:
        if self._answered is not None:
            self._answered.set_result(None)


def _figures(connections: list[_Connection], took: float) -> Figures:
    times = sorted(1e3 * value for connection in connections for value in connection.times)
    statuses: dict[int, int] = {}
    for connection in connections:
        for status, number in connection.statuses.items():
            statuses[status] = statuses.get(status, 0) + number
    if not times:
        return Figures(0.0, 0.0, 0.0, 0, statuses)
    p99 = times[min(len(times) - 1, int(0.99 * len(times)))]
    return Figures(len(times) / took, times[len(times) // 2], p99, len(times), statuses)


def post(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of one POST."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body
