"""The schema: durable, append-only where it counts, and plain enough for the SQLite of EL9."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path

import pytest

import qpud.store
from qpud.core.errors import Conflict, Unavailable
from qpud.core.job import Job, JobState, Reason
from qpud.core.slices import Charge, Outcome, OutcomeState, SliceState
from qpud.store import jobs, sessions, slices
from qpud.store.schema import MIGRATIONS, migrate
from qpud.store.store import Store
from tests.store.builders import a_job, a_session, a_slice, a_store, insert, stored

CHARGE = Charge(shots=10, qpu_seconds=1.0, setup_seconds=0.0)
OUTCOME = Outcome(state=OutcomeState.DONE, counts={"01": 10}, started_at=1.0, ended_at=2.0, qpu_seconds=1.0)


async def test_commits_are_fsynced_and_readers_do_not_wait(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        connection = store._writer._connection
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


async def test_the_reader_cannot_write(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await store.rows("DELETE FROM jobs")


@pytest.mark.parametrize("statement", ["UPDATE ledger SET shots = 0", "DELETE FROM ledger"])
async def test_the_ledger_is_append_only(tmp_path: Path, statement: str) -> None:
    async with a_store(tmp_path) as store:
        await store.write(lambda transaction: slices.add_to_ledger(transaction, a_slice(), a_job(), 2.0, CHARGE))
        with pytest.raises(Conflict, match="append-only"):
            await store.write(lambda transaction: transaction.execute(statement))
    assert stored(tmp_path, "SELECT shots FROM ledger") == [10]


async def test_a_slice_is_charged_once(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(lambda transaction: slices.add_to_ledger(transaction, a_slice(), a_job(), 2.0, CHARGE))
        with pytest.raises(Conflict):
            await store.write(lambda transaction: slices.add_to_ledger(transaction, a_slice(), a_job(), 2.0, CHARGE))


async def test_a_slice_ends_once(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(lambda transaction: slices.insert(transaction, a_slice()))
        for _ in range(2):
            with contextlib.suppress(Conflict):
                await store.write(
                    lambda transaction: slices.end(transaction, a_slice(), SliceState.DONE, OUTCOME, None)
                )
    assert stored(tmp_path, "SELECT shots_done FROM slices") == [10]


async def test_a_transition_from_another_state_is_a_conflict(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(insert(1))
        ended = a_job(1, state=JobState.CANCELED, reason=Reason.USER, ended_at=2.0)
        with pytest.raises(Conflict, match="not RUNNING any more"):
            await store.write(lambda transaction: jobs.move(transaction, ended, JobState.RUNNING))


@pytest.mark.parametrize(
    "bad",
    [
        {"state": "LOST"},
        {"shots": 0},
        {"shots_done": 11},
        {"state": JobState.DONE, "shots_done": 9, "ended_at": 1.0},
        {"state": JobState.CANCELED},
        {"ended_at": 1.0},
        {"id": 2**31},
    ],
    ids=str,
)
async def test_the_schema_refuses_what_the_state_machine_forbids(tmp_path: Path, bad: dict[str, object]) -> None:
    async with a_store(tmp_path) as store:
        job: Job = a_job(**{"job_id": 1, **bad}) if "id" not in bad else a_job(1)
        fields = {name: getattr(job, name) for name in Job.__struct_fields__} | bad
        columns = ", ".join(fields)
        marks = ", ".join("?" * len(fields))
        with pytest.raises(Conflict, match="CHECK"):
            await store.write(
                lambda transaction: transaction.execute(
                    f"INSERT INTO jobs ({columns}, seed) VALUES ({marks}, 1)", tuple(fields.values())
                )
            )


async def test_one_open_session_for_each_user_and_slurm_job(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(lambda transaction: sessions.insert(transaction, a_session(slurm_job_id="7")))
        with pytest.raises(Conflict):
            await store.write(lambda transaction: sessions.insert(transaction, a_session(id="s2", slurm_job_id="7")))


async def test_a_database_of_a_newer_qpud_is_refused(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "state.sqlite")) as database:
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(Unavailable, match=r"schema \d+, this qpud knows \d+: use a newer qpud"):
        await Store.open(tmp_path / "state.sqlite")


async def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(insert(1))
    with contextlib.closing(sqlite3.connect(tmp_path / "state.sqlite")) as database:
        migrate(database)
    assert stored(tmp_path) == [1]


def test_an_old_sqlite_is_told_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 26, 0))
    with contextlib.closing(sqlite3.connect(":memory:")) as database, pytest.raises(Unavailable, match=r"needs 3\.34"):
        migrate(database)


NEWER_THAN_3_34 = re.compile(
    r"\bRETURNING\b|\bSTRICT\b|\bDROP COLUMN\b|->>|\bRIGHT JOIN\b|\bFULL JOIN\b|\bMATERIALIZED\b|\bunixepoch\b"
    r"|\bIS (NOT )?DISTINCT\b|\bjsonb|\bformat\(|\biif\([^,]*,[^,]*\)"
)


def test_no_statement_needs_a_sqlite_newer_than_el9s() -> None:
    (folder,) = qpud.store.__path__
    for file in sorted(Path(folder).glob("*.py")):
        texts = re.findall(r'"((?:[^"\\\n]|\\.)*)"', file.read_text()) + list(MIGRATIONS)
        found = [text for text in texts if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|\s)", text)]
        assert not [text for text in found if NEWER_THAN_3_34.search(text)], file.name


async def test_everything_unfinished_is_found_again(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(lambda transaction: sessions.insert(transaction, a_session()))
        await store.write(lambda transaction: sessions.insert_token(transaction, b"hash", "s1"))
        await store.write(insert(1, 2))
        await store.write(lambda transaction: slices.insert(transaction, a_slice(5)))
        snapshot = await store.load()
    assert [job.id for job in snapshot.jobs] == [1, 2]
    assert snapshot.jobs[0] == a_job(1)
    assert snapshot.in_flight == [a_slice(5)]
    assert snapshot.sessions[0].last_used_at == 2.0  # the submission of job 2
    assert snapshot.tokens == [(b"hash", "s1")]
    assert (snapshot.last_job_id, snapshot.last_slice_id) == (2, 5)
