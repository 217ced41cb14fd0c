"""Size: the idle daemon, and the daemon with 100 000 pending jobs.

    python tests/bench/scale.py [--jobs N]

Resident memory and CPU of the daemon's own process (the worker is another one), memory per pending job, the time of
a page of GET /v1/jobs, the time of a decision of the very code that the daemon runs, and of starts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from busy import wait_for_spec
from servers import SAMPLES, Running, ask, cpu_seconds, memory_mb, qpud

IDLE_SECONDS = 20.0


def line(text: str, value: float, unit: str, limit: float) -> bool:
    print(f"{text:46} {value:9.3f} {unit:4} (< {limit:g})")
    return value < limit


def idle(server: Running) -> list[bool]:
    time.sleep(2)
    before = cpu_seconds(server.pid)
    time.sleep(IDLE_SECONDS)
    used = 100 * (cpu_seconds(server.pid) - before) / IDLE_SECONDS
    return [line("idle: resident memory", memory_mb(server.pid), "MB", 60), line("idle: CPU", used, "%", 0.5)]


def fill(server: Running, number: int) -> bool:
    session: Any = ask(server, "/v1/sessions", {"queue": "development"})
    headers = {"x-warden-session": session["token"]}
    sequence = (SAMPLES / "valid_n04.json").read_text()
    batch = [{"sequence": sequence, "shots": 100}] * 200
    ask(server, "/v1/jobs", batch, headers)
    before = memory_mb(server.pid)
    for _ in range(number // len(batch) - 1):
        ask(server, "/v1/jobs", batch, headers)
    return line("memory per pending job", (memory_mb(server.pid) - before) * 1e3 / number, "kB", 2)


def pages(server: Running) -> list[bool]:
    results = []
    for path in (
        "/v1/jobs",
        "/v1/jobs?state=PENDING&limit=100",
        "/v1/jobs?queue=development&before=50000",
        "/v1/queue",
    ):
        times = []
        for _ in range(20):
            began = time.perf_counter()
            ask(server, path)
            times.append(1e3 * (time.perf_counter() - began))
        results.append(line(f"GET {path}", statistics.median(times), "ms", 20))
    return results


def start(folder: Path, what: str, limit: float) -> bool:
    began = time.perf_counter()
    with qpud(folder, {}) as server:
        took = time.perf_counter() - began
        ask(server, "/readyz")
    return line(f"start to ready, {what}", took, "s", limit)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, default=100_000)
    number = options.parse_args().jobs
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        good = [start(folder, "empty", 1)]
        with qpud(folder, {}) as server:
            wait_for_spec(server)
            good += idle(server)
            good += [fill(server, number), *pages(server)]
        good += [start(folder, f"{number} pending jobs", 3)]
    return int(not all(good))


if __name__ == "__main__":
    raise SystemExit(main())
