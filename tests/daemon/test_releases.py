"""then_release: a held Slurm job starts once the jobs it waits for have ended, against a real slurmctld."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from qpud.core import verbs
from qpud.core.errors import BadRequest, Conflict, Forbidden
from qpud.core.job import Job
from qpud.core.policy import Policy
from qpud.core.session import FINISHED_SECONDS, CloseReason, Session
from qpud.core.terms import OpenSessions
from qpud.site.slurm import Slurm
from tests.daemon.builders import ALICE, ROOT, Site, a_policy, a_site, until
from tests.daemon.qpu import Qpu
from tests.daemon.test_slurm import GAMES, NOBODY
from tests.site.cluster import STRANGER, Cluster

pytestmark = pytest.mark.slurm
PATIENCE = 60.0


def a_slurm_policy(**changes: Any) -> Policy:
    wanted = {"open_sessions": OpenSessions.ADMIN, "slurm_lookup": True, "slurm_control": True, **changes}
    return a_policy(**wanted)


@asynccontextmanager
async def a_controlling_site(path: Path, cluster: Cluster, qpu: Qpu | None = None) -> AsyncIterator[Site]:
    """A daemon that asks the cluster and acts on it, and keeps its record."""
    slurm = Slurm(cluster.conf, time.monotonic)
    async with a_site(path, qpu, policy=a_slurm_policy(), slurm=slurm, slurm_conf=cluster.conf) as site:
        yield site


async def session_of(site: Site, cluster: Cluster, *options: str) -> Session:
    """The session of a running Slurm job of nobody's."""
    job = cluster.start("sleep 300", *options)
    return (await site.service.open_session(NOBODY, verbs.OpenSession(slurm_job_id=str(job)))).session


async def submitted(site: Site, session: Session, held: int, **ask: Any) -> Job:
    return await site.submit(session, who=NOBODY, then_release=held, **ask)


async def waiting(site: Site, session: Session, held: int, **ask: Any) -> Job:
    """A job that its user holds."""
    await site.service.drain(ROOT, "TWIN", "the test's")
    job = await submitted(site, session, held, **ask)
    await site.service.hold_job(NOBODY, str(job.id))
    await site.service.resume(ROOT, "TWIN")
    return job


async def settled(site: Site, job: Job, words: str) -> str:
    """The job's story, once it says so."""
    story = ""
    deadline = time.monotonic() + PATIENCE
    while words not in story:
        assert time.monotonic() < deadline, story
        story = await site.story(job)
        await site.settle()
    return story


def audited(path: Path) -> list[tuple[str, str, str]]:
    """Who did what to which Slurm job, from the record."""
    with contextlib.closing(sqlite3.connect(path / "state.sqlite")) as database:
        rows = database.execute("SELECT user, action, object FROM audit WHERE action = 'slurm release'")
        return [tuple(row) for row in rows]  # type: ignore[misc]


async def test_a_held_job_is_released_when_its_job_has_ended_once_and_on_record(
    tmp_path: Path, cluster: Cluster
) -> None:
    held = cluster.submit("true", "--hold")
    async with a_controlling_site(tmp_path, cluster) as site:
        job = await submitted(site, await session_of(site, cluster), held)
        story = await settled(site, job, "was released")
        assert f"Slurm job {held} stays held until this job" in story
        assert f"Slurm job {held} was released: all jobs that it waited for have ended (1 DONE)" in story
        assert cluster.wait(held, "COMPLETED", seconds=PATIENCE)
        assert audited(tmp_path) == [("user65534", "slurm release", f"Slurm job {held}")]


async def test_several_submissions_release_it_when_the_last_has_ended(tmp_path: Path, cluster: Cluster) -> None:
    held = cluster.submit("true", "--hold")
    async with a_controlling_site(tmp_path, cluster) as site:
        session = await session_of(site, cluster)
        last, first = await waiting(site, session, held), await submitted(site, session, held)
        await site.end(first)
        await site.settle()
        assert cluster.state(held) == "PENDING"
        await site.service.release_job(NOBODY, str(last.id))
        assert "(2 DONE)" in await settled(site, first, "was released")
        assert len(audited(tmp_path)) == 1


async def test_a_canceled_job_releases_it_too(tmp_path: Path, cluster: Cluster) -> None:
    held = cluster.submit("true", "--hold")
    async with a_controlling_site(tmp_path, cluster, Qpu(seconds=60.0)) as site:
        job = await submitted(site, await session_of(site, cluster), held)
        await site.service.cancel_job(NOBODY, str(job.id))
        assert "(1 CANCELED)" in await settled(site, job, "was released")


async def test_a_restart_goes_on_with_it(tmp_path: Path, cluster: Cluster) -> None:
    held = cluster.submit("true", "--hold")
    qpu = Qpu(seconds=0.0)
    async with a_controlling_site(tmp_path, cluster, qpu) as site:
        job = await waiting(site, await session_of(site, cluster), held, resource="TWIN")
    assert cluster.state(held) == "PENDING"
    async with a_controlling_site(tmp_path, cluster, qpu) as again:
        await again.service.release_job(NOBODY, str(job.id))
        await settled(again, job, "was released")
        assert len(audited(tmp_path)) == 1


