"""The writer: one fsync for what arrives together, nobody hurt by others, nothing half stored, memory never behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qpud.core.errors import Conflict, StorageFull, Unavailable
from qpud.store.store import Store
from qpud.store.writer import Transaction
from tests.store.builders import a_store, insert, stored


def blocker() -> tuple[Callable[[Transaction], None], threading.Event]:
    """An operation that keeps the writer busy until the event is set."""
    go = threading.Event()
    return lambda _transaction: (go.wait(10), None)[1], go


async def test_operations_that_arrive_together_share_one_transaction(tmp_path: Path) -> None:
    groups: list[int] = []
    async with a_store(tmp_path, lambda number, _seconds: groups.append(number)) as store:
        hold, go = blocker()
        first = asyncio.create_task(store.write(hold))
        rest = [asyncio.create_task(store.write(insert(number))) for number in range(1, 11)]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, *rest)
    assert len(groups) <= 2
    assert sum(groups) == 11


async def test_a_failing_operation_hurts_no_other_of_its_group(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        hold, go = blocker()
        first = asyncio.create_task(store.write(hold))
        rest = [asyncio.create_task(store.write(insert(number))) for number in (1, 2, 2, 3)]
        await asyncio.sleep(0)
        go.set()
        results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), type(None), type(None), Conflict, type(None)]
    assert stored(tmp_path) == [1, 2, 3]


async def test_an_operation_that_fails_in_the_middle_stores_nothing(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(insert(2))
        with pytest.raises(Conflict):
            await store.write(insert(1, 2))
    assert stored(tmp_path) == [2]


async def test_any_exception_of_an_operation_reaches_its_caller_and_the_next_one_works(tmp_path: Path) -> None:
    def bug(_transaction: Transaction) -> None:
        raise ZeroDivisionError

    async with a_store(tmp_path) as store:
        with pytest.raises(ZeroDivisionError):
            await store.write(bug)
        await store.write(insert(1))
    assert stored(tmp_path) == [1]


async def test_what_follows_runs_before_the_caller_goes_on(tmp_path: Path) -> None:
    seen: list[str] = []
    async with a_store(tmp_path) as store:
        await store.write(insert(1), lambda _none: seen.append("then"))
        seen.append("caller")
    assert seen == ["then", "caller"]


async def test_what_follows_a_commit_and_fails_is_told_to_its_caller_and_hurts_no_other(tmp_path: Path) -> None:
    def bug(_none: None) -> None:
        raise ZeroDivisionError

    async with a_store(tmp_path) as store:
        hold, go = blocker()
        first = asyncio.create_task(store.write(hold))
        rest = [asyncio.create_task(store.write(insert(number), bug if number == 1 else None)) for number in (1, 2)]
        await asyncio.sleep(0)
        go.set()
        async with asyncio.timeout(5):
            results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), ZeroDivisionError, type(None)]


async def test_cancelled_callers_are_committed_and_what_follows_runs(tmp_path: Path) -> None:
    chance, followed = random.Random(1), set[int]()
    async with a_store(tmp_path) as store:

        def write(number: int) -> asyncio.Task[None]:
            return asyncio.create_task(store.write(insert(number), lambda _none: followed.add(number)))

        for number in range(1, 301):
            task = write(number)
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                await asyncio.sleep(0.0005)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            if chance.random() < 0.1:
                await store.write(insert(1000 + number))
        await store.write(lambda _transaction: None)
    assert set(stored(tmp_path, "SELECT id FROM jobs WHERE id <= 300")) == followed
    assert followed


async def test_a_closed_writer_says_so(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        pass
    with pytest.raises(Unavailable, match="stopping"):
        await store.write(insert(1))


async def test_closing_commits_what_is_queued(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        writes = [asyncio.create_task(store.write(insert(number))) for number in range(1, 6)]
        await asyncio.sleep(0)
    await asyncio.gather(*writes)
    assert stored(tmp_path) == [1, 2, 3, 4, 5]


async def test_a_database_locked_by_another_process_is_unavailable_for_a_while(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        store._writer._connection.execute("PRAGMA busy_timeout = 50")
        with contextlib.closing(sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            started = asyncio.get_running_loop().time()
            writes = [asyncio.create_task(store.write(insert(number))) for number in range(1, 101)]
            results = await asyncio.gather(*writes, return_exceptions=True)
            took = asyncio.get_running_loop().time() - started
            other.execute("ROLLBACK")
        assert {type(result) for result in results} == {Unavailable}
        assert took < 2.0, "each of a group waits for the lock by itself"
        await store.write(insert(1))
    assert stored(tmp_path) == [1]


async def fill(store: Store) -> list[int]:
    """Store jobs until the disk is full; returns those acknowledged."""
    kept = []
    with pytest.raises(StorageFull, match="nothing was accepted"):
        for number in range(1, 10_000):
            await store.write(insert(number, size=4000))
            kept.append(number)
    return kept


async def test_a_full_database_refuses_whole_operations_and_recovers(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        connection = store._writer._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 50}")
        kept = await fill(store)
        assert stored(tmp_path) == kept
        connection.execute("PRAGMA max_page_count = 1000000")
        await store.write(insert(20_000, size=4000))
    assert stored(tmp_path) == [*kept, 20_000]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = (
        os.getuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place]).returncode == 0
    )
    if not mounted:
        pytest.skip("only root may mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


async def test_a_full_disk_refuses_whole_operations_keeps_reading_and_recovers(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    async with a_store(small_disk) as store:
        ballast.write_bytes(b"x" * 500_000)
        kept = await fill(store)
        assert [row[0] for row in await store.rows("SELECT id FROM jobs ORDER BY id")] == kept
        ballast.unlink()
        await store.write(insert(20_000))
        assert [row[0] for row in await store.rows("SELECT id FROM jobs ORDER BY id")] == [*kept, 20_000]
    assert stored(small_disk, "PRAGMA integrity_check") == ["ok"]


async def test_a_full_disk_at_the_start_is_told_in_one_sentence(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * (1 << 20))
    with pytest.raises(Unavailable, match=r"state\.sqlite cannot be opened"):
        await Store.open(small_disk / "state.sqlite")


async def test_a_database_that_cannot_be_opened_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").mkdir()
    with pytest.raises(Unavailable, match=r"state\.sqlite cannot be opened"):
        await Store.open(tmp_path / "state.sqlite")


async def test_a_file_that_is_no_database_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").write_text("not a database, " * 100)
    with pytest.raises(Unavailable, match=r"state\.sqlite"):
        await Store.open(tmp_path / "state.sqlite")
