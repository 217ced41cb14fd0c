"""A stub of the Pasqal cloud that answers as facts/CONTRACTS.md §3 and §4 report, with faults on demand.

Batches queue and run one after the other. Results lie on a host of their own, which refuses to be shown a token.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from tests.drivers.stub_http import StubServer, running

SPECS = '{"version": "1", "name": "FRESNEL", "max_runs": 2000, "is_virtual": false, "channels": []}'
PREFIX = "/core-fast/api/"


@dataclass
class Batch:
    body: dict[str, Any]
    at: float
    created: datetime
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    job_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = ""  # fixed, once it has ended or a test says so
    ended_at: float = 0.0
    counts: dict[str, int] | None = None
    errors: list[str] | None = None

    @property
    def shots(self) -> int:
        return int(self.body["jobs"][0]["runs"])


class StubCloud(StubServer):
    """One device of the cloud."""

    def __init__(self, shot_rate: float = 1000.0) -> None:
        super().__init__()
        self.shot_rate = shot_rate
        self.batches: list[Batch] = []
        self.forms: list[dict[str, str]] = []  # what was posted to the token endpoint
        self.token = "token-1"
        self.expires_in: Any = 3600
        self.refusal: tuple[int, Any] | None = None  # of the token endpoint
        self.availability = "ACTIVE"
        self.specs: Any = {"FRESNEL": SPECS}
        self.public: Any = [{"device_type": "EMU_MPS", "specs": SPECS}]
        self.embeds_jobs = True  # a batch shows its jobs
        self.shows_tags = True
        self.filters = True  # by tag
        self.stamps = True
        self.page = 100
        self.link: Any = None  # in place of the real one
        self.late = 0  # so often the link of a finished job is null
        self.seen_on_results: list[str | None] = []
        self.object: Any = None  # in place of the counts

    # -- the machine
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def advance(self, batch: Batch) -> None:
        if not batch.status and self._now() >= batch.at + batch.shots / self.shot_rate:
            batch.ended_at = batch.at + batch.shots / self.shot_rate
            batch.status, batch.counts = "DONE", self.draw(batch.shots)

    def draw(self, shots: int) -> dict[str, int]:
        return dict(Counter(random.choice(("00", "01", "10", "11")) for _ in range(shots)))

    def stop(self, batch: Batch) -> None:
        made = int((self._now() - batch.at) * self.shot_rate)
        batch.status, batch.ended_at = "CANCELED", self._now()
        batch.counts = self.draw(made) if made else None

    # -- views
    def view(self, batch: Batch) -> dict[str, Any]:
        found = {
            "id": batch.id,
            "open": False,
            "complete": True,
            "created_at": batch.created.isoformat(),
            "updated_at": batch.created.isoformat(),
            "device_type": batch.body["device_type"],
            "project_id": batch.body["project_id"],
            "user_id": "user",
            "status": batch.status or "RUNNING",
            "job_ids": [batch.job_id],
            "sequence_builder": batch.body["sequence_builder"],
        }
        jobs = {"jobs": [self.job_view(batch)]} if self.embeds_jobs else {}
        return found | jobs | ({"tags": batch.body["tags"]} if self.shows_tags else {})

    def job_view(self, batch: Batch) -> dict[str, Any]:
        ended = batch.created + timedelta(seconds=batch.ended_at - batch.at)
        return {
            "id": batch.job_id,
            "batch_id": batch.id,
            "project_id": batch.body["project_id"],
            "status": batch.status or "RUNNING",
            "runs": batch.shots,
            "created_at": batch.created.isoformat(),
            "updated_at": batch.created.isoformat(),
            "errors": batch.errors,
            "start_timestamp": batch.created.isoformat() if self.stamps else None,
            "end_timestamp": ended.isoformat() if self.stamps and batch.ended_at else None,
        }

    # -- routes
    def template(self, path: str) -> str:
        ids = {one for batch in self.batches for one in (batch.id, batch.job_id)}
        return "/".join("{}" if part in ids else part for part in path.removeprefix(PREFIX).split("/"))

    def _answer(self, method: str, path: str, query: Any, raw: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        if path == "/oauth/token":
            return self._login({key: values[0] for key, values in parse_qs(raw.decode()).items()})
        if path.startswith("/results/"):
            self.seen_on_results.append(headers.get("authorization"))
            return self._object(path.removeprefix("/results/"))
        if headers.get("authorization") != f"Bearer {self.token}":
            return 401, _fail(401, "Unauthorized", "token is expired")
        return super()._answer(method, path, query, raw, headers)

    def _login(self, form: dict[str, str]) -> tuple[int, Any]:
        self.forms.append(form)
        if self.refusal is not None:
            return self.refusal
        return 200, {"access_token": self.token, "expires_in": self.expires_in, "token_type": "Bearer"}

    def _object(self, job_id: str) -> tuple[int, Any]:
        batch = next(batch for batch in self.batches if batch.job_id == job_id)
        return self.object or (200, {"counter": batch.counts, "raw": []})

    def route(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        parts = path.removeprefix(PREFIX).split("/")
        if parts[1] == "devices":
            return self._devices(parts[2:], query)
        if parts[1:] == ["batches"]:
            return self._create(body) if method == "POST" else self._list(query)
        if parts[1:] == ["jobs"]:
            found = [batch for batch in self.batches if batch.id in query["batch_id"]]
            return _ok([self.job_view(batch) for batch in found])
        batch = next((one for one in self.batches if parts[2] in (one.id, one.job_id)), None)
        if batch is None:
            return 404, _fail(404, "Not found", "no such object")
        self.advance(batch)
        return self._of(batch, parts[1], parts[3:])

    def _of(self, batch: Batch, kind: str, verb: list[str]) -> tuple[int, Any]:
        if verb == ["cancel"]:
            return self._cancel(batch)
        if verb == ["results_link"]:
            return self._link(batch)
        return _ok(self.view(batch) if kind == "batches" else self.job_view(batch))

    def _devices(self, rest: list[str], query: dict[str, list[str]]) -> tuple[int, Any]:
        if rest == ["specs"]:
            return _ok(self.specs)
        if rest == ["public-specs"]:
            return _ok(self.public)
        return _ok([{"device_type": query["device_type"][0], "status": "UP", "availability": self.availability}])

    def _create(self, body: dict[str, Any]) -> tuple[int, Any]:
        busy = [batch.at + batch.shots / self.shot_rate for batch in self.batches if not batch.status]
        batch = Batch(body, max([self._now(), *busy]), datetime.now(UTC))
        self.batches.append(batch)
        return _ok({**self.view(batch), "status": "PENDING"})

    def _list(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        offset = int(query["offset"][0])
        wanted = [one for one in self.batches if not self.filters or query["tag"][0] in one.body["tags"]]
        shown = wanted[offset : offset + self.page]
        status, body = _ok([self.view(batch) for batch in shown])
        return status, {**body, "pagination": {"total": len(wanted), "start": offset, "end": offset + len(shown)}}

    def _cancel(self, batch: Batch) -> tuple[int, Any]:
        if batch.status:
            return 409, _fail(409, "Conflict", f"a batch that is {batch.status} cannot be canceled")
        self.stop(batch)
        return _ok(self.view(batch))

    def _link(self, batch: Batch) -> tuple[int, Any]:
        link = f"{self.url}/results/{batch.job_id}" if batch.counts else None
        if self.late:
            self.late, link = self.late - 1, None
        return _ok({"results_link": self.link or link})


def _ok(data: Any) -> tuple[int, Any]:
    return 200, {"code": 200, "message": "OK.", "data": data, "status": "success"}


def _fail(code: int, message: str, description: str) -> dict[str, Any]:
    return {"status": "fail", "code": str(code), "message": message, "data": {"description": description}}


@asynccontextmanager
async def stub_cloud(**settings: Any) -> AsyncIterator[StubCloud]:
    """A running stub on a free loopback port."""
    async with running(StubCloud(**settings)) as stub:
        yield stub
