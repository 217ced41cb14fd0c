"""PurgeJobAfter in the store: what goes, what stays, and what a crash between two transactions leaves."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qpud.core.batch import Batch, BatchEnd
from qpud.core.errors import NotFound, Unavailable
from qpud.core.job import Job, JobState
from qpud.core.rehearsal import Rehearsal
from qpud.core.slices import Charge, Outcome, OutcomeState, SliceState
from qpud.store import batches, jobs, purge, queries, releases, sessions, slices
from qpud.store.jobs import NewJob
from qpud.store.store import Store
from qpud.store.submission import Submission
from qpud.store.writer import Transaction
from tests.store.builders import a_job, a_session, a_slice, a_store, stored

BEFORE = 100.0
OLD = {"submitted_at": 1.0, "state": JobState.DONE, "shots_done": 10, "ended_at": 50.0}


def an_old_job(job_id: int, **changes: Any) -> Job:
    return a_job(job_id, **{**OLD, "sequence_hash": f"h{job_id}", **changes})


def an_outcome(state: OutcomeState) -> Outcome:
    counts = {"0": 10} if state is OutcomeState.DONE else {}
    return Outcome(state=state, counts=counts, started_at=40.0, ended_at=50.0, qpu_seconds=10.0)


def storing(*new: Job, of: Any = None) -> Callable[[Transaction], None]:
    """An operation that stores jobs with a text, a slice and a line each, in their session."""

    def operation(transaction: Transaction) -> None:
        sessions.insert(transaction, of or a_session())
        for job in new:
            jobs.insert_sequences(transaction, [(job.sequence_hash, f"text of {job.sequence_hash}")])
            jobs.insert(transaction, [NewJob(job=job, variables=None, tags=None, seed=1)])
            jobs.add_event(transaction, job.id, job.submitted_at, "submitted")
            one = a_slice(job.id, job_id=job.id)
            slices.insert(transaction, one)
            slices.end(transaction, one, SliceState.DONE, an_outcome(OutcomeState.DONE), None)
            charge = Charge(shots=10, qpu_seconds=10.0, setup_seconds=0.0)
            slices.add_to_ledger(transaction, one, job, 50.0, charge)

    return operation


async def sweep_jobs(store: Store, before: float = BEFORE, most: int | None = None) -> int:
    """Delete old jobs, at most so many transactions."""
    gone, last = 0, 0
    while most is None or most > 0:
        page = await purge.old_jobs(store, before, last)
        gone += await store.write(partial(purge.delete_jobs, ids=page.ids, before=before))
        if page.last is None:
            break
        last, most = page.last, None if most is None else most - 1
    return gone


async def sweep_texts(store: Store) -> int:
    await store.write(purge.watch_texts)
    found = await purge.unnamed_texts(store)
    gone = await store.write(partial(purge.delete_texts, hashes=found)) if found else 0
    await store.write(purge.unwatch_texts)
    return gone


async def sweep_jobless(store: Store, kind: purge.Jobless, before: float = BEFORE) -> int:
    found = await purge.find_jobless(store, kind, before)
    return await store.write(partial(purge.delete_jobless, kind=kind, found=found, before=before)) if found else 0


def rows_of(path: Path) -> dict[str, list[Any]]:
    """What is left of each job."""
    tables = {"jobs": "id", "slices": "job_id", "events": "job_id"}
    return {table: sorted(set(stored(path, f"SELECT {column} FROM {table}"))) for table, column in tables.items()}


async def test_an_old_job_goes_with_all_that_hangs_on_it_and_its_charge_stays(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(storing(*(an_old_job(number) for number in range(1, 4)), an_old_job(4, ended_at=100.1)))
        assert await sweep_jobs(store) == 3
        assert await sweep_texts(store) == 3
        with pytest.raises(NotFound, match="job 2 does not exist"):
            await queries.texts(store, 2)
    assert rows_of(tmp_path) == {"jobs": [4], "slices": [4], "events": [4]}
    assert stored(tmp_path, "SELECT hash FROM sequences") == ["h4"]
    assert stored(tmp_path, "SELECT sum(qpu_seconds) FROM ledger") == [40.0]


async def test_a_job_that_ended_exactly_then_goes_and_a_moment_later_stays(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(storing(an_old_job(1, ended_at=100.0), an_old_job(2, ended_at=100.001), an_old_job(3)))
        await sweep_jobs(store)
    assert rows_of(tmp_path)["jobs"] == [2, 3]  # 3 is the last: its number must not be given again


async def test_a_job_of_a_qpu_whose_clock_is_behind_is_as_old_as_its_submission(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(storing(an_old_job(1, submitted_at=99.0), an_old_job(2, submitted_at=101.0), an_old_job(3)))
        await sweep_jobs(store)
    assert rows_of(tmp_path)["jobs"] == [2, 3]


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING])
async def test_what_has_not_ended_stays_however_old(tmp_path: Path, state: JobState) -> None:
    async with a_store(tmp_path) as store:
        old = an_old_job(1, state=state, ended_at=None, shots_done=0)
        await store.write(storing(old, an_old_job(2)))
        await sweep_jobs(store, before=1e9)
    assert rows_of(tmp_path)["jobs"] == [1, 2]


async def test_the_next_daemon_gives_no_number_twice(tmp_path: Path) -> None:
    """The last slice is not the last job's: job 3 waited, job 2 had its slices last."""
    async with a_store(tmp_path) as store:
        await store.write(storing(*(an_old_job(number) for number in (1, 2, 3))))
        await store.write(lambda transaction: slices.insert(transaction, a_slice(9, job_id=2, number=1)))
        await store.write(
            lambda transaction: slices.end(
                transaction, a_slice(9), SliceState.FAILED, an_outcome(OutcomeState.FAILED), None
            )
        )
        assert await sweep_jobs(store) == 1
        snapshot = await store.load()
    assert (snapshot.last_job_id, snapshot.last_slice_id) == (3, 9)


