"""Copies of the database: online, before a migration, and back."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest

from qpud.core.errors import Conflict, Invalid, NotFound, Unavailable
from qpud.store.backup import back_up, keep_before_migration, open_copy, put_back
from qpud.store.schema import MIGRATIONS, migrate
from qpud.store.store import Store
from tests.store.builders import a_store, insert, stored

LOAD = 300


def a_v1_database(folder: Path) -> Path:
    path = folder / "state.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(f"PRAGMA journal_mode = WAL;{MIGRATIONS[0]}PRAGMA user_version = 1;")
        database.execute("INSERT INTO drains VALUES ('FRESNEL', 'laser', 'qops', 1.0)")
        database.commit()
    return path


def copies(folder: Path) -> list[Path]:
    return sorted(folder.glob("state.sqlite.v1.bak-*"))


def version(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def restore(name: Path, folder: Path) -> Path | None:
    with open_copy(name) as backup:
        return put_back(backup, name, folder / "state.sqlite")


async def test_a_migration_leaves_a_copy_of_the_old_database(tmp_path: Path) -> None:
    path = a_v1_database(tmp_path)
    async with a_store(tmp_path):
        pass
    assert version(path) == len(MIGRATIONS)
    (copy,) = copies(tmp_path)
    assert version(copy) == 1
    assert copy.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(sqlite3.connect(copy)) as database:
        assert database.execute("SELECT reason FROM drains").fetchall() == [("laser",)]


async def test_without_a_change_of_schema_there_is_no_copy(tmp_path: Path) -> None:
    for _ in range(2):
        async with a_store(tmp_path):
            pass
    assert not list(tmp_path.glob("*.bak-*"))


def test_of_the_copies_the_last_two_stay(tmp_path: Path) -> None:
    path = a_v1_database(tmp_path)
    seen = []
    with contextlib.closing(sqlite3.connect(path)) as database:
        for _ in range(4):
            keep_before_migration(database, path)
            seen += [copy for copy in copies(tmp_path) if copy not in seen]
    assert copies(tmp_path) == seen[-2:]


async def test_a_copy_that_cannot_be_made_keeps_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = a_v1_database(tmp_path)

    def no_room(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qpud.store.backup.os.fsync", no_room)
    with pytest.raises(Unavailable, match=r"has schema 1 and cannot be copied .* before it becomes schema"):
        await Store.open(path)
    assert version(path) == 1
    assert not list(tmp_path.glob("*.bak-*"))


async def test_a_newer_database_names_the_copy_to_go_back_to(tmp_path: Path) -> None:
    path = a_v1_database(tmp_path)
    async with a_store(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    (copy,) = copies(tmp_path)
    with pytest.raises(Unavailable, match=f"use a newer qpud, or go back with `qpud restore {copy}`"):
        await Store.open(path)


async def test_a_downgrade_goes_back_to_the_copy_and_serves_it(tmp_path: Path) -> None:
    a_v1_database(tmp_path)
    async with a_store(tmp_path):
        pass
    (copy,) = copies(tmp_path)
    restore(copy, tmp_path)
    async with a_store(tmp_path) as store:
        assert (await store.load()).drains["FRESNEL"].reason == "laser"


async def test_a_backup_under_load_is_whole_and_stops_no_writer(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(insert(*range(1, LOAD), size=10_000))
        began, done = threading.Event(), threading.Event()

        def back_up_while_written() -> int:
            began.wait(10)
            size = back_up(tmp_path / "state.sqlite", tmp_path / "copy")
            done.set()
            return size

        copying = asyncio.create_task(asyncio.to_thread(back_up_while_written))
        last = LOAD
        while not done.is_set():
            await store.write(insert(last))
            began.set()
            last += 1
        assert await copying > LOAD * 10_000
    with contextlib.closing(sqlite3.connect(tmp_path / "copy")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = [row[0] for row in database.execute("SELECT id FROM jobs ORDER BY id")]
    assert found == list(range(1, len(found) + 1))
    assert LOAD <= len(found) < last


async def test_a_backup_holds_what_is_committed_but_not_yet_in_the_main_file(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(insert(1))
        back_up(tmp_path / "state.sqlite", tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy"]
    restore(tmp_path / "copy", tmp_path)
    assert stored(tmp_path) == [1]


async def test_a_backup_needs_no_daemon(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(insert(1))
    back_up(tmp_path / "state.sqlite", tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


async def test_a_backup_replaces_no_file(tmp_path: Path) -> None:
    async with a_store(tmp_path):
        pass
    (tmp_path / "copy").symlink_to("nowhere")
    with pytest.raises(Conflict, match=r"there is a file .*copy already"):
        back_up(tmp_path / "state.sqlite", tmp_path / "copy")


def test_a_backup_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no .*state\.sqlite: "):
        back_up(tmp_path / "state.sqlite", tmp_path / "copy")


async def test_what_a_restore_replaces_is_kept_with_the_commits_of_its_wal(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(insert(1))
        back_up(tmp_path / "state.sqlite", tmp_path / "copy")
        await store.write(insert(2))
        for suffix in ("", "-wal"):  # as a crash would leave them
            (tmp_path / f"crashed{suffix}").write_bytes((tmp_path / f"state.sqlite{suffix}").read_bytes())
    for suffix in ("", "-wal"):
        (tmp_path / f"crashed{suffix}").replace(tmp_path / f"state.sqlite{suffix}")
    kept = restore(tmp_path / "copy", tmp_path)
    assert stored(tmp_path) == [1]
    assert kept is not None
    with contextlib.closing(sqlite3.connect(kept)) as database:
        assert [row[0] for row in database.execute("SELECT id FROM jobs ORDER BY id")] == [1, 2]


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (
            lambda path: path.write_bytes(b"no database at all, but long enough to be read as one" * 20),
            "is no database",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:-8192]), "is damaged|is no database"),
        (lambda path: path.write_bytes(b""), "is no database of qpud"),
    ],
    ids=["garbage", "cut short", "empty"],
)
async def test_a_damaged_backup_is_refused_and_changes_nothing(tmp_path: Path, harm: object, sentence: str) -> None:
    async with a_store(tmp_path) as store:
        await store.write(insert(1))
    back_up(tmp_path / "state.sqlite", tmp_path / "copy")
    harm(tmp_path / "copy")  # type: ignore[operator]
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(Invalid, match=sentence):
        restore(tmp_path / "copy", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert stored(tmp_path) == [1]


async def test_a_backup_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    async with a_store(tmp_path):
        pass
    back_up(tmp_path / "state.sqlite", tmp_path / "copy")
    with contextlib.closing(sqlite3.connect(tmp_path / "copy")) as database:
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(Invalid, match=f"has schema {len(MIGRATIONS) + 1}, this qpud knows 1 to {len(MIGRATIONS)}"):
        restore(tmp_path / "copy", tmp_path)


async def test_a_database_in_use_is_no_backup(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with a_store(tmp_path / "other") as store:
        await store.write(insert(1))
        with pytest.raises(Conflict, match="is a database in use"):
            restore(tmp_path / "other" / "state.sqlite", tmp_path)


def test_a_first_restore_onto_an_empty_folder_keeps_nothing(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "copy")) as database:
        migrate(database)
    assert restore(tmp_path / "copy", tmp_path) is None
    assert version(tmp_path / "state.sqlite") == len(MIGRATIONS)
