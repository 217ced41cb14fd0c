"""Batches: open and closed, jobs added, canceled, idle, across restarts."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from qpud.core import verbs
from qpud.core.batch import BatchEnd
from qpud.core.errors import BadRequest, Conflict, Forbidden, Invalid, LimitExceeded, NotFound
from qpud.core.faults import parse
from qpud.core.job import JobState
from qpud.core.rehearsal import Rehearsal
from qpud.core.session import Session
from qpud.core.verbs import BatchFilter, JobRequest, OpenBatch
from tests.daemon.builders import (
    ALICE,
    BOB,
    CANCELED,
    DONE,
    ROOT,
    SEQUENCE,
    Site,
    a_life,
    a_policy,
    a_site,
    until,
    with_queue,
)
from tests.daemon.qpu import Qpu

PENDING, RUNNING = JobState.PENDING, JobState.RUNNING
JOB = JobRequest(sequence="", shots=10)


async def a_batch(
    site: Site, session: Session, *jobs: JobRequest, key: str | None = None, seconds: float | None = None, **ask: Any
) -> verbs.BatchView:
    """A batch with the usual sequence, open unless said otherwise."""
    wanted = OpenBatch(**{"jobs": jobs, "sequence": SEQUENCE, "is_open": True, **ask})
    return await site.service.open_batch(ALICE, session.id, wanted, key, seconds)


async def test_an_open_batch_takes_jobs_until_it_is_completed(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        empty = await a_batch(site, await site.session())
        assert (empty.jobs, empty.state, empty.batch.is_open) == ([], PENDING, True)
        filled = await site.service.add_jobs(ALICE, empty.batch.id, [JOB, JOB])
        await site.ended(*filled.jobs)
        assert (await site.service.get_batch(ALICE, empty.batch.id)).state is RUNNING
        closed = await site.service.complete_batch(ALICE, empty.batch.id)
        assert (closed.state, closed.batch.close_reason) == (DONE, BatchEnd.COMPLETE)
        assert [job.batch_id for job in closed.jobs] == [empty.batch.id] * 2
        with pytest.raises(Conflict, match=r"is closed \(complete\)"):
            await site.service.add_jobs(ALICE, empty.batch.id, [JOB])


async def test_others_jobs_run_while_a_batch_is_open(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        batch = await a_batch(site, await site.session(), JOB)
        await site.ended(*batch.jobs)
        other = await site.submit(await site.session(BOB), who=BOB)
        assert (await site.end(other)).state is DONE


async def test_a_batch_ends_when_a_delay_that_its_session_asked_for_is_over(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session(rehearsal=Rehearsal(faults=parse("delay:60s")))
        batch = await a_batch(site, session, JOB, is_open=False)
        await until(lambda: batch.jobs[0].id not in site.book.jobs)
        assert (await site.service.get_batch(ALICE, batch.batch.id)).state is RUNNING
        site.clock.forward(60)
        assert (await site.service.get_batch(ALICE, batch.batch.id)).state is DONE


async def test_a_batch_closed_with_one_job_has_its_uuid(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        one = await a_batch(site, session, JOB, is_open=False)
        two = await a_batch(site, session, JOB, JOB, is_open=False)
        assert one.batch.id == one.jobs[0].uid
        assert len({two.batch.id, *(job.uid for job in two.jobs)}) == 3
        await site.ended(*one.jobs, *two.jobs)
        assert (await site.service.get_batch(ALICE, one.batch.id)).state is DONE


async def test_what_was_submitted_as_jobs_is_a_batch_too(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        single = await site.submit(session)
        two = await site.service.submit(ALICE, session.id, [JobRequest(sequence=SEQUENCE, shots=10)] * 2)
        assert [job.id for job in (await site.service.get_batch(ALICE, single.uid)).jobs] == [single.id]
        assert [job.id for job in (await site.service.get_batch(ALICE, two[0].batch_id or "")).jobs] == [
            job.id for job in two
        ]


async def test_a_job_may_bring_its_own_sequence_or_needs_the_batchs(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        own = await a_batch(site, session, JobRequest(sequence=SEQUENCE, shots=5), sequence=None)
        assert own.jobs[0].shots == 5
        with pytest.raises(Invalid, match="needs a batch that has one"):
            await site.service.add_jobs(ALICE, own.batch.id, [JOB])
        with pytest.raises(BadRequest, match="0 jobs"):
            await a_batch(site, session, is_open=False)


async def test_a_canceled_batch_stops_its_jobs(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        batch = await a_batch(site, await site.session(), JOB, JOB)
        await site.in_flight(batch.jobs[0])
        canceled = await site.service.cancel_batch(ALICE, batch.batch.id)
        assert (canceled.batch.close_reason, canceled.jobs[1].state) == (BatchEnd.CANCELED, CANCELED)
        await site.ended(*batch.jobs)
        assert (await site.service.get_batch(ALICE, batch.batch.id)).state is CANCELED


async def test_an_idle_batch_closes_and_a_busy_one_does_not(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=a_policy(batch_idle_timeout=60.0)) as site:
        session = await site.session()
        idle, busy = await a_batch(site, session), await a_batch(site, session, JOB)
        await site.ended(*busy.jobs)
        held = (await site.service.add_jobs(ALICE, busy.batch.id, [JobRequest(sequence="", shots=10)])).jobs[1]
        if not held.is_terminal:
            await site.ended(held)
        site.clock.forward(61.0)
        waiting = await site.service.add_jobs(ALICE, busy.batch.id, [JOB])
        site.context.touch()
        await until(lambda: idle.batch.id not in site.book.batches)
        assert (await site.service.get_batch(ALICE, idle.batch.id)).batch.close_reason is BatchEnd.IDLE
        assert waiting.batch.is_open and busy.batch.id in site.book.batches


async def test_a_job_that_is_refused_after_its_check_or_canceled_uses_its_batch_and_session(tmp_path: Path) -> None:
    policy = a_policy(validation_wait=0.0, batch_idle_timeout=100.0, session_idle_timeout=100.0)
    async with a_site(tmp_path, policy=policy) as site:
        session = await site.session()
        site.workers.bad[SEQUENCE] = "the pulse is too strong"
        site.workers.gate.clear()
        refused, canceled = await a_batch(site, session, JOB), await a_batch(site, session, JOB)
        site.clock.forward(70.0)
        await site.service.cancel_job(ALICE, str(canceled.jobs[0].id))
        assert site.book.sessions[session.id].last_used_at == site.book.batches[canceled.batch.id].last_used_at
        site.clock.forward(70.0)
        site.workers.gate.set()
        assert (await site.end(refused.jobs[0])).state is JobState.ERROR
        site.clock.forward(70.0)
        site.context.touch()
        await until(lambda: canceled.batch.id not in site.book.batches)
        await site.settle()
        assert refused.batch.id in site.book.batches
        assert session.id in site.book.sessions


async def test_an_idle_batch_closes_at_its_time_without_anybody_asking(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=a_policy(batch_idle_timeout=0.2)) as site:
        batch = await a_batch(site, await site.session(), JOB)
        await until(lambda: batch.batch.id not in site.book.batches)
        closed = (await site.service.get_batch(ALICE, batch.batch.id)).batch
        assert (closed.closed_at or 0.0) - closed.opened_at >= 0.2


async def test_the_end_of_a_session_closes_its_batches(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        batch = await a_batch(site, session)
        await site.service.close_session(ALICE, session.id)
        assert (await site.service.get_batch(ALICE, batch.batch.id)).batch.close_reason is BatchEnd.SESSION
        assert not site.book.batches


async def test_an_open_batch_survives_a_restart(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        batch = await a_batch(site, await site.session(), JOB, tags=("paper",), name="sweep")
        await site.ended(*batch.jobs)
    again = await a_life(tmp_path, Qpu(seconds=0.0))
    again.start()
    try:
        kept = again.book.batches[batch.batch.id]
        assert (kept.is_open, kept.tags, kept.name, kept.resource) == (True, ("paper",), "sweep", "TWIN")
        assert kept.last_used_at >= batch.batch.last_used_at
        more = await again.service.add_jobs(ALICE, batch.batch.id, [JOB])
        assert len(more.jobs) == 2
    finally:
        await again.stop()


async def test_a_batch_is_its_owners(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        batch = await a_batch(site, await site.session())
        await site.session(BOB)
        with pytest.raises(NotFound):
            await site.service.get_batch(BOB, batch.batch.id)
        with pytest.raises(Forbidden, match="belongs to another"):
            await site.service.add_jobs(ROOT, batch.batch.id, [JOB])
        assert (await site.service.list_batches(BOB, BatchFilter())).total == 0


async def test_a_repeated_key_gives_the_first_batch(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        first = await a_batch(site, session, JOB, key="k")
        again = await a_batch(site, session, JOB, key="k")
        assert again.batch.id == first.batch.id and len(again.jobs) == 1
        with pytest.raises(Conflict, match="another request"):
            await a_batch(site, session, JOB, JOB, key="k")
        assert len((await site.service.add_jobs(ALICE, first.batch.id, [JOB], "j")).jobs) == 2
        assert len((await site.service.add_jobs(ALICE, first.batch.id, [JOB], "j")).jobs) == 2


@pytest.mark.parametrize("by", ["a look", "its answer"])
async def test_a_key_made_of_the_body_counts_for_a_while_and_until_the_id_is_known(tmp_path: Path, by: str) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        ids = [(await a_batch(site, session, JOB, key="k", seconds=30.0)).batch.id for _ in range(2)]
        assert ids[0] == ids[1]
        if by == "a look":
            await site.service.get_batch(ALICE, ids[0])
        else:
            site.service.id_was_told(ids[0])
        known = (await a_batch(site, session, JOB, key="k", seconds=30.0)).batch.id
        site.clock.forward(31.0)
        later = (await a_batch(site, session, JOB, key="k", seconds=30.0)).batch.id
        assert len({ids[0], known, later}) == 3


async def test_batches_are_found_by_what_they_are(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        tagged = await a_batch(site, session, JOB, tags=('a "b"',), is_open=False, project="p")
        await site.ended(*tagged.jobs)
        await a_batch(site, session)
        await site.service.tag_batch(ALICE, tagged.batch.id, ('c "d"',))

        async def found(**which: Any) -> list[str]:
            page = await site.service.list_batches(ALICE, BatchFilter(**which))
            assert page.total >= len(page.batches)
            return [view.batch.id for view in page.batches]

        assert await found(tag='c "d"') == await found(is_open=False) == await found(projects=("p",))
        assert await found(states=(DONE,)) == await found(ids=(tagged.batch.id,)) == [tagged.batch.id]
        assert (await found(tag='a "b"'), len(await found()), len(await found(limit=1, offset=1))) == ([], 2, 1)
        assert await found(resources=("OTHER",)) == await found(after=site.clock() + 10) == []


async def test_the_store_and_the_core_agree_on_what_a_batch_is(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(seconds=0.0)) as site:
        session = await site.session()
        shapes = itertools.product((True, False), ((), (JOB,), (JOB, JOB)))
        batches = [await a_batch(site, session, *jobs, is_open=is_open or not jobs) for is_open, jobs in shapes]
        await site.ended(*(job for view in batches for job in view.jobs))
        await site.service.complete_batch(ALICE, batches[0].batch.id)
        await site.service.cancel_batch(ALICE, batches[3].batch.id)
        for state in JobState:
            page = await site.service.list_batches(ALICE, BatchFilter(states=(state,)))
            assert all(view.state is state for view in page.batches)
        sums = [(await site.service.list_batches(ALICE, BatchFilter(states=(state,)))).total for state in JobState]
        assert sum(sums) == len(batches)


async def test_an_equal_request_of_another_session_is_another_batch(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        array = [await site.session(slurm_job_id=name) for name in ("7", "8")]
        batches = [await a_batch(site, session, JOB, key="of the body", seconds=30.0) for session in array]
        assert [batch.batch.session_id for batch in batches] == [session.id for session in array]


@pytest.mark.parametrize("seconds", [None, 30.0])
async def test_a_repeat_finds_its_batch_although_that_has_filled_the_queue(
    tmp_path: Path, seconds: float | None
) -> None:
    policy = with_queue(a_policy(), "development", max_submit_jobs=2)
    async with a_site(tmp_path, Qpu(), policy=policy) as site:
        session = await site.session()
        first = await a_batch(site, session, JOB, JOB, key="k", seconds=seconds)
        again = await a_batch(site, session, JOB, JOB, key="k", seconds=seconds)
        assert again.batch.id == first.batch.id
        with pytest.raises(LimitExceeded, match="MaxSubmitJobs"):
            await a_batch(site, session, JOB, JOB, key="another", seconds=seconds)
