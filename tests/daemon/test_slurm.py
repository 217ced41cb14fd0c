"""Sessions on Slurm's terms, against a real slurmctld: whose, in which queue, with how many units, until when."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from qpud.core import verbs
from qpud.core.errors import BadRequest, Conflict, Forbidden, LimitExceeded, NotFound, Unavailable
from qpud.core.identity import Identity, Proof
from qpud.core.rehearsal import Rehearsal
from qpud.core.session import CloseReason, Session
from qpud.core.terms import OpenSessions, SlurmUnavailable
from qpud.site.slurm import REMEMBERED_SECONDS, Slurm
from qpud.site.slurmcommand import RETRY_SECONDS
from tests.daemon.builders import ROOT, Site, a_policy, a_site, until, with_queue
from tests.daemon.harness import a_daemon
from tests.site.cluster import PARTITIONS, STRANGER, Cluster
from tests.site.pulse import Pulse

pytestmark = pytest.mark.slurm

NOBODY = Identity(user_id=65534, user="nobody", proof=Proof.PEER)
GAMES = Identity(user_id=5, user="games", proof=Proof.PEER)
HOOK = Identity(user_id=0, user="root", proof=Proof.MUNGE)


@asynccontextmanager
async def a_slurm_site(path: Path, cluster: Cluster, **daemon: Any) -> AsyncIterator[tuple[Site, Pulse]]:
    """A daemon that asks the cluster, and the clock of its look-ups."""
    pulse = Pulse()
    policy = a_policy(**{"open_sessions": OpenSessions.ADMIN, "slurm_lookup": True, **daemon})
    async with a_site(path, policy=policy, slurm=Slurm(cluster.conf, pulse)) as site:
        yield site, pulse


async def opened(site: Site, job: int | str, who: Identity = NOBODY, **ask: Any) -> Session:
    grant = await site.service.open_session(who, verbs.OpenSession(slurm_job_id=str(job), **ask))
    return grant.session


async def swept(site: Site, session: Session) -> CloseReason | None:
    """Why a session is closed after one sweep; None if it is open."""
    assert site.context.slurm is not None
    await site.sweep.sweep(site.context.slurm)
    return (await site.service.get_session(ROOT, session.id)).close_reason


@pytest.mark.parametrize("partition", PARTITIONS)
async def test_each_partition_gives_its_queue(tmp_path: Path, cluster: Cluster, partition: str) -> None:
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        session = await opened(site, cluster.start("sleep 300", "-p", partition), queue="production", account="ops")
        assert (session.queue, session.account, session.share) == (partition, None, 1)


async def test_licences_nodes_account_and_end_are_slurms_whatever_the_client_claims(
    tmp_path: Path, cluster: Cluster
) -> None:
    job = cluster.start("sleep 300", "-L", "qpu:3", "-N2", "-A", "chem", "-t", "10")
    async with a_slurm_site(tmp_path, cluster, slurm_grace_time=30.0) as (site, _):
        session = await opened(site, job, share=10, nodes=99, account="ops", queue="production")
        assert (session.queue, session.share, session.nodes, session.account) == ("development", 3, 2, "chem")
        assert session.slurm_started_at is not None
        assert session.expires_at == session.slurm_started_at + 600 + 30


@pytest.mark.parametrize(("is_wanted", "priority"), [(True, 10_000), (False, 0)])
async def test_slurms_priority_counts_if_the_site_wants_it(
    tmp_path: Path, cluster: Cluster, is_wanted: bool, priority: int
) -> None:
    job = cluster.start("sleep 300", "-p", "production")
    async with a_slurm_site(tmp_path, cluster, slurm_priority=is_wanted) as (site, _):
        assert (await opened(site, job)).slurm_priority == priority


async def test_a_client_may_ask_for_fewer_units(tmp_path: Path, cluster: Cluster) -> None:
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        assert (await opened(site, cluster.start("sleep 300", "-L", "qpu:3"), share=2)).share == 2


async def test_runs_inside_one_job_divide_its_units(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300", "-L", "qpu:5", "-p", "test")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        sessions = [await opened(site, f"{job}.run-{mark}", share=3) for mark in "abc"]
        assert [session.share for session in sessions] == [3, 2, 1]
        assert {session.queue for session in sessions} == {"test"}


async def test_opening_again_gives_the_same_session(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300", "-L", "qpu:3")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        first = await opened(site, job, HOOK, user_id=NOBODY.user_id)
        assert (await opened(site, job, share=1, queue="test")).id == first.id


async def test_a_session_that_slurm_vouched_for_rehearses_one_thing(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        first = await opened(site, job, rehearsal=Rehearsal(seed=1))
        assert {(await opened(site, job, rehearsal=one)).id for one in (None, Rehearsal(seed=1))} == {first.id}
        with pytest.raises(Conflict, match=f"session {first.id} of Slurm job {job} is open with another rehearsal"):
            await opened(site, job, rehearsal=Rehearsal(seed=2))


async def test_a_foreign_a_pending_an_unknown_and_an_ended_job_open_nothing(tmp_path: Path, cluster: Cluster) -> None:
    foreign = cluster.start("sleep 300", user=STRANGER)
    pending = cluster.submit("sleep 300", "--hold")
    ended = cluster.start("sleep 300")
    cluster.cancel(ended, "CANCELLED")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        for job, why in ((foreign, "another user's"), (4_000_000, "another user's")):
            with pytest.raises(Forbidden, match=f"Slurm job {job} is no job of user user65534.*{why}"):
                await opened(site, job)
        for job, why in ((pending, "PENDING"), (ended, "CANCELLED")):
            with pytest.raises(Forbidden, match=f"{job} of user user65534 is {why}: only a running job"):
                await opened(site, job)
        with pytest.raises(Forbidden, match="another user's"):
            await opened(site, foreign, HOOK, user_id=NOBODY.user_id)
        assert not site.book.sessions


async def test_a_forged_name_or_comment_opens_nothing(tmp_path: Path, cluster: Cluster) -> None:
    foreign = cluster.start("sleep 300", user=STRANGER)
    row = f"{foreign}\t65534\tproduction\tRUNNING\t1\t1\tN/A\tqpu:10\tN/A"
    text = f"x UserId=nobody(65534) JobState=RUNNING Partition=production\n{row}"
    own = cluster.start("sleep 300", "-J", text, f"--comment={text}", "-A", text)
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        with pytest.raises(Forbidden):
            await opened(site, foreign)
        assert (await opened(site, own)).queue == "development"


@pytest.mark.parametrize("name", ["1_1", "1+0", "1 ", "1.run x", "٤"])
async def test_a_name_that_resembles_a_job_opens_nothing(tmp_path: Path, cluster: Cluster, name: str) -> None:
    async with a_slurm_site(tmp_path, cluster, open_sessions=OpenSessions.ANY) as (site, _):
        with pytest.raises(BadRequest, match="neither a number"):
            await opened(site, name)


async def test_a_partition_without_queue_and_a_dutys_account_open_nothing(tmp_path: Path, cluster: Cluster) -> None:
    job, duty = cluster.start("sleep 300", "-p", "test"), cluster.start("sleep 300", "-A", "duty:qa")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        site.context.policy = with_queue(site.context.policy, "test", partitions=("other",))
        with pytest.raises(Forbidden, match=f"partition test of Slurm job {job} feeds no queue"):
            await opened(site, job)
        with pytest.raises(Forbidden, match="duties are for root"):
            await opened(site, duty, HOOK, user_id=NOBODY.user_id)


async def test_without_a_slurm_job_opensessions_decides_as_before(tmp_path: Path, cluster: Cluster) -> None:
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        with pytest.raises(Forbidden, match="OpenSessions=admin"):
            await opened(site, "run-1a2b")
        assert (await opened(site, "run-1a2b", ROOT, queue="test", share=4)).share == 4
        site.context.policy = a_policy(open_sessions=OpenSessions.ANY, slurm_lookup=True)
        assert (await opened(site, "run-3c4d", share=2)).share == 2


# -- the sweep
async def test_a_cancelled_job_loses_its_session_and_another_keeps_it(tmp_path: Path, cluster: Cluster) -> None:
    gone, stays = cluster.start("sleep 300"), cluster.start("sleep 300")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        lost, kept = await opened(site, f"{gone}.run-1"), await opened(site, stays)
        cluster.cancel(gone, "CANCELLED")
        assert await swept(site, lost) is CloseReason.SLURM
        assert await swept(site, kept) is None


async def test_a_requeued_job_loses_the_session_of_its_first_run(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300")
    async with a_slurm_site(tmp_path, cluster) as (site, pulse):
        first = await opened(site, job)
        cluster.requeue(job)
        pulse.ahead += REMEMBERED_SECONDS
        second = await opened(site, job)
        assert (await site.service.get_session(ROOT, first.id)).close_reason is CloseReason.SLURM
        assert second.id != first.id
        assert await swept(site, second) is None


async def test_the_sweep_finds_a_second_run(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        session = await opened(site, job)
        cluster.requeue(job)
        assert await swept(site, session) is CloseReason.SLURM


async def test_a_preempted_job_loses_its_session(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300", "-N2", "--exclusive", "-p", "development")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        session = await opened(site, job)
        cluster.start("sleep 300", "-N2", "-p", "production")
        cluster.wait(job, "PENDING", "PREEMPTED")
        assert await swept(site, session) is CloseReason.SLURM


async def test_a_failed_node_leaves_no_session(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300", "-w", "qn2", "--no-requeue")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        session = await opened(site, job)
        cluster.run("scontrol", "update", "NodeName=qn2", "State=DOWN", "Reason=test")
        try:
            cluster.wait(job, "NODE_FAIL")
            assert await swept(site, session) is CloseReason.SLURM
        finally:
            cluster.attempt("scontrol", "update", "NodeName=qn2", "State=RESUME")  # unless it returned by itself
            cluster.wait_idle()


async def test_a_job_that_timed_out_loses_its_session_when_its_end_is_due(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qpud.service.sweep.PAUSE_SECONDS", 0.2)
    job = cluster.start("sleep 300")
    cluster.run("scontrol", "update", f"JobId={job}", "EndTime=now+2")
    async with a_slurm_site(tmp_path, cluster, slurm_grace_time=300.0) as (site, _):
        session = await opened(site, job)
        assert session.expires_at < site.clock() + 310
        await until(lambda: session.id not in site.book.sessions, 70.0)
        assert (await site.service.get_session(ROOT, session.id)).close_reason is CloseReason.SLURM
        assert cluster.state(job) in ("TIMEOUT", "COMPLETING")


async def test_a_session_follows_the_time_limit_of_its_job(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300", "-t", "10")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        before = await opened(site, job)
        cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=20")
        assert await swept(site, before) is None
        assert site.book.sessions[before.id].expires_at == before.expires_at + 600


async def test_the_lease_ends_a_session_though_slurm_stays_away(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300", "-t", "10")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        session = await opened(site, job)
        site.clock.forward(600 + 61)
        site.context.touch()
        await until(lambda: session.id not in site.book.sessions)


async def test_a_job_that_computes_classically_for_hours_keeps_its_session(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300", "-t", "60")
    async with a_slurm_site(tmp_path, cluster, session_idle_timeout=600.0) as (site, _):
        session, other = await opened(site, job), await opened(site, "run-1a2b", ROOT)
        site.clock.forward(3000.0)
        site.context.touch()
        await until(lambda: other.id not in site.book.sessions)  # idle, and no Slurm job's
        assert session.id in site.book.sessions
        site.clock.forward(3600.0 + 61.0)
        site.context.touch()
        await until(lambda: session.id not in site.book.sessions)
        assert (await site.service.get_session(ROOT, session.id)).close_reason is CloseReason.LIFETIME


async def test_each_node_of_a_large_job_may_have_a_token(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qpud.service.sessions.MOST_TOKENS", 1)
    job = cluster.start("sleep 300", "-N2")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        for _node in range(3):
            await opened(site, job)
        with pytest.raises(LimitExceeded, match="3 tokens"):
            await opened(site, job, nodes=999)


async def test_a_session_keeps_its_run_over_a_restart(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        before = await opened(site, job)
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        assert site.book.sessions[before.id].slurm_started_at == before.slurm_started_at
        assert await swept(site, before) is None


# -- Slurm is away
async def test_nothing_is_closed_because_slurm_is_away(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        session = await opened(site, job)
        with cluster.down(), pytest.raises(Unavailable):
            await swept(site, session)
        assert session.id in site.book.sessions


async def test_an_open_session_is_found_again_while_slurm_is_away(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300", "-p", "production", "-L", "qpu:4")
    async with a_slurm_site(tmp_path, cluster) as (site, pulse):
        session = await opened(site, job)
        pulse.ahead += REMEMBERED_SECONDS
        with cluster.down():
            again = await opened(site, job)
        assert (again.id, again.share) == (session.id, 4)


async def test_while_slurm_is_away_a_new_session_is_refused(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        with cluster.down(), pytest.raises(Unavailable, match=f"Slurm job {job} cannot be checked"):
            await opened(site, job)


async def test_or_it_is_of_the_lowest_queue_until_slurm_can_be_asked(tmp_path: Path, cluster: Cluster) -> None:
    job, gone = cluster.start("sleep 300", "-p", "production", "-L", "qpu:4"), cluster.start("sleep 300")
    chosen = {"slurm_unavailable": SlurmUnavailable.LOWEST_QUEUE}
    async with a_slurm_site(tmp_path, cluster, **chosen) as (site, pulse):
        cluster.cancel(gone, "CANCELLED")
        with cluster.down():
            with pytest.raises(Forbidden, match="OpenSessions=admin"):
                await opened(site, job, queue="production", share=9)
            session = await opened(site, job, HOOK, user_id=65534, queue="production", share=9, account="ops")
            other = await opened(site, gone, HOOK, user_id=65534)
        assert (session.queue, session.share, session.account) == ("development", 1, None)
        pulse.ahead += RETRY_SECONDS
        assert await swept(site, other) is CloseReason.SLURM
        assert site.book.sessions[session.id].slurm_started_at is not None


@pytest.mark.parametrize("away", ["hung", "down"])
def test_the_daemon_answers_in_its_usual_time_while_slurm_is_away(tmp_path: Path, cluster: Cluster, away: str) -> None:
    keys = f"SlurmLookup = yes\nSlurmConf = {cluster.conf}\nOpenSessions = any"
    with a_daemon(tmp_path, daemon=keys) as daemon, daemon.client() as client, getattr(cluster, away)():
        asked = {"slurm_job_id": "1"}
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(tmp_path / "q.sock")), base_url="http://qpud"
        ) as other:
            slowest = slowest_answer_while_opening(client, other, asked)
        assert slowest < 0.5
        started = time.monotonic()
        answer = client.post("/v1/sessions", json=asked)
        assert (answer.status_code, time.monotonic() - started < 0.5) == (503, True)
        assert "cannot be checked" in answer.json()["detail"]


def slowest_answer_while_opening(client: httpx.Client, other: httpx.Client, asked: dict[str, str]) -> float:
    """Seconds of the slowest of the other requests that are answered while one waits for Slurm."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(client.post("/v1/sessions", json=asked).status_code))
    thread.start()
    slowest = 0.0
    while thread.is_alive():
        started = time.monotonic()
        assert other.get("/v1/info").status_code == 200
        slowest = max(slowest, time.monotonic() - started)
    thread.join()
    assert codes == [503]
    return slowest


