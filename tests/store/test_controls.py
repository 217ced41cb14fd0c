"""What administrators change is found again as it was: reservations, drains and downs, queues of jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from qpud.core.errors import Conflict
from qpud.core.job import JobState, Reason, move
from qpud.core.reservations import Reservation
from qpud.store import admin
from qpud.store import jobs as sql
from qpud.store.store import Drain
from tests.store.builders import a_job, a_store, insert

ONE = Reservation(
    name="monday",
    resource="TWIN",
    starts_at=10.0,
    ends_at=20.5,
    accounts=("chem", 'a "quoted", one'),
    users=("élodie",),
    duty="qa",
    created_by="root",
    created_at=1.0,
)


async def test_a_reservation_is_read_as_it_was_stored(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(lambda transaction: admin.insert_reservation(transaction, ONE))
        assert (await store.load()).reservations == [ONE]
        assert await store.write(admin.reservations) == [ONE]


async def test_a_reservation_is_deleted_once(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(lambda transaction: admin.insert_reservation(transaction, ONE))
        gone = [await store.write(lambda transaction: admin.delete_reservation(transaction, "monday")) for _ in "12"]
        assert gone == [True, False]
        assert (await store.load()).reservations == []


async def test_a_name_is_reserved_once(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(lambda transaction: admin.insert_reservation(transaction, ONE))
        with pytest.raises(Conflict):
            await store.write(lambda transaction: admin.insert_reservation(transaction, ONE))


async def test_down_and_drain_are_told_apart(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(lambda transaction: admin.set_drain(transaction, "A", "laser", "root", 1.0))
        await store.write(lambda transaction: admin.set_drain(transaction, "B", "vacuum", "root", 1.0, is_down=True))
        assert (await store.load()).drains == {
            "A": Drain(reason="laser", is_down=False),
            "B": Drain(reason="vacuum", is_down=True),
        }


async def test_a_drain_replaces_a_down(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(lambda transaction: admin.set_drain(transaction, "A", "vacuum", "root", 1.0, is_down=True))
        await store.write(lambda transaction: admin.set_drain(transaction, "A", "laser", "root", 2.0))
        assert (await store.load()).drains == {"A": Drain(reason="laser", is_down=False)}


async def test_an_unfinished_job_gets_another_queue(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(insert(1))
        await store.write(lambda transaction: sql.set_queue(transaction, 1, "production"))
        assert [job.queue for job in (await store.load()).jobs] == ["production"]


async def test_a_job_that_has_ended_keeps_its_queue(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(insert(1))
        ended = move(a_job(), JobState.CANCELED, Reason.USER, 5.0)
        await store.write(lambda transaction: sql.move(transaction, ended, JobState.PENDING))
        with pytest.raises(Conflict, match="job 1 has ended"):
            await store.write(lambda transaction: sql.set_queue(transaction, 1, "production"))


async def test_what_a_job_was_charged_is_read_with_it(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(insert(1))
        await store.write(lambda transaction: sql.charge(transaction, 1, 2.5, {}))
        await store.write(lambda transaction: sql.charge(transaction, 1, 1.0, {}))
        assert [job.qpu_seconds for job in (await store.load()).jobs] == [3.5]
