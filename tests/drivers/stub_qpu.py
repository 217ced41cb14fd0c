"""A stub of the on-prem QPU API that answers as facts/CONTRACTS.md §8 reports, with faults on demand.

It is a bare asyncio server, because half of the faults are connections that end in the wrong moment.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

SPECS = {"version": "1", "name": "FRESNEL", "max_runs": 2000, "is_virtual": False, "channels": []}
HTML = "<html><body>Bad gateway</body></html>"


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


@dataclass
class Job:
    uid: Any
    body: dict[str, Any]
    posted_at: float
    created: datetime
    status: str = ""  # fixed, once it has ended or a test says so
    ended_at: float = 0.0
    result: Any = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def shots(self) -> int:
        return int(self.body["nb_run"])


class StubQpu:
    """One QPU with one job at a time: a POST cancels the job before it."""

    def __init__(self, shot_rate: float = 1000.0) -> None:
        self.shot_rate = shot_rate
        self.jobs: list[Job] = []
        self.faults: list[Fault] = []
        self.requests: Counter[str] = Counter()  # "GET /jobs/{}" …
        self.authorizations: list[str | None] = []
        self.overrun = 0  # jobs that a later submission cancelled: shots lost
        self.operational = "UP"
        self.specs: Any = SPECS
        self.lists = False  # GET /jobs?pasqman_job_id=
        self.stamps = True  # start_datetime and end_datetime
        self.first_uid = 0
        self.uid_of: Callable[[int], Any] = lambda number: number
        self.keep_context = True
        self.authorization: str | None = None  # required
        self.cancel_style = "plain"  # or "3003", "3003-in-200"
        self.result_of: Callable[[dict[str, int]], Any] = lambda counts: json.dumps({"counter": counts})
        self.program_status = "DONE"
        self.url = ""
        self.tasks: set[asyncio.Task[None]] = set()

    def fault(self, method: str, path: str, times: int = 1, **how: Any) -> None:
        """Let the next `times` requests go wrong; `path` is an ending such as "/jobs"."""
        self.faults += [Fault(method, path, **how) for _ in range(times)]

    def polls(self) -> int:
        return self.requests["GET /jobs/{}"]

    # -- the machine
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def advance(self, job: Job) -> None:
        if not job.status and self._now() >= job.posted_at + job.shots / self.shot_rate:
            job.ended_at = job.posted_at + job.shots / self.shot_rate
            job.status, job.result = "DONE", self.result_of(self.counts(job.shots))

    def counts(self, shots: int) -> dict[str, int]:
        return dict(Counter(random.choice(("00", "01", "10", "11")) for _ in range(shots)))

    def stop(self, job: Job) -> None:
        made = int((self._now() - job.posted_at) * self.shot_rate)
        job.status, job.ended_at = "CANCELED", self._now()
        job.result = self.result_of(self.counts(made)) if made else None

    def view(self, job: Job) -> dict[str, Any]:
        started = job.created if self.stamps else None
        ended = job.created + timedelta(seconds=job.ended_at - job.posted_at) if job.status and self.stamps else None
        return {
            "uid": job.uid,
            "datetime": job.created.isoformat(),
            "nb_run": job.shots,
            "pulser_sequence": job.body["pulser_sequence"],
            "result": job.result,
            "client_id": None,
            "program_id": 0,
            "program": None,
            "context": job.body["context"] if self.keep_context else None,
            "batch_id": "b",
            "status": job.status or "RUNNING",
            "created_datetime": job.created.isoformat(),
            "start_datetime": started and started.isoformat(),
            "end_datetime": ended and ended.isoformat(),
            "progress": None,
            **job.extra,
        }

    # -- routes
    def route(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        parts = path.removeprefix("/api/v1/").split("/")
        if parts == ["system", "operational"]:
            return _ok({"operational_status": self.operational})
        if parts == ["system"]:
            return _ok({"specs": self.specs})
        if parts[0] == "programs":
            return _ok({"id": 0, "status": self.program_status})
        if parts == ["jobs"]:
            return self._create(body) if method == "POST" else self._list(query)
        if parts[0] != "jobs":
            return 404, {"detail": "Not Found"}
        job = next((job for job in self.jobs if str(job.uid) == parts[1]), None)
        if job is None:
            return 400, {"detail": "Bad request"}
        self.advance(job)
        return self._cancel(job) if parts[2:] == ["cancel"] else _ok(self.view(job))

    def _create(self, body: dict[str, Any]) -> tuple[int, Any]:
        for job in self.jobs:
            self.advance(job)
            if not job.status:
                self.overrun += 1
                self.stop(job)
        uid = self.uid_of(self.first_uid + len(self.jobs))
        job = Job(uid, body, self._now(), datetime.now())
        self.jobs.append(job)
        return _ok({**self.view(job), "status": "PENDING"})

    def _list(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        if not self.lists:
            return 405, {"detail": "Method Not Allowed"}
        tags = query.get("pasqman_job_id", [])
        return _ok([self.view(job) for job in self.jobs if job.body["context"]["pasqman_job_id"] in tags])

    def _cancel(self, job: Job) -> tuple[int, Any]:
        refusal = {"code": "JOB3003", "data": {"status": "DONE", "code": "3003"}, "status": "fail"}
        if self.cancel_style == "3003":
            return 400, refusal
        if self.cancel_style == "3003-in-200":
            return 200, {**refusal, "code": 400}
        if not job.status:
            self.stop(job)
        return _ok(self.view(job))

    # -- HTTP
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
        self.requests[f"{method} {_template(url.path)}"] += 1
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


def _ok(data: Any) -> tuple[int, Any]:
    return 200, {"code": 200, "message": "OK.", "data": data, "status": "success"}


def _template(path: str) -> str:
    parts = path.removeprefix("/api/v1").split("/")
    return "/".join("{}" if number == 2 and parts[1] == "jobs" else part for number, part in enumerate(parts))


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


@asynccontextmanager
async def stub_qpu(**settings: Any) -> AsyncIterator[StubQpu]:
    """A running stub on a free loopback port."""
    stub = StubQpu(**settings)
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield stub
    finally:
        server.close()
        for task in stub.tasks:
            task.cancel()
        await asyncio.gather(*stub.tasks, return_exceptions=True)
