"""Durable submissions per second: qpud against the bare stack, in one run.

    python tests/bench/submit.py [--seconds N]

Both decode munge, commit with fsync and share commits; the bare stack does nothing else. Rates at 1, 8 and 32
connections, for one repeated sequence and for all-distinct ones, by munge and by session token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from pathlib import Path

import uvloop
from load import Figures, closed_loop, open_loop, post
from servers import SAMPLES, Running, ask, bare, munged, qpud

from qpud.site.munge import Munge

CONNECTIONS = (1, 8, 32)
PEER = {1: 180, 8: 190, 32: 175}  # per second, facts/BASELINE.md: measured earlier, not in this run
NEEDED = {1: 5.0, 8: 8.0, 32: 8.0}


def bodies(distinct: bool, number: int, offset: int = 0) -> list[bytes]:
    text = (SAMPLES / "valid_n04.json").read_text()
    if not distinct:
        return [json.dumps({"sequence": text, "shots": 100}).encode()] * number
    head, tail = text.split("11.309733552923255", 1)
    texts = (f"{head}{11 + (offset + one) * 1e-7:.12f}{tail}" for one in range(number))
    return [json.dumps({"sequence": text, "shots": 100}).encode() for text in texts]


def requests(distinct: bool, number: int, headers: dict[str, str], munge: Munge | None, offset: int) -> list[bytes]:
    return [
        post("/jobs", body, headers | ({"x-munge-cred": munge.encode()} if munge else {}))
        for body in bodies(distinct, number, offset)
    ]


async def measure(
    running: Running, headers: dict[str, str], distinct: bool, munge: Munge | None, seconds: float
) -> dict[int, Figures]:
    results = {}
    for step, connections in enumerate(CONNECTIONS):
        number = int(seconds * 5000)
        prepared = requests(distinct, number, headers, munge, step * number)
        await closed_loop(running.port, prepared[:200], connections, seconds)
        results[connections] = await closed_loop(running.port, prepared[200:], connections, seconds)
    return results


async def steady(running: Running, headers: dict[str, str], munge: Munge) -> Figures:
    return await open_loop(running.port, requests(False, 1500, headers, munge, 0), 100.0)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=4.0)
    seconds = options.parse_args().seconds
    failures = 0
    with (
        tempfile.TemporaryDirectory(dir=os.environ.get("QPUD_BENCH_DIR", "/var/tmp")) as name,
        munged(Path(name)) as socket,
    ):
        folder, environment = Path(name), {"QPUD_MUNGE_SOCKET": str(socket)}
        os.environ.update(environment)
        munge = Munge()
        for distinct in (False, True):
            print(f"-- {'all-distinct sequences' if distinct else 'one repeated sequence'}")
            with bare(fresh(folder, f"bare{distinct}"), environment) as server:
                base = uvloop.run(measure(server, {}, distinct, munge, seconds))
            with qpud(fresh(folder, f"qpud{distinct}"), environment, auth="munge") as server:
                token = str(ask(server, "/v1/sessions", {"queue": "development"})["token"])  # type: ignore[index]
                headers = {"x-warden-session": token}
                asyncio.run(closed_loop_once(server, headers, munge))
                mine = uvloop.run(measure(server, headers, distinct, munge, seconds))
                tokens = uvloop.run(measure(server, {"authorization": f"Bearer {token}"}, distinct, None, seconds))
                calm = uvloop.run(steady(server, headers, munge)) if not distinct else None
            for number in CONNECTIONS:
                ratio, peer = mine[number].rate / base[number].rate, mine[number].rate / PEER[number]
                failures += ratio < 0.75
                print(f"{number:3} bare   {base[number]}\n    munge  {mine[number]}\n    token  {tokens[number]}")
                print(
                    f"    qpud / bare {ratio:.2f} (>= 0.75),"
                    f" qpud / peer's recorded rate {peer:.1f} (>= {NEEDED[number]:.0f})"
                )
            if calm:
                failures += calm.p99 > 12.7
                print(f"    100/s  {calm}  (p99 < 12.7 ms)")
    return min(failures, 1)


async def closed_loop_once(server: Running, headers: dict[str, str], munge: Munge) -> None:
    """Warm up until the worker has told the device spec: later submissions get their verdict at once."""
    for _ in range(200):
        view = ask(server, "/v1/resources")
        if '"spec_hash": null' not in json.dumps(view):
            break
        await asyncio.sleep(0.1)
    await closed_loop(server.port, requests(False, 50, headers, munge, 0), 1, 5.0)


def fresh(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    return path


if __name__ == "__main__":
    raise SystemExit(main())