async def test_a_job_whose_slice_may_still_run_at_the_resource_stays(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(storing(an_old_job(1), an_old_job(2)))
        await store.write(lambda transaction: slices.insert(transaction, a_slice(9, job_id=1, number=1)))
        await store.write(storing(an_old_job(3), of=a_session(id="s2")))
        await store.write(lambda transaction: slices.insert(transaction, a_slice(10, job_id=3, number=1)))
        assert await sweep_jobs(store) == 1
    assert rows_of(tmp_path)["jobs"] == [1, 3]


def a_batch(batch_id: str, closed_at: float | None, sequence_hash: str | None = None) -> Batch:
    return Batch(
        id=batch_id,
        session_id="s1",
        user_id=1001,
        resource="TWIN",
        sequence_hash=sequence_hash,
        opened_at=1.0,
        last_used_at=1.0,
        closed_at=closed_at,
        close_reason=None if closed_at is None else BatchEnd.COMPLETE,
    )


async def test_the_jobs_of_a_batch_stay_until_it_has_been_closed_that_long(tmp_path: Path) -> None:
    def three(transaction: Transaction) -> None:
        for name, closed_at in (("open", None), ("late", 101.0), ("old", 60.0)):
            batches.insert(transaction, a_batch(name, closed_at), None, b"")
        batches.insert(transaction, a_batch("empty", 60.0, "only here"), None, b"")
        jobs.insert_sequences(transaction, [("only here", "text")])

    async with a_store(tmp_path) as store:
        named = [an_old_job(number, batch_id=name) for number, name in enumerate(("open", "late", "old"), 1)]
        await store.write(storing(*named, an_old_job(4, batch_id="list")))
        await store.write(three)
        await store.write(storing(an_old_job(5, ended_at=200.0), of=a_session(id="s2")))
        assert await sweep_texts(store) == 0
        assert await sweep_jobs(store) == 2
        assert await sweep_jobless(store, purge.BATCHES) == 2
        assert await sweep_texts(store) == 3
    assert rows_of(tmp_path)["jobs"] == [1, 2, 5]
    assert stored(tmp_path, "SELECT id FROM batches ORDER BY id") == ["late", "open"]


async def test_a_job_for_which_a_slurm_job_is_held_stays_until_that_is_settled(tmp_path: Path) -> None:
    def promise(transaction: Transaction) -> None:
        releases.submit(transaction, submission=lambda _: None, user_id=1001, promises={4242: [1], 4243: [2]})
        releases.settle(transaction, 4243, 60.0, "released")

    async with a_store(tmp_path) as store:
        await store.write(storing(an_old_job(1), an_old_job(2), an_old_job(3)))
        await store.write(promise)
        assert await sweep_jobs(store) == 1
        assert await releases.endings(store, 4242) == {"DONE": 1}
        assert await sweep_jobless(store, purge.RELEASES) == 1
        await store.write(lambda transaction: releases.settle(transaction, 4242, 60.0, "released"))
        assert await sweep_jobs(store) == 1
    assert stored(tmp_path, "SELECT slurm_job FROM releases") == [4242]


async def test_sessions_go_with_their_last_job_and_open_ones_stay(tmp_path: Path) -> None:
    ended = {"closed_at": 60.0, "close_reason": "manual"}

    def close(transaction: Transaction) -> None:
        transaction.execute("UPDATE sessions SET closed_at = 60.0, close_reason = 'manual' WHERE id IN ('s1', 's2')")

    async with a_store(tmp_path) as store:
        await store.write(storing(an_old_job(1)))
        await store.write(storing(an_old_job(2, session_id="s2", ended_at=200.0), of=a_session(id="s2")))
        await store.write(storing(an_old_job(3, session_id="s3"), of=a_session(id="s3")))
        await store.write(lambda transaction: sessions.insert(transaction, a_session(id="s4", **ended)))
        late = {**ended, "closed_at": 100.5}
        await store.write(lambda transaction: sessions.insert(transaction, a_session(id="s5", **late)))
        await store.write(close)
        assert await sweep_jobless(store, purge.SESSIONS) == 1
        assert await sweep_jobs(store) == 1
        assert await sweep_jobless(store, purge.SESSIONS) == 1
    assert stored(tmp_path, "SELECT id FROM sessions ORDER BY id") == ["s2", "s3", "s5"]


async def test_an_open_session_stays_as_lately_used_as_it_was(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(storing(an_old_job(1, ended_at=70.0), an_old_job(2, ended_at=60.0)))
        await store.write(storing(an_old_job(3, session_id="s2"), of=a_session(id="s2")))
        before = {session.id: session.last_used_at for session in (await store.load()).sessions}
        assert await sweep_jobs(store) == 2
        after = {session.id: session.last_used_at for session in (await store.load()).sessions}
    assert after == before == {"s1": 70.0, "s2": 50.0}


async def test_the_jobs_of_an_open_session_that_counts_its_seeds_stay(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(storing(an_old_job(1), an_old_job(2), of=a_session(rehearsal=Rehearsal(seed=7))))
        assert await sweep_jobs(store) == 0


async def test_a_key_goes_with_the_last_of_its_jobs_and_may_come_again(tmp_path: Path) -> None:
    def with_keys(transaction: Transaction) -> None:
        for key, first, number in (("gone", 1, 1), ("half", 2, 2), ("kept", 4, 1)):
            jobs.insert_key(transaction, 1001, key, [an_old_job(first + more) for more in range(number)], b"hash")
        jobs.insert_key(transaction, 1002, "gone", [an_old_job(4)], b"hash")

    async with a_store(tmp_path) as store:
        await store.write(storing(*(an_old_job(number) for number in (1, 2)), *map(a_late_job, (3, 4))))
        await store.write(with_keys)
        assert await sweep_jobs(store) == 2
        assert await store.write(lambda transaction: jobs.find_key(transaction, 1001, "gone")) is None
        assert await store.write(lambda transaction: jobs.find_key(transaction, 1001, "half")) == (2, 2, b"hash")
        await store.write(lambda transaction: jobs.insert_key(transaction, 1001, "gone", [an_old_job(4)], b"other"))
        assert await sweep_jobless(store, purge.KEYS) == 0
        await store.write(lambda transaction: jobs.insert_key(transaction, 1001, "gone", [an_old_job(1)], b"other"))
        assert await sweep_jobless(store, purge.KEYS) == 1
    assert stored(tmp_path, "SELECT user_id || key FROM keys ORDER BY 1") == ["1001half", "1001kept", "1002gone"]


def a_late_job(job_id: int) -> Job:
    return an_old_job(job_id, ended_at=200.0)


async def test_a_crash_between_two_transactions_leaves_whole_jobs_and_the_next_sweep_goes_on(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(storing(*(an_old_job(number) for number in range(1, 3 * purge.MOST_JOBS + 2))))
        assert await sweep_jobs(store, most=1) == purge.MOST_JOBS
        await store.write(purge.watch_texts)
    left = rows_of(tmp_path)
    assert (
        left["jobs"] == left["slices"] == left["events"] == list(range(purge.MOST_JOBS + 1, 3 * purge.MOST_JOBS + 2))
    )
    assert stored(tmp_path, "SELECT count(*) FROM jobs j JOIN sequences s ON s.hash = j.sequence_hash") == [
        2 * purge.MOST_JOBS + 1
    ]
    async with a_store(tmp_path) as store:
        assert await sweep_jobs(store) == 2 * purge.MOST_JOBS
        assert await sweep_texts(store) == 3 * purge.MOST_JOBS
    assert stored(tmp_path, "SELECT hash FROM sequences") == [f"h{3 * purge.MOST_JOBS + 1}"]


async def test_jobs_with_many_slices_share_a_transaction_with_fewer_others(tmp_path: Path) -> None:
    def many(transaction: Transaction) -> None:
        transaction.executemany(
            "INSERT INTO slices (id, job_id, number, resource, tag, shots, first_shot, seed, state, intended_at)"
            " VALUES (?, ?, ?, 'TWIN', 't', 1, 0, 1, 'DONE', 1.0)",
            [(1000 + number, 1 + number % 2, number + 1) for number in range(2 * purge.MOST_ROWS)],
        )

    async with a_store(tmp_path) as store:
        await store.write(storing(*(an_old_job(number) for number in (1, 2, 3))))
        await store.write(many)
        await store.write(lambda transaction: slices.insert(transaction, a_slice(9999, job_id=3, number=1)))
        first = await purge.old_jobs(store, BEFORE, 0)
        second = await purge.old_jobs(store, BEFORE, first.last or 0)
    assert (first.ids, second.ids) == ((1,), (2,))


async def test_jobs_younger_than_asked_are_not_even_looked_at(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(storing(*(an_old_job(number, submitted_at=150.0, ended_at=200.0) for number in (1, 2, 3))))
        assert await purge.old_jobs(store, BEFORE, 0) == purge.OldJobs(ids=(), last=None)


async def test_a_text_that_is_needed_again_while_it_is_purged_stays(tmp_path: Path) -> None:
    def one_more(job_id: int) -> Submission:
        new = a_job(job_id, sequence_hash="h1", submitted_at=200.0)
        return Submission(
            session_id="s1", texts={}, news=[NewJob(job=new, variables=None, tags=None, seed=1)]
        )  # sent without its text, since it was stored

    async with a_store(tmp_path) as store:
        await store.write(storing(*(an_old_job(number) for number in (1, 2, 3))))
        await sweep_jobs(store)
        await store.write(purge.watch_texts)
        found = await purge.unnamed_texts(store)
        await store.write(one_more(4))
        await store.write(lambda transaction: batches.insert(transaction, a_batch("b", None, "h2"), None, b""))
        await store.write(lambda transaction: batches.insert(transaction, a_batch("c", None), None, b""))
        assert sorted(found) == ["h1", "h2"]
        assert await store.write(partial(purge.delete_texts, hashes=found)) == 0
        await store.write(purge.unwatch_texts)
        text, _variables, _seed = await queries.program(store, 4)
    assert text == "text of h1"


async def test_a_submission_that_failed_keeps_no_text(tmp_path: Path) -> None:
    """What is noted is rolled back with the submission."""

    def fails(transaction: Transaction) -> None:
        jobs.insert(
            transaction,
            [NewJob(job=a_job(9, sequence_hash="h1"), variables=None, tags=None, seed=1)],
        )
        raise ValueError

    async with a_store(tmp_path) as store:
        await store.write(storing(an_old_job(1), an_old_job(2)))
        await sweep_jobs(store)
        await store.write(purge.watch_texts)
        with pytest.raises(ValueError):
            await store.write(fails)
        assert await store.write(partial(purge.delete_texts, hashes=["h1"])) == 1


async def test_watching_is_seen_by_nobody_else_and_ends(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(purge.watch_texts)
        await store.write(purge.watch_texts)
        await store.write(storing(an_old_job(1)))
        await store.write(purge.unwatch_texts)
        await store.write(storing(an_old_job(2), of=a_session(id="s2")))
    assert stored(tmp_path, "SELECT name FROM sqlite_master WHERE name LIKE 'note%' OR name = 'needed'") == []


async def test_freed_pages_are_used_again(tmp_path: Path) -> None:
    async def round_of(first: int) -> int:
        big = [an_old_job(number, name="x" * 3000) for number in range(first, first + 50)]
        await store.write(storing(*big, of=a_session(id=f"s{first}")))
        await sweep_jobs(store)
        await sweep_texts(store)
        return stored(tmp_path, "PRAGMA page_count")[0]

    async with a_store(tmp_path) as store:
        await round_of(1)
        second, third = await round_of(101), await round_of(201)
    assert third <= second + 4


async def test_a_long_look_that_fails_says_so(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        for file in tmp_path.iterdir():
            file.unlink()
        with pytest.raises(Unavailable, match="cannot be read now"):
            await store.aside("SELECT 1")


async def test_a_long_look_ends_when_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    async with a_store(tmp_path) as store:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await store.aside(endless)
