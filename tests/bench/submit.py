"""Durable submissions per second: qpud against the bare stack, in one run.

    python tests/bench/submit.py [--seconds OF_ONE_ROUND]

Both decode munge, commit with fsync and share commits; the bare stack does nothing else. Rates at 1, 8 and 32
connections, for one repeated sequence and for all-distinct ones, by munge and by session token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from load import Figures, closed_loop, open_loop, post
from servers import SAMPLES, Running, ask, bare, munged, qpud

from qpud.site.munge import Munge

CONNECTIONS = (1, 8, 32)
ROUNDS = 5
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


@dataclass
class Contender:
    """One way of submitting: where, with which headers, with munge or not; and what its rounds gave."""

    name: str
    server: Running
    headers: dict[str, str]
    munge: Munge | None
    rounds: list[Figures] = field(default_factory=list)

    @property
    def typical(self) -> Figures:
        """The round with the median rate."""
        return sorted(self.rounds, key=lambda one: one.rate)[len(self.rounds) // 2]


async def race(contenders: list[Contender], connections: int, distinct: bool, seconds: float, offset: int) -> int:
    """Rounds of `seconds` in turn, so that a machine that slows down slows all of them; returns the next offset."""
    number = int(seconds * 4500)
    for contender in contenders * ROUNDS:
        prepared = requests(distinct, number, contender.headers, contender.munge, offset)
        offset += number
        contender.rounds.append(await closed_loop(contender.server.port, prepared, connections, seconds))
    return offset


async def steady(running: Running, headers: dict[str, str], munge: Munge) -> Figures:
    return await open_loop(running.port, requests(False, 1500, headers, munge, 0), 100.0)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=1.0, help="of one round")
    seconds = options.parse_args().seconds
    place = os.environ.get("QPUD_BENCH_DIR", "/var/tmp")
    with tempfile.TemporaryDirectory(dir=place) as name, munged(Path(name)) as socket:
        os.environ["QPUD_MUNGE_SOCKET"] = str(socket)
        good = [compare(fresh(Path(name), f"distinct-{distinct}"), distinct, seconds) for distinct in (False, True)]
    return int(not all(good))


def compare(folder: Path, distinct: bool, seconds: float) -> bool:
    """Race the bare stack, qpud by munge and qpud by token; whether every limit is kept."""
    print(f"-- {'all-distinct sequences' if distinct else 'one repeated sequence'}, median of {ROUNDS} rounds in turn")
    munge, offset, good = Munge(), 0, True
    with bare(fresh(folder, "bare"), {}) as base, qpud(fresh(folder, "qpud"), {}, auth="munge") as server:
        token = str(ask(server, "/v1/sessions", {"queue": "development"})["token"])  # type: ignore[index]
        asyncio.run(warm_up(server, {"x-warden-session": token}, munge))
        for connections in CONNECTIONS:
            contenders = [
                Contender("bare", base, {}, munge),
                Contender("munge", server, {"x-warden-session": token}, munge),
                Contender("token", server, {"authorization": f"Bearer {token}"}, None),
            ]
            offset = uvloop.run(race(contenders, connections, distinct, seconds, offset))
            good &= report(connections, contenders)
        if not distinct:
            calm = uvloop.run(steady(server, {"x-warden-session": token}, munge))
            print(f"    100/s  {calm}  (p99 < 12.7 ms)")
            good &= calm.p99 < 12.7
    return good


def report(connections: int, contenders: list[Contender]) -> bool:
    """Print one row of the comparison."""
    for contender in contenders:
        print(f"{connections:3} {contender.name:6} {contender.typical}")
    bare_rate, munge_rate, token_rate = (contender.typical.rate for contender in contenders)
    ratio, peer = munge_rate / bare_rate, munge_rate / PEER[connections]
    print(
        f"    qpud / bare {ratio:.2f} (>= 0.75), by token {token_rate / bare_rate:.2f},"
        f" qpud / the peer's recorded rate {peer:.1f} (>= {NEEDED[connections]:.0f})"
    )
    return ratio >= 0.75 and peer >= NEEDED[connections] and token_rate > munge_rate


async def warm_up(server: Running, headers: dict[str, str], munge: Munge) -> None:
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
