"""Crashes at random moments: no accepted job is lost, no shot runs or counts twice, the ledger agrees."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sqlite3
from itertools import repeat
from pathlib import Path

import pytest

from qpud.core.errors import QpudError
from qpud.core.identity import Identity
from qpud.core.job import Job, JobState
from qpud.core.report import Group, ReportFilter
from qpud.core.session import Session
from qpud.core.terms import PreemptMode
from qpud.store import ledger as ledger_sql
from tests.daemon.builders import ALICE, BOB, DONE, Site, a_life, a_policy, sums, until, with_queue
from tests.daemon.qpu import Qpu
from tests.daemon.test_slices import every_shot_once
from tests.store.builders import a_store

QUEUES = ("production", "test", "development")
CRASHES = 12
CHARGED = "SELECT total(qpu_seconds) + total(wasted_seconds) FROM ledger"
SPENT = "SELECT total(qpu_seconds) FROM slices"


class Load:
    """Users who submit, cancel, hold, release and close sessions, and remember what was acknowledged."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.accepted: dict[int, int] = {}  # job → shots
        self.finished: set[int] = set()  # jobs that were told to have ended
        self.keys = 0

    async def run(self, site: Site) -> None:
        """Be a nuisance until cancelled."""
        async with asyncio.TaskGroup() as users:
            for who in (ALICE, BOB):
                users.create_task(self._user(site, who))

    async def _user(self, site: Site, who: Identity) -> None:
        session: Session | None = None
        while True:
            with contextlib.suppress(QpudError):
                if session is None or self.random.random() < 0.03:
                    if session is not None:
                        await site.service.close_session(who, session.id)
                    session = await site.session(who, self.random.choice(QUEUES))
                await self._act(site, who, session)
            for _ in range(self.random.randrange(20)):
                await asyncio.sleep(0)
            await asyncio.sleep(self.random.random() * 0.003)

    async def _act(self, site: Site, who: Identity, session: Session) -> None:
        self.keys += 1
        shots = self.random.randrange(1, 45)
        job = await site.submit(session, shots, who=who, key=str(self.keys))
        self.accepted[job.id] = shots
        others = [known for known in site.book.jobs.values() if known.user_id == who.user_id]
        if others and self.random.random() < 0.4:
            ref = str(self.random.choice(others).id)
            verb = self.random.choice([site.service.cancel_job, site.service.hold_job, site.service.release_job])
            answer = await verb(who, ref)
            if isinstance(answer, Job) and answer.is_terminal:
                self.finished.add(answer.id)


async def a_day(path: Path, seed: int, mode: PreemptMode) -> tuple[Qpu, Load]:
    """Lives of a daemon that crash under load at random moments, and a last one that brings everything to its end."""
    seconds = 0.004 if mode is PreemptMode.REQUEUE else 0.0005  # long enough to be cut
    qpu, load, chance = Qpu(seconds, cuts=True), Load(seed), random.Random(seed)
    policy = with_queue(with_queue(a_policy(), "development", preempt_mode=mode), "test", preempt_mode=mode)
    for _ in range(CRASHES):
        site = await a_life(path, qpu, policy=policy)
        site.start()
        users = asyncio.create_task(load.run(site))
        await asyncio.sleep(chance.random() * 0.06)
        qpu.away = chance.random() < 0.2
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        users.cancel()
        await site.crash(lose_queued=chance.random() < 0.7)
        await asyncio.gather(users, return_exceptions=True)
        qpu.away = False
    await _bring_to_the_end(path, qpu)
    return qpu, load


async def _bring_to_the_end(path: Path, qpu: Qpu) -> None:
    site = await a_life(path, qpu)
    site.start()
    try:
        for job in list(site.book.jobs.values()):
            with contextlib.suppress(QpudError):
                await site.service.release_job(ALICE if job.user_id == ALICE.user_id else BOB, str(job.id))
        await until(lambda: not site.book.jobs, 30)
    finally:
        await site.stop()


def stored(path: Path, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path / "state.sqlite")) as database:
        return database.execute(statement).fetchall()


@pytest.mark.parametrize(
    ("mode", "seed"),
    [
        *zip(repeat(PreemptMode.SLICE), range(4), strict=False),
        *zip(repeat(PreemptMode.REQUEUE), range(3), strict=False),
    ],
)
async def test_crashes_at_random_moments_lose_nothing_and_count_nothing_twice(
    tmp_path: Path, mode: PreemptMode, seed: int
) -> None:
    async with asyncio.timeout(40):
        qpu, load = await a_day(tmp_path, seed, mode)
    jobs = {
        int(str(row[0])): row[1:] for row in stored(tmp_path, "SELECT id, state, shots, shots_done, counts FROM jobs")
    }
    assert load.accepted.items() <= {job_id: row[1] for job_id, row in jobs.items()}.items()
    assert {row[0] for row in jobs.values()} <= {"DONE", "CANCELED"}
    assert max(qpu.ran.values()) == 1, "a shot ran twice"
    ledger, slices, done = sums(tmp_path)
    assert ledger == slices == done == sum(qpu.ran.values())
    assert await reported(tmp_path) == {ledger}
    charged, spent = (stored(tmp_path, statement)[0][0] for statement in (CHARGED, SPENT))
    assert charged == pytest.approx(spent), "every QPU second is charged or wasted"
    assert len(jobs) > 10
    for job_id, (state, shots, shots_done, counts) in jobs.items():
        made = sorted(shot for job, shot in qpu.ran if job == job_id)
        assert made == list(range(int(str(shots_done)))), job_id
        if state == DONE:
            assert json.loads(str(counts))["counter"] == every_shot_once(int(str(shots)))
    assert not stored(tmp_path, "SELECT 1 FROM slices WHERE state IN ('INTENT', 'RUNNING', 'UNKNOWN')")
    assert not stored(tmp_path, "SELECT 1 FROM jobs WHERE reason = 'Canceling'")


async def reported(path: Path) -> set[int]:
    """The shots of all rows, and of the total, of reports grouped by each thing and by everything."""
    shots = set()
    async with a_store(path) as store:
        for by in (*((group,) for group in Group), tuple(Group)):
            report = await ledger_sql.report(store, ReportFilter(by=by, limit=10_000))
            shots |= {sum(row.charges.shots for row in report.rows), report.total.shots}
    return shots


async def test_a_key_sent_again_after_a_crash_makes_no_second_job(tmp_path: Path) -> None:
    async with asyncio.timeout(40):
        await _ask_and_crash(tmp_path)
    assert stored(tmp_path, "SELECT count(*) FROM jobs") == [(15,)]
    assert sums(tmp_path) == (150, 150, 150)


async def _ask_and_crash(path: Path) -> None:
    qpu = Qpu(seconds=0.0)
    for seed in range(15):
        chance = random.Random(seed)
        site = await a_life(path, qpu)
        site.start()
        session = await site.session(slurm_job_id="7")
        asking = asyncio.create_task(site.submit(session, 10, key=f"key {seed}"))
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        asking.cancel()
        await site.crash(lose_queued=chance.random() < 0.5)
        await asyncio.gather(asking, return_exceptions=True)
        site = await a_life(path, qpu)
        site.start()
        job = await site.end(await site.submit(session, 10, key=f"key {seed}"))
        assert job.state is JobState.DONE
        await site.stop()
