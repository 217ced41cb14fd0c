import asyncio
import dataclasses
from functools import partial
from pathlib import Path

import msgspec
import pytest

from qpud.core.errors import Forbidden
from qpud.store import sessions
from qpud.store.jobs import NewJob
from qpud.store.submission import Submission
from tests.store.builders import a_job, a_session, a_store, stored
from tests.store.test_writer import blocker


def a_submission(*ids: int, session_id: str = "s1", text: str = "text") -> Submission:
    news = [NewJob(job=a_job(job_id, session_id=session_id), variables=None, tags=None, seed=job_id) for job_id in ids]
    return Submission(session_id=session_id, texts={f"hash of {text}": text}, news=news)


def counted(*ids: int, session_id: str = "s1") -> Submission:
    """A submission in a session that gives its n-th job the seed 100 + n."""
    plain = a_submission(*ids, session_id=session_id)
    news = [msgspec.structs.replace(new, seed=None) for new in plain.news]
    return dataclasses.replace(plain, news=news, seed_by_number=lambda number: 100 + number)


async def test_submissions_that_arrive_together_are_all_stored(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        hold, go = blocker()
        await store.write(lambda transaction: sessions.insert(transaction, a_session()))
        first = asyncio.create_task(store.write(hold))
        rest = [
            asyncio.create_task(store.write(a_submission(number, text=f"{number % 3}"))) for number in range(1, 81)
        ]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, *rest)
    assert stored(tmp_path) == list(range(1, 81))
    assert stored(tmp_path, "SELECT text FROM sequences ORDER BY text") == ["0", "1", "2"]


async def test_jobs_without_a_seed_get_it_by_their_number_in_the_session_also_if_they_arrive_together(
    tmp_path: Path,
) -> None:
    async with a_store(tmp_path) as store:
        hold, go = blocker()
        for session_id in ("s1", "s2"):
            await store.write(partial(sessions.insert, session=a_session(id=session_id)))
        await store.write(counted(1))
        first = asyncio.create_task(store.write(hold))
        operations = (counted(2, 3), counted(4, session_id="s2"), a_submission(5), counted(6))
        rest = [asyncio.create_task(store.write(operation)) for operation in operations]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, *rest)
    assert stored(tmp_path, "SELECT seed FROM jobs ORDER BY id") == [100, 101, 102, 100, 5, 103]


async def test_a_session_that_has_ended_gets_no_job_and_hurts_no_other(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        hold, go = blocker()
        ended = a_session(id="s2", closed_at=2.0, close_reason="user")
        await store.write(lambda transaction: sessions.insert(transaction, a_session()))
        await store.write(lambda transaction: sessions.insert(transaction, ended))
        first = asyncio.create_task(store.write(hold))
        operations = (a_submission(1), a_submission(2, session_id="s2"), a_submission(3, 4))
        rest = [asyncio.create_task(store.write(operation)) for operation in operations]
        await asyncio.sleep(0)
        go.set()
        results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), type(None), Forbidden, type(None)]
    assert stored(tmp_path) == [1, 3, 4]


async def test_a_session_that_never_was_is_refused(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        with pytest.raises(Forbidden, match="has ended"):
            await store.write(a_submission(1))
    assert stored(tmp_path) == []


async def test_a_large_batch_is_stored_whole(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(lambda transaction: sessions.insert(transaction, a_session()))
        await store.write(a_submission(*range(1, 1001)))
    assert stored(tmp_path) == list(range(1, 1001))
