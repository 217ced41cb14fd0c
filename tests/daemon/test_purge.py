"""PurgeJobAfter: what ended long ago is as if it never was; what is needed stays, and accounting as it was."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qpud.core import verbs
from qpud.core.errors import NotFound, Unavailable
from qpud.core.job import Job
from qpud.core.policy import Policy
from qpud.core.report import Group, ReportFilter
from qpud.core.session import Session
from qpud.core.terms import UNLIMITED_SECONDS
from qpud.core.usage import of_account, of_user
from qpud.core.verbs import JobRequest, OpenBatch
from qpud.daemon import _recall_usage
from qpud.service import purge as service_purge
from qpud.service.purge import EVERY_SECONDS, RETRY_SECONDS
from qpud.store import ledger, purge, releases
from tests.daemon.builders import ALICE, BOB, DONE, ROOT, SEQUENCE, Clock, Site, a_life, a_policy, a_site, until
from tests.daemon.qpu import Qpu
from tests.store.builders import stored

DAY = 86400.0


def a_sequence(number: int) -> str:
    return SEQUENCE.replace('"test"', f'"test {number}"')


OTHER = a_sequence(0)


def a_keeping_policy(days: float = 90.0, **changes: Any) -> Policy:
    """Sessions and batches stay open, so that only what has ended is old."""
    endless = dict.fromkeys(("session_idle_timeout", "session_max_lifetime", "batch_idle_timeout"), UNLIMITED_SECONDS)
    return a_policy(**{**endless, "purge_job_after": days * DAY, **changes})


@asynccontextmanager
async def a_keeping_site(
    path: Path, policy: Policy, qpu: Qpu | None = None, clock: Clock | None = None
) -> AsyncIterator[Site]:
    """A daemon whose QPU goes by its clock."""
    qpu, clock = qpu or Qpu(seconds=0.0), clock or Clock()
    qpu.now = clock
    async with a_site(path, qpu, policy=policy, clock=clock) as site:
        yield site


async def aged(site: Site, *jobs: Job, days: float = 91.0) -> None:
    """Let jobs end, let days pass, and let one more job be the last of all, which is always kept."""
    await site.ended(*jobs)
    site.clock.forward(days * DAY)
    await site.end(await site.submit(await site.session(BOB), who=BOB, sequence=OTHER))


async def is_gone(site: Site, job: Job) -> bool:
    try:
        await site.job(job)
    except NotFound:
        return True
    return False


def purged_jobs(site: Site) -> float:
    return site.context.metrics.registry.get_sample_value("qpud_jobs_purged_total") or 0.0


def without_text(path: Path) -> list[int]:
    """Jobs and batches that name a sequence of which nobody has the text."""
    named = "SELECT sequence_hash FROM jobs UNION SELECT sequence_hash FROM batches WHERE sequence_hash IS NOT NULL"
    return stored(path, f"SELECT * FROM ({named}) WHERE sequence_hash NOT IN (SELECT hash FROM sequences)")


async def test_a_purged_job_is_one_that_never_was(tmp_path: Path) -> None:
    async with a_keeping_site(tmp_path, a_keeping_policy()) as site:
        old = await site.submit(await site.session())
        await aged(site, old)
        gone = await site.purge.sweep()
        assert (gone["jobs"], purged_jobs(site)) == (1, 1.0)
        ref, missing = str(old.id), f"job {old.id} does not exist"
        for verb in (site.service.get_job, site.service.job_logs, site.service.result, site.service.bundle):
            with pytest.raises(NotFound, match=missing):
                await verb(ALICE, ref)  # type: ignore[operator]
        for verb in (site.service.cancel_job, site.service.hold_job, site.service.results_text):
            with pytest.raises(NotFound, match=f"job {old.uid} does not exist"):
                await verb(ALICE, old.uid)
        assert (await site.service.list_jobs(ALICE, verbs.JobFilter())).jobs == []
        with pytest.raises(NotFound, match="batch"):
            await site.service.get_batch(ALICE, old.uid)


async def test_a_job_is_kept_as_long_as_was_promised(tmp_path: Path) -> None:
    async with a_keeping_site(tmp_path, a_keeping_policy()) as site:
        young = await site.submit(await site.session())
        await aged(site, young, days=89.9)
        await site.purge.sweep()
        assert not await is_gone(site, young)


async def test_nothing_is_purged_unless_the_site_asks_for_it(tmp_path: Path) -> None:
    async with a_keeping_site(tmp_path, a_keeping_policy(purge_job_after=a_policy().daemon.purge_job_after)) as site:
        old = await site.submit(await site.session())
        await aged(site, old, days=3650.0)
        site.context.retain()
        await site.purge.sweep()
        assert not await is_gone(site, old)


async def test_a_reload_purges_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "qpud.service.purge")
    async with a_keeping_site(tmp_path, a_keeping_policy(days=100.0)) as site:
        old = await site.submit(await site.session())
        await aged(site, old)
        daemon = msgspec.structs.replace(site.context.policy.daemon, purge_job_after=90 * DAY)
        site.service._apply(msgspec.structs.replace(site.context.policy, daemon=daemon))
        await until(lambda: "ended jobs purged" in caplog.text)
        assert await is_gone(site, old)
    line = next(record for record in caplog.records if record.message == "ended jobs purged")
    assert (line.jobs, line.sequences) == (1, 1)  # type: ignore[attr-defined]


async def test_what_waits_and_what_runs_is_never_old(tmp_path: Path) -> None:
    async with a_keeping_site(tmp_path, a_keeping_policy(), Qpu()) as site:
        session = await site.session()
        running, waiting = await site.submit(session), await site.submit(session)
        await site.in_flight(running)
        held = await site.submit(session)
        await site.service.hold_job(ALICE, str(held.id))
        site.clock.forward(1000 * DAY)
        await site.submit(session, sequence=OTHER)
        assert (await site.purge.sweep())["jobs"] == 0
        site.qpu.finish()
        assert (await site.end(running)).state is DONE
        assert not await is_gone(site, waiting)


async def test_a_purged_sequence_may_be_submitted_again(tmp_path: Path) -> None:
    async with a_keeping_site(tmp_path, a_keeping_policy()) as site:
        session = await site.session()
        old = await site.submit(session)
        await aged(site, old)
        assert (await site.purge.sweep())["sequences"] == 1
        again = await site.submit(session)
        assert (await site.end(again)).state is DONE
        assert (await site.service.bundle(ALICE, str(again.id))).sequence == SEQUENCE
        assert again.id > old.id


@pytest.mark.parametrize("first", ["submission", "purge"])
async def test_a_sequence_that_is_submitted_while_its_text_goes_keeps_it(tmp_path: Path, first: str) -> None:
    async with a_keeping_site(tmp_path, a_keeping_policy()) as site:
        session = await site.session()
        await aged(site, await site.submit(session))
        store, inbox = site.context.store, site.context.store._writer._inbox
        await site.purge._purge_jobs()
        await store.write(purge.watch_texts)
        found = await purge.unnamed_texts(store)
        began, go = threading.Event(), threading.Event()
        hold = store.write(lambda _transaction: (began.set(), go.wait(30.0))[0])
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(hold)]
        await until(began.is_set)
        steps = {"submission": lambda: site.submit(session), "purge": lambda: site.purge.delete_texts(found)}
        for name in (first, *(other for other in steps if other != first)):
            tasks.append(asyncio.create_task(steps[name]()))
            await until(lambda: inbox.qsize() == len(tasks) - 1)
        go.set()
        await asyncio.gather(*tasks)
        job, gone = sorted((task.result() for task in tasks[1:]), key=lambda result: isinstance(result, int))
        assert (gone, len(found)) == (0 if first == "submission" else 1, 1)
        assert without_text(tmp_path) == []
        assert (await site.end(job)).state is DONE
        await store.write(purge.unwatch_texts)
        assert (await site.end(await site.submit(session))).state is DONE


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_submitted_while_it_is_purged_has_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Users submit a few sequences again and again, in every way, while sweep follows sweep and days go by."""
    monkeypatch.setattr(service_purge, "_LEAST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(service_purge, "_PAUSES", 0.0)
    draw, gone, jobs = random.Random(seed), Counter[str](), list[Job]()

    async def use(site: Site, session: Session) -> None:
        text, one = a_sequence(draw.randint(1, 12)), JobRequest(sequence="", shots=1)
        if draw.random() < 0.5:
            jobs.append(await site.submit(session, sequence=text, key=f"{draw.random()}"))
        else:
            asked = OpenBatch(jobs=(one,) * draw.randint(0, 1), sequence=text, is_open=True)
            batch = await site.service.open_batch(ALICE, session.id, asked)
            await site.service.add_jobs(ALICE, batch.batch.id, [one])
            jobs.extend((await site.service.complete_batch(ALICE, batch.batch.id)).jobs)
        if draw.random() < 0.7:
            await site.ended(jobs[-1])
            site.clock.forward(draw.choice((0.0, 0.9 * DAY)))

    async def use_often(site: Site) -> None:
        session = await site.session()
        for _ in range(40):
            with contextlib.suppress(NotFound):  # days went by while it looked
                await use(site, session)
            assert without_text(tmp_path) == []

    async with a_keeping_site(tmp_path, a_keeping_policy(days=1.0)) as site:
        users = [asyncio.create_task(use_often(site)) for _ in range(3)]
        while not all(user.done() for user in users):
            gone.update(await site.purge.sweep())
        await asyncio.gather(*users)
        assert without_text(tmp_path) == []
        states = {(await site.end(job)).state for job in jobs if not await is_gone(site, job)}
        assert gone["jobs"] > 20
        assert gone["sequences"] > 10, gone
        assert states == {DONE}


async def test_an_open_batch_keeps_its_jobs_and_its_sequence(tmp_path: Path) -> None:
    async with a_keeping_site(tmp_path, a_keeping_policy()) as site:
        session, job = await site.session(), JobRequest(sequence="", shots=10)
        asked = OpenBatch(jobs=(job,), sequence=SEQUENCE, is_open=True)
        batch = await site.service.open_batch(ALICE, session.id, asked)
        await aged(site, *batch.jobs)
        assert not any((await site.purge.sweep()).values())
        more = await site.service.add_jobs(ALICE, batch.batch.id, [job])
        assert [one.state for one in await site.ended(*more.jobs)] == [DONE, DONE]
        await site.service.complete_batch(ALICE, batch.batch.id)
        await site.purge.sweep()
        assert len((await site.service.get_batch(ALICE, batch.batch.id)).jobs) == 2
        await aged(site)
        gone = await site.purge.sweep()
        assert (gone["batches"], gone["sequences"]) == (1, 1)
        with pytest.raises(NotFound, match=f"batch {batch.batch.id} does not exist"):
            await site.service.get_batch(ALICE, batch.batch.id)


async def test_a_job_that_a_held_slurm_job_waits_for_stays_until_that_is_released(tmp_path: Path) -> None:
    """Stored as by a submission with then_release; this site has no Slurm that could settle it."""
    async with a_keeping_site(tmp_path, a_keeping_policy()) as site:
        store, job = site.context.store, await site.submit(await site.session())
        promise = partial(releases.submit, submission=lambda _: None, user_id=ALICE.user_id, promises={4242: [job.id]})
        await store.write(promise)
        await aged(site, job)
        await site.purge.sweep()
        assert await releases.endings(store, 4242) == {"DONE": 1}
        await store.write(partial(releases.settle, number=4242, at=site.clock(), outcome="released"))
        assert (await site.purge.sweep())["jobs"] == 1
        site.clock.forward(91 * DAY)
        await aged(site)
        assert (await site.purge.sweep())["releases"] == 1


async def test_a_key_whose_jobs_are_purged_is_new_again(tmp_path: Path) -> None:
    async with a_keeping_site(tmp_path, a_keeping_policy()) as site:
        session = await site.session()
        old = await site.submit(session, key="mine")
        await aged(site, old)
        await site.purge._purge_jobs()
        again = await site.submit(session, key="mine", shots=20)  # before its row has gone, and with another body
        assert again.id > old.id
        await site.purge.sweep()
        assert (await site.submit(session, key="mine", shots=20)).id == again.id


async def test_a_session_goes_with_its_jobs_once_it_was_closed_that_long(tmp_path: Path) -> None:
    async with a_keeping_site(tmp_path, a_keeping_policy()) as site:
        closed, is_open = await site.session(), await site.session()
        jobs = [await site.submit(closed), await site.submit(is_open)]
        await site.ended(*jobs)
        await site.service.close_session(ALICE, closed.id)
        await aged(site, *jobs)
        gone = await site.purge.sweep()
        assert (gone["jobs"], gone["sessions"]) == (2, 1)
        with pytest.raises(NotFound, match="does not exist"):
            await site.service.get_session(ALICE, closed.id)
        assert (await site.end(await site.submit(is_open))).state is DONE


async def test_usage_shares_and_daily_sums_stay_as_they_were(tmp_path: Path) -> None:
    async def sums(site: Site) -> Any:
        store, which = site.context.store, ReportFilter(by=(Group.USER, Group.ACCOUNT, Group.JOB))
        charges = (await ledger.report(store, which)).rows
        used = [(row.key, row.charges.shots, row.charges.qpu_seconds, row.charges.slices) for row in charges]
        return used, await ledger.hourly_usage(store, 0.0), await ledger.charged_since(store, 0.0)

    clock, policy = Clock(), a_keeping_policy(days=1 / 24, priority_decay_half_life=0.0)
    async with a_keeping_site(tmp_path, policy, clock=clock) as site:
        session = await site.session(account="chem")
        await aged(site, *[await site.submit(session, shots=100) for _ in range(3)], days=1 / 20)
        await site.service.close_session(ALICE, session.id)
        clock.forward(DAY / 20)
        before, shares = await sums(site), await site.service.shares(ROOT, None)
        gone = await site.purge.sweep()
        assert (gone["jobs"], gone["sessions"]) == (3, 1)
        assert await sums(site) == before
        assert await site.service.shares(ROOT, None) == shares


async def test_a_restart_after_a_purge_recalls_the_same_usage(tmp_path: Path) -> None:
    clock, policy = Clock(), a_keeping_policy(days=1 / 24, priority_decay_half_life=0.0)
    async with a_keeping_site(tmp_path, policy, clock=clock) as site:
        await aged(site, await site.submit(await site.session(account="chem"), shots=100), days=1 / 20)

    async def recalled() -> tuple[float, float, Any]:
        life = await a_life(tmp_path, Qpu(), policy=policy, clock=clock)
        await _recall_usage(life.context)
        values = [life.book.usage.value(name, clock()) for name in (of_user("user1001"), of_account("chem"))]
        gone = (await life.purge.sweep())["jobs"]
        await life.stop()
        return values[0], values[1], gone

    assert await recalled() == (10.0, 10.0, 1)
    assert await recalled() == (10.0, 10.0, 0)


async def test_a_sweep_that_a_crash_cut_short_is_gone_on_with(tmp_path: Path) -> None:
    clock, policy, number = Clock(), a_keeping_policy(), 3 * purge.MOST_JOBS
    site = await a_life(tmp_path, Qpu(), policy=policy, clock=clock)
    session = await site.session()
    asks = [JobRequest(sequence=a_sequence(one + 1), shots=1) for one in range(number)]
    await site.service.submit(ALICE, session.id, asks, "key")
    await site.service.close_session(ALICE, session.id)
    last = await site.submit(await site.session(BOB), who=BOB, sequence=OTHER)
    clock.forward(91 * DAY)
    sweep = asyncio.create_task(site.purge.sweep())
    await until(lambda: purged_jobs(site) > 0)
    await site.crash(lose_queued=True)
    sweep.cancel()
    await asyncio.gather(sweep, return_exceptions=True)
    left = stored(tmp_path)
    assert 0 < len(left) <= number - purge.MOST_JOBS + 1
    assert left == sorted({*stored(tmp_path, "SELECT job_id FROM events"), last.id})
    assert without_text(tmp_path) == []
    site = await a_life(tmp_path, Qpu(), policy=policy, clock=clock)
    gone = await site.purge.sweep()
    await site.stop()
    assert gone == {"jobs": len(left) - 1, "batches": 0, "sessions": 1, "keys": 1, "releases": 0, "sequences": number}
    assert stored(tmp_path) == [last.id]
    assert stored(tmp_path, "SELECT text FROM sequences") == [OTHER]


async def test_a_sweep_that_failed_is_made_again_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def no_room(_store: object) -> list[str]:
        raise Unavailable("the database cannot be read now (disk full)")

    async with a_keeping_site(tmp_path, a_keeping_policy()) as site:
        assert await site.purge._sweep_or_log() == EVERY_SECONDS
        await aged(site, await site.submit(await site.session()))
        with monkeypatch.context() as broken:
            broken.setattr(purge, "unnamed_texts", no_room)
            assert await site.purge._sweep_or_log() == RETRY_SECONDS
        assert "could not be purged, trying again" in caplog.text
        gone = await site.purge.sweep()
        assert (gone["jobs"], gone["sequences"]) == (0, 1)
        assert "sequences" not in await site.purge.sweep()  # nothing went since: texts are not looked for again
