"""A database that cannot be used: one sentence that says what to do, nothing acknowledged, and an end that is seen."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qpud.core.errors import StorageFull, Unavailable
from qpud.store import queries, trouble, writer
from qpud.store.store import Store
from qpud.store.trouble import LOG_SECONDS, Trouble
from tests.store.builders import a_store, insert, stored
from tests.store.test_writer import fill, small_disk

__all__ = ["small_disk"]  # a fixture
DATABASE = "state.sqlite"
OPEN_AS_ANOTHER = """
import asyncio, os, sys
from pathlib import Path
from qpud.store.store import Store
if os.getuid() == 0:  # whom no mode keeps from writing
    os.setgid(4711); os.setuid(4711)
asyncio.run(Store.open(Path(sys.argv[1])))
"""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def a_database_of_some_pages(folder: Path) -> Path:
    async with a_store(folder) as store:
        for number in range(1, 40):
            await store.write(insert(number, size=4000))
    return folder / DATABASE


def overwrite(path: Path) -> None:
    """The first page of the jobs, in place."""
    (page,) = stored(path.parent, "SELECT rootpage FROM sqlite_master WHERE name = 'jobs'")
    with path.open("r+b") as database:
        database.seek((page - 1) * 4096)
        database.write(b"garbage " * 512)


@pytest.mark.parametrize("harm", [lambda path: os.truncate(path, 5000), lambda path: path.write_text("garbage " * 99)])
async def test_a_damaged_database_at_the_start_names_the_way_back(tmp_path: Path, harm: Callable[[Path], Any]) -> None:
    harm(await a_database_of_some_pages(tmp_path))
    with pytest.raises(Unavailable, match=r"state\.sqlite is damaged .*`qpud restore FILE`"):
        await Store.open(tmp_path / DATABASE)


async def test_damage_found_while_loading_is_one_sentence(tmp_path: Path) -> None:
    overwrite(await a_database_of_some_pages(tmp_path))
    async with a_store(tmp_path) as store:
        with pytest.raises(Unavailable, match=r"the database is damaged .*`qpud restore FILE`"):
            await store.load()


async def test_damage_found_later_refuses_reads_and_writes_in_a_sentence(tmp_path: Path) -> None:
    path = await a_database_of_some_pages(tmp_path)
    async with a_store(tmp_path) as store:
        overwrite(path)
        with pytest.raises(Unavailable, match="damaged"):
            await queries.job(store, 3)
        assert "damaged" in store.trouble
        with pytest.raises(Unavailable, match=r"damaged .*`qpud restore FILE`"):
            await store.write(insert(99))
        await store.write(lambda _transaction: None)
        assert "damaged" in store.trouble, "what could be written since heals nothing"


async def test_a_mistake_in_a_statement_is_no_trouble_of_the_disk(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        with pytest.raises(sqlite3.OperationalError, match="no such column"):
            await store.rows("SELECT nowhere FROM jobs")


@pytest.fixture
def vigilant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are looked at before each commit."""
    monkeypatch.setattr(trouble, "LOOK_SECONDS", 0.0)


async def test_a_file_that_is_gone_is_noticed_before_long_while_commits_go_on(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store, asyncio.timeout(30):
        await store.write(insert(1))
        (tmp_path / DATABASE).unlink()
        with pytest.raises(StorageFull, match="was removed or replaced"):
            for number in itertools.count(2):
                await store.write(insert(number))
        for _ in range(3):
            with pytest.raises(StorageFull, match="was removed or replaced"):
                await store.write(insert(1))


@pytest.mark.usefixtures("vigilant")
@pytest.mark.parametrize("ending", ["", "-wal"])
async def test_nothing_is_acknowledged_once_a_file_of_the_database_is_gone(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"{DATABASE}{ending}"
    async with a_store(tmp_path) as store:
        await store.write(insert(1))
        file.rename(tmp_path / "aside")
        with pytest.raises(StorageFull, match=f"{file} was removed or replaced"):
            await store.write(insert(2))
        (tmp_path / "aside").rename(file)
        await store.write(insert(3))
    assert stored(tmp_path) == [1, 3]


@pytest.mark.usefixtures("vigilant")
async def test_a_folder_that_is_no_folder_any_more_ends_no_thread(tmp_path: Path) -> None:
    folder, aside = tmp_path / "state", tmp_path / "aside"
    folder.mkdir()
    async with a_store(folder) as store, asyncio.timeout(30):
        folder.rename(aside)
        folder.write_text("")
        with pytest.raises(StorageFull, match="removed or replaced"):
            await store.write(insert(1))
        folder.unlink()
        aside.rename(folder)
        await store.write(insert(2))
    assert stored(folder) == [2]


@pytest.mark.usefixtures("vigilant")
async def test_nothing_is_acknowledged_once_another_database_is_in_its_place(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(insert(1))
        (tmp_path / "copy").write_bytes((tmp_path / DATABASE).read_bytes())
        (tmp_path / "copy").replace(tmp_path / DATABASE)
        with pytest.raises(StorageFull, match="removed or replaced"):
            await store.write(insert(2))


async def test_a_database_that_may_only_be_read_is_refused_at_the_start(tmp_path: Path) -> None:
    path = await a_database_of_some_pages(tmp_path)
    path.chmod(0o444)
    if os.getuid() == 0:
        os.chown(tmp_path, 4711, 4711)
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(folder.stat().st_mode | 0o011)
    opened = subprocess.run([sys.executable, "-c", OPEN_AS_ANOTHER, path], capture_output=True, text=True, timeout=60)
    assert f"{path} cannot be opened: qpud's user may not read and write {path}" in opened.stderr


async def test_the_end_of_a_full_disk_is_seen_while_nobody_stores_anything(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PROBE_SECONDS", 0.01)
    ballast, probes = small_disk / "ballast", 0

    def count(_number: int, _seconds: float) -> None:
        nonlocal probes
        probes += 1

    async with a_store(small_disk, count) as store:
        ballast.write_bytes(b"x" * 500_000)
        await fill(store)
        before = probes
        await until(lambda: probes >= before + 5)
        assert "nothing can be stored" in store.trouble, "the attempts must not fit where a submission does not"
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
        await until(lambda: not store.trouble)


async def test_a_trouble_is_logged_once_with_its_end(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble()
    with caplog.at_level("INFO"):
        for now, why in enumerate(["full", "full", "", "", "full", "", "full"]):
            trouble.note(why, float(now))
        assert trouble.why == "full"
        trouble.note("", LOG_SECONDS)
        trouble.note("full", LOG_SECONDS + 1)
    assert [record.message for record in caplog.records] == [
        "nothing can be stored",
        "the database can be written again",
        "nothing can be stored",
    ]


async def test_a_new_database_is_one_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        for _ in range(2):
            async with a_store(tmp_path):
                pass
    assert [record.message for record in caplog.records] == ["a new database, nothing is known of earlier jobs"]