async def test_while_slurm_is_down_it_is_tried_again(tmp_path: Path, cluster: Cluster) -> None:
    held = cluster.submit("true", "--hold")
    async with a_controlling_site(tmp_path, cluster) as site:
        session = await session_of(site, cluster)
        job = await waiting(site, session, held)
        with cluster.down():
            await site.service.release_job(NOBODY, str(job.id))
            await settled(site, job, f"Slurm job {held} is not released yet: Slurm does not answer")
        await settled(site, job, f"Slurm job {held} was released")


async def test_a_job_that_an_administrator_holds_meanwhile_stays_held(tmp_path: Path, cluster: Cluster) -> None:
    held = cluster.submit("true", "--hold")
    async with a_controlling_site(tmp_path, cluster) as site:
        job = await waiting(site, await session_of(site, cluster), held)
        cluster.run("scontrol", "hold", str(held))
        await site.service.release_job(NOBODY, str(job.id))
        assert "held by an administrator" in await settled(site, job, "was not released")
        assert cluster.state(held) == "PENDING"
        assert not audited(tmp_path)


async def test_only_a_held_job_of_the_caller_can_be_named(tmp_path: Path, cluster: Cluster) -> None:
    foreign = cluster.submit("true", "--hold", user=STRANGER)
    by_admin = cluster.submit("true", "--hold")
    cluster.run("scontrol", "hold", str(by_admin))
    async with a_controlling_site(tmp_path, cluster) as site:
        session = await session_of(site, cluster)
        running = int(str(session.slurm_job_id))
        for held, error, why in (
            (foreign, Forbidden, "another user's"),
            (4_000_000, Forbidden, "Slurm knows none"),
            (running, Conflict, "is RUNNING and not held by its user: submit it with sbatch --hold"),
            (by_admin, Conflict, "is held by an administrator, who alone releases it"),
        ):
            with pytest.raises(error, match=why):
                await submitted(site, session, held)
        assert not site.book.jobs


async def test_without_slurm_control_it_is_refused(tmp_path: Path, cluster: Cluster) -> None:
    slurm = Slurm(cluster.conf, time.monotonic)
    async with a_site(tmp_path, policy=a_slurm_policy(slurm_control=False), slurm=slurm) as site:
        session = await session_of(site, cluster)
        with pytest.raises(Conflict, match="Slurm job 17 cannot be released by qpud: this site has SlurmControl = no"):
            await submitted(site, session, 17)


async def test_the_jobs_go_on_after_their_slurm_job_with_one_unit_and_no_longer_than_need_be(
    tmp_path: Path, cluster: Cluster
) -> None:
    held = cluster.submit("true", "--hold")
    async with a_controlling_site(tmp_path, cluster) as site:
        session = await session_of(site, cluster, "-L", "qpu:3", "-N2", "-p", "test")
        job = await waiting(site, session, held)
        await site.service.end_session(session, CloseReason.SLURM)
        after = site.book.sessions[(await site.job(job)).session_id]
        assert (after.slurm_job_id, after.queue) == (f"after-{session.slurm_job_id}", "test")
        assert (after.share, after.nodes) == (1, 1)
        with pytest.raises(Forbidden, match="only finishes jobs"):
            await site.submit(after, who=NOBODY)
        with pytest.raises(BadRequest, match="opened by qpud alone"):
            await site.service.open_session(NOBODY, verbs.OpenSession(slurm_job_id=after.slurm_job_id))
        await site.service.release_job(NOBODY, str(job.id))
        await site.end(job)
        site.clock.forward(FINISHED_SECONDS + 1)
        site.context.touch()
        await until(lambda: after.id not in site.book.sessions)


async def test_submissions_of_one_slurm_job_share_what_goes_on_after_it(tmp_path: Path, cluster: Cluster) -> None:
    helds = [cluster.submit("true", "--hold") for _ in range(2)]
    async with a_controlling_site(tmp_path, cluster) as site:
        session = await session_of(site, cluster)
        jobs = [await submitted(site, session, held) for held in helds]
        assert len({job.session_id for job in jobs}) == 1
        for job in jobs:
            await settled(site, job, "was released")


async def test_a_repeated_key_promises_nothing_twice(tmp_path: Path, cluster: Cluster) -> None:
    held = cluster.submit("true", "--hold")
    async with a_controlling_site(tmp_path, cluster) as site:
        session = await session_of(site, cluster)
        job = await submitted(site, session, held, key="k")
        await settled(site, job, "was released")
        again = await submitted(site, session, held, key="k")
        assert again.id == job.id
        assert len(audited(tmp_path)) == 1


async def test_a_later_job_of_the_same_user_has_the_result_and_nobody_else(tmp_path: Path, cluster: Cluster) -> None:
    held = cluster.submit("sleep 300", "--hold")
    async with a_controlling_site(tmp_path, cluster) as site:
        job = await submitted(site, await session_of(site, cluster), held)
        await settled(site, job, "was released")
        cluster.wait(held, "RUNNING", seconds=PATIENCE)
        grant = await site.service.open_session(NOBODY, verbs.OpenSession(slurm_job_id=str(held)))
        later = site.service.identify_token(grant.token)
        assert sum((await site.service.result(later, str(job.id))).counts.values()) == job.shots
        for other in (GAMES, ALICE):
            with pytest.raises(Exception, match="does not exist"):
                await site.service.result(other, str(job.id))
        assert (await site.service.get_job(ROOT, str(job.id))).is_terminal
