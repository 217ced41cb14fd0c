"""A stub of the on-prem QPU API that answers as facts/CONTRACTS.md §8 reports, with faults on demand."""

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

from tests.drivers.stub_http import StubServer, running

SPECS = {"version": "1", "name": "FRESNEL", "max_runs": 2000, "is_virtual": False, "channels": []}
HTML = "<html><body>Bad gateway</body></html>"


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


class StubQpu(StubServer):
    """One QPU with one job at a time: a POST cancels the job before it."""

    def __init__(self, shot_rate: float = 1000.0) -> None:
        super().__init__()
        self.shot_rate = shot_rate
        self.jobs: list[Job] = []
        self.overrun = 0  # jobs that a later submission cancelled: shots lost
        self.operational = "UP"
        self.specs: Any = SPECS
        self.lists = False  # GET /jobs?pasqman_job_id=
        self.stamps = True  # start_datetime and end_datetime
        self.first_uid = 0
        self.uid_of: Callable[[int], Any] = lambda number: number
        self.keep_context = True
        self.cancel_style = "plain"  # or "3003", "3003-in-200"
        self.result_of: Callable[[dict[str, int]], Any] = lambda counts: json.dumps({"counter": counts})
        self.program_status = "DONE"

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

    def template(self, path: str) -> str:
        parts = path.removeprefix("/api/v1").split("/")
        return "/".join("{}" if number == 2 and parts[1] == "jobs" else part for number, part in enumerate(parts))

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


def _ok(data: Any) -> tuple[int, Any]:
    return 200, {"code": 200, "message": "OK.", "data": data, "status": "success"}


@asynccontextmanager
async def stub_qpu(**settings: Any) -> AsyncIterator[StubQpu]:
    """A running stub on a free loopback port."""
    async with running(StubQpu(**settings)) as stub:
        yield stub
