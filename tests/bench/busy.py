"""How busy back-to-back jobs of 0.5 s keep the simulated QPU, and the gap between two slices.

    python tests/bench/busy.py [--jobs N]

Measured from outside, on the wall clock that the driver stamps slices with: busy is the sum of the slices over the
time from the first start to the last end. Two runs: one slice per job, and one long job of many slices.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from servers import SAMPLES, Running, ask, qpud

SLICE_SECONDS = 0.5


def stamp(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def wait_for_spec(server: Running) -> None:
    while '"spec_hash": null' in json.dumps(ask(server, "/v1/resources")):
        time.sleep(0.1)


def run(server: Running, jobs: list[int]) -> list[tuple[float, float]]:
    """Submit jobs of so many shots each in one batch; the slices in order of their start."""
    sequence = (SAMPLES / "valid_n04.json").read_text()
    session: Any = ask(server, "/v1/sessions", {"queue": "development"})
    headers = {"x-warden-session": session["token"]}
    accepted: Any = ask(server, "/v1/jobs", [{"sequence": sequence, "shots": shots} for shots in jobs], headers)
    slices = []
    for job in accepted:
        result: Any = {"job": {"state": ""}}
        while result["job"]["state"] != "DONE":
            result = ask(server, f"/v1/jobs/{job['id']}/result?wait=60")
        slices += [(stamp(one["started_at"]), stamp(one["ended_at"])) for one in result["slices"]]
    return sorted(slices)


def report(name: str, slices: list[tuple[float, float]]) -> bool:
    gaps = [1e3 * (later[0] - earlier[1]) for earlier, later in itertools.pairwise(slices)]
    busy = sum(end - start for start, end in slices) / (slices[-1][1] - slices[0][0])
    median = statistics.median(gaps)
    print(
        f"{name:24} {len(slices)} slices, busy {100 * busy:.2f} % (>= 99.5),"
        f" gap median {median:.2f} ms (< 5), longest {max(gaps):.2f} ms"
    )
    return busy >= 0.995 and median < 5


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, default=30)
    number = options.parse_args().jobs
    resource = f"ShotRate = {1 / SLICE_SECONDS}"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        queue = f"[queue development]\nSliceSeconds = {SLICE_SECONDS}\n"
        with qpud(Path(name), {}, resource=resource, queues=queue) as server:
            wait_for_spec(server)
            good = [
                report("jobs of one slice", run(server, [1] * number)),
                report("one job of many slices", run(server, [number])),
            ]
    return int(not all(good))


if __name__ == "__main__":
    raise SystemExit(main())
