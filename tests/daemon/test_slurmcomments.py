"""The forecast of a session's QPU work in its Slurm job's admin comment, on a real slurmctld."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from qpud.core import verbs
from qpud.core.identity import Identity, Proof
from qpud.core.session import Session
from qpud.service import slurmcomments
from qpud.service.slurmcomments import EVERY_SECONDS, IDLE_SECONDS, MOST_OF_A_ROUND
from qpud.site.slurm import Slurm
from tests.daemon.builders import ALICE, Site, a_policy, a_site
from tests.daemon.qpu import Qpu
from tests.site.cluster import Cluster
from tests.site.pulse import Pulse

pytestmark = pytest.mark.slurm

NOBODY = Identity(user_id=65534, user="nobody", proof=Proof.PEER)


@asynccontextmanager
async def a_telling_site(path: Path, cluster: Cluster, **daemon: Any) -> AsyncIterator[tuple[Site, Pulse]]:
    """A daemon that comments when the test says so, its QPU without end."""
    policy, pulse = a_policy(slurm_lookup=True, slurm_control=True, slurm_comments=False, **daemon), Pulse()
    slurm = Slurm(cluster.conf, time.monotonic)
    async with a_site(path, Qpu(), policy=policy, slurm=slurm, slurm_conf=cluster.conf) as site:
        site.context.pulse = pulse
        yield site, pulse


async def told(site: Site) -> int:
    assert site.context.slurm_control is not None
    return await site.comments.round(site.context.slurm_control)


async def opened(site: Site, name: str) -> Session:
    return (await site.service.open_session(NOBODY, verbs.OpenSession(slurm_job_id=name))).session


def comment_of(cluster: Cluster, job: int) -> str:
    found = re.search(r"^ *AdminComment=(.*?) *$", cluster.run("scontrol", "show", "job", str(job)), re.MULTILINE)
    return found[1] if found else ""


async def test_a_comment_tells_when_the_qpu_work_ends_and_that_it_is_done(tmp_path: Path, cluster: Cluster) -> None:
    job = await asyncio.to_thread(cluster.start, "sleep 300", "-L", "qpu:3")
    async with a_telling_site(tmp_path, cluster) as (site, pulse):
        session = await opened(site, str(job))
        assert await told(site) == 0
        work = await site.submit(session, 2000, who=NOBODY)  # at a shot a second
        await site.in_flight(work)
        assert await told(site) == 1
        about = r"qpud qpu=TWIN share=3; QPU work ends about (\d{4}-\d\d-\d\dT)?\d\d:\d\d"
        assert re.fullmatch(about, comment_of(cluster, job))
        pulse.ahead += EVERY_SECONDS
        assert await told(site) == 0  # the end has hardly moved
        await site.service.cancel_job(NOBODY, str(work.id))
        site.qpu.finish()
        await site.end(work)
        assert await told(site) == 0  # more work may come
        site.clock.forward(IDLE_SECONDS)
        assert await told(site) == 1
        assert comment_of(cluster, job) == "qpud qpu=TWIN share=3; QPU work is done"


async def test_a_job_is_told_of_once_in_a_while_and_many_a_few_at_a_time(tmp_path: Path, cluster: Cluster) -> None:
    starts = (asyncio.to_thread(cluster.start) for _ in range(MOST_OF_A_ROUND + 2))
    jobs = [await start for start in starts]
    async with a_telling_site(tmp_path, cluster) as (site, pulse):
        sessions = [await opened(site, str(job)) for job in jobs]
        for session in sessions:
            await site.submit(session, 2000, who=NOBODY)
        assert [await told(site), await told(site), await told(site)] == [MOST_OF_A_ROUND, 2, 0]
        await site.submit(sessions[0], 2000, who=NOBODY)
        assert await told(site) == 0
        pulse.ahead += EVERY_SECONDS
        assert await told(site) >= 1


async def test_sessions_of_one_slurm_job_share_its_comment(tmp_path: Path, cluster: Cluster) -> None:
    job = await asyncio.to_thread(cluster.start, "sleep 300", "-L", "qpu:5")
    async with a_telling_site(tmp_path, cluster) as (site, _):
        for mark in "ab":
            await site.submit(await opened(site, f"{job}.run-{mark}"), 2000, who=NOBODY)
        assert await told(site) == 1
        assert comment_of(cluster, job).startswith("qpud qpu=TWIN share=6;")


async def test_a_job_that_slurm_did_not_vouch_for_is_left_alone(tmp_path: Path, cluster: Cluster) -> None:
    job = await asyncio.to_thread(cluster.start)
    async with a_telling_site(tmp_path, cluster) as (site, _):
        lookup, site.context.slurm = site.context.slurm, None
        forged = (await site.service.open_session(ALICE, verbs.OpenSession(slurm_job_id=str(job)))).session
        site.context.slurm = lookup
        await site.submit(forged, 2000)
        assert await told(site) == 0
    assert comment_of(cluster, job) == ""


async def test_a_restart_knows_what_a_session_used(tmp_path: Path, cluster: Cluster) -> None:
    job = await asyncio.to_thread(cluster.start)
    async with a_telling_site(tmp_path, cluster) as (site, _):
        work = await site.submit(await opened(site, str(job)), who=NOBODY)
        await site.in_flight(work)
        site.qpu.finish()
        await site.end(work)
    async with a_telling_site(tmp_path, cluster) as (site, _):
        site.clock.forward(IDLE_SECONDS)
        assert await told(site) == 1
    assert comment_of(cluster, job) == "qpud qpu=TWIN share=1; QPU work is done"


async def test_a_job_that_has_just_ended_stops_no_other_comment(tmp_path: Path, cluster: Cluster) -> None:
    ended, other = [await asyncio.to_thread(cluster.start) for _ in range(2)]
    async with a_telling_site(tmp_path, cluster) as (site, _):
        for job in (ended, other):
            await site.submit(await opened(site, str(job)), 2000, who=NOBODY)
        await asyncio.to_thread(cluster.cancel, ended)
        assert await told(site) == 1
        assert comment_of(cluster, other).startswith("qpud qpu=TWIN")
        assert site.service.slurm_trouble() == ""


async def test_the_daemon_comments_by_itself(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurmcomments, "ROUND_SECONDS", 0.2)
    policy = a_policy(slurm_lookup=True, slurm_control=True)
    job = await asyncio.to_thread(cluster.start)
    slurm = Slurm(cluster.conf, time.monotonic)
    async with a_site(tmp_path, Qpu(), policy=policy, slurm=slurm, slurm_conf=cluster.conf) as site:
        await site.submit(await opened(site, str(job)), 2000, who=NOBODY)
        async with asyncio.timeout(60.0):
            while not await asyncio.to_thread(comment_of, cluster, job):
                await asyncio.sleep(0.05)