async def test_a_job_that_gives_up_a_node_has_a_session_with_fewer(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300", "-N2")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        session = await opened(site, job)
        assert session.nodes == 2
        cluster.run("scontrol", "update", f"JobId={job}", "NumNodes=1")
        assert (await site.service.renew_session(NOBODY, session.id)).nodes == 1
        assert site.book.sessions[session.id].nodes == 1
        with pytest.raises(NotFound):
            await site.service.renew_session(GAMES, session.id)


async def test_a_sweep_finds_that_a_job_gave_up_a_node_and_a_restart_knows_it(
    tmp_path: Path, cluster: Cluster
) -> None:
    job = cluster.start("sleep 300", "-N2")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        session = await opened(site, job)
        cluster.run("scontrol", "update", f"JobId={job}", "NumNodes=1")
        assert await swept(site, session) is None
        assert site.book.sessions[session.id].nodes == 1
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        assert site.book.sessions[session.id].nodes == 1


async def test_renewing_the_session_of_an_ended_job_closes_it(tmp_path: Path, cluster: Cluster) -> None:
    job = cluster.start("sleep 300")
    async with a_slurm_site(tmp_path, cluster) as (site, _):
        session = await opened(site, job)
        cluster.cancel(job)
        assert (await site.service.renew_session(NOBODY, session.id)).close_reason is CloseReason.SLURM


async def test_renewing_a_session_of_no_slurm_job_changes_nothing(tmp_path: Path, cluster: Cluster) -> None:
    async with a_slurm_site(tmp_path, cluster, open_sessions=OpenSessions.ANY) as (site, _):
        session = (await site.service.open_session(NOBODY, verbs.OpenSession(nodes=3))).session
        assert await site.service.renew_session(NOBODY, session.id) == session
