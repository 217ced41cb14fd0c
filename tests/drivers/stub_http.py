"""A bare asyncio HTTP server for stubs of APIs, with faults on demand: half of them are ends of connections."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit


@dataclass
class Fault:
    """Happens once to a request that fits.

    Attributes:
        when: "before" the request takes effect, or "after".
        reply: Status and body to answer instead; None closes the connection without a word.
        delay: Seconds before that.
    """

    method: str
    path: str
    when: str = "before"
    reply: tuple[int, str] | None = None
    delay: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    genuine: bool = False  # only delayed


class StubServer:
    """Answers by `route`; everything that arrived is in `requests` and `authorizations`."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.requests: Counter[str] = Counter()  # "GET /jobs/{}" …
        self.authorizations: list[str | None] = []
        self.authorization: str | None = None  # required
        self.url = ""
        self.tasks: set[asyncio.Task[None]] = set()

    def fault(self, method: str, path: str, times: int = 1, **how: Any) -> None:
        """Let the next `times` requests go wrong; `path` is an ending such as "/jobs"."""
        self.faults += [Fault(method, path, **how) for _ in range(times)]

    def route(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """Status and JSON body of an answer."""
        raise NotImplementedError

    def template(self, path: str) -> str:
        """The path as it is counted."""
        return path

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line = await reader.readline()
        if not line:
            return False
        method, target, _ = line.decode().split()
        headers = await _headers(reader)
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        url = urlsplit(target)
        self.requests[f"{method} {self.template(url.path)}"] += 1
        self.authorizations.append(headers.get("authorization"))
        fault = self._fault_for(method, url.path)
        if fault is None or fault.when == "after" or fault.genuine:
            status, body = self._answer(method, url.path, parse_qs(url.query), raw, headers)
        if fault is not None:
            await asyncio.sleep(fault.delay)
        if fault is not None and not fault.genuine:
            if fault.reply is None:
                return False
            return await _send(writer, fault.reply[0], fault.reply[1], fault.headers)
        return await _send(writer, status, json.dumps(body), {})

    def _answer(self, method: str, path: str, query: Any, raw: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        if self.authorization is not None and headers.get("authorization") != self.authorization:
            return 401, {"detail": "Unauthorized"}
        return self.route(method, path, query, json.loads(raw) if raw else None)

    def _fault_for(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.method == method and path.endswith(fault.path):
                self.faults.remove(fault)
                return fault
        return None


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers = {}
    while (line := (await reader.readline()).decode().strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return headers


async def _send(writer: asyncio.StreamWriter, status: int, body: str, headers: dict[str, str]) -> bool:
    raw = body.encode()
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(raw)}\r\n{more}\r\n".encode() + raw)
    await writer.drain()
    return True


Stub = TypeVar("Stub", bound=StubServer)


@asynccontextmanager
async def running(stub: Stub) -> AsyncIterator[Stub]:
    """The stub on a free loopback port."""
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield stub
    finally:
        server.close()
        for task in stub.tasks:
            task.cancel()
        await asyncio.gather(*stub.tasks, return_exceptions=True)
