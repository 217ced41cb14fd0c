"""Reports of the ledger add up exactly, however they are grouped, and know whom to bill."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qpud.core.report import Charges, Group, ReportFilter
from qpud.core.slices import Charge
from qpud.store import ledger, sessions, slices
from qpud.store.rows import JOB_COLUMNS, marks, to_row
from qpud.store.store import Store
from qpud.store.writer import Transaction
from tests.store.builders import a_job, a_session, a_slice, a_store, stored

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0


class Ran(NamedTuple):
    """A slice that ran."""

    job: int = 1
    at: float = NOON
    shots: int = 10
    seconds: float = 10.0
    session: str = "s1"
    user: int = 1001
    queue: str = "development"
    resource: str = "TWIN"
    wasted: int = 0


def job_of(ran: Ran) -> Any:
    return a_job(
        ran.job,
        session_id=ran.session,
        user_id=ran.user,
        queue=ran.queue,
        resource=ran.resource,
        submitted_at=NOON - 100,
        started_at=NOON - 40,
    )


def store_all(all_ran: Sequence[Ran]) -> Any:
    """An operation that stores slices with their jobs and charges."""

    def operation(transaction: Transaction) -> None:
        for job in {ran.job: job_of(ran) for ran in all_ran}.values():
            columns = f"{JOB_COLUMNS}, seed"  # whatever became of its session
            transaction.execute(f"INSERT INTO jobs ({columns}) VALUES ({marks(columns)})", (*to_row(job), 1))
        for number, ran in enumerate(all_ran, 1):
            one = a_slice(number, job_id=ran.job, number=number, resource=ran.resource)
            slices.insert(transaction, one)
            slices.set_running(transaction, one.id, "device", ran.at - ran.seconds)
            slices.add_to_ledger(transaction, one, job_of(ran), ran.at, charge_of(ran))

    return operation


def charge_of(ran: Ran) -> Charge:
    return Charge(
        shots=ran.shots,
        qpu_seconds=ran.seconds,
        setup_seconds=ran.seconds / 10,
        wasted_shots=ran.wasted,
        wasted_seconds=float(ran.wasted),
    )


async def a_report(path: Path, all_ran: Sequence[Ran], **which: Any) -> Any:
    async with a_store(path) as store:
        await store.write(store_all(all_ran))
        return await ledger.report(store, ReportFilter(**which))


def keys(report: Any) -> list[tuple[object, ...]]:
    return [tuple(row.key.values()) for row in report.rows]


async def test_a_charge_carries_account_and_slurm_job_of_its_session(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        one = a_session(account="chem", slurm_job_id="42")
        await store.write(lambda transaction: sessions.insert(transaction, one))
        await store.write(store_all([Ran()]))
    assert stored(tmp_path, "SELECT account || ' ' || slurm_job_id FROM ledger") == ["chem 42"]


async def test_a_charge_is_stored_even_if_nothing_is_known_of_its_session(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(store_all([Ran(session="gone")]))
    assert stored(tmp_path, "SELECT shots FROM ledger WHERE account IS NULL") == [10]


async def test_a_row_sums_the_slices_of_its_group(tmp_path: Path) -> None:
    report = await a_report(tmp_path, [Ran(at=NOON), Ran(at=NOON + 20, shots=5)], by=(Group.USER,))
    assert report.rows[0].charges == Charges(
        jobs=1,
        slices=2,
        shots=15,
        qpu_seconds=20.0,
        setup_seconds=2.0,
        wasted_shots=0,
        wasted_seconds=0.0,
        wait_seconds=60.0,
        submitted_at=NOON - 100,
        started_at=NOON - 10,
        ended_at=NOON + 20,
    )


async def test_what_was_wasted_is_reported_beside_what_was_charged(tmp_path: Path) -> None:
    total = (await a_report(tmp_path, [Ran(), Ran(shots=0, seconds=0.0, wasted=7)])).total
    assert (total.shots, total.qpu_seconds, total.wasted_shots, total.wasted_seconds) == (10, 10.0, 7, 7.0)


async def test_days_begin_at_midnight_utc(tmp_path: Path) -> None:
    midnight = NOON + DAY / 2
    report = await a_report(tmp_path, [Ran(at=midnight - 0.001), Ran(at=midnight)], by=(Group.DAY,))
    assert keys(report) == [(date(2026, 11, 24),), (date(2026, 11, 25),)]


async def test_a_job_of_two_days_counts_on_both_and_once_in_the_total(tmp_path: Path) -> None:
    report = await a_report(tmp_path, [Ran(), Ran(at=NOON + DAY)], by=(Group.DAY,))
    assert [row.charges.jobs for row in report.rows] == [1, 1]
    assert (report.total.jobs, report.total.wait_seconds) == (1, 60.0)


async def test_rows_come_in_the_order_of_the_groups_asked_for(tmp_path: Path) -> None:
    ran = [Ran(1, user=1002), Ran(2, user=1001, queue="test"), Ran(3, user=1001, at=NOON + DAY)]
    report = await a_report(tmp_path, ran, by=(Group.USER, Group.DAY, Group.QUEUE))
    assert [row.key[Group.USER] for row in report.rows] == [1001, 1001, 1002]
    assert [row.key[Group.QUEUE] for row in report.rows] == ["test", "development", "development"]


async def test_sessions_of_qpud_run_are_billed_to_the_slurm_job_they_ran_in(tmp_path: Path) -> None:
    names = ["4242.run-0a1b2c3d", "4242.env-ffffffff", "4242", "4243.0"]
    async with a_store(tmp_path) as store:
        for number, name in enumerate(names):
            one = a_session(id=f"s{number}", slurm_job_id=name)
            await store.write(lambda transaction, one=one: sessions.insert(transaction, one))
        await store.write(store_all([Ran(number + 1, session=f"s{number}") for number in range(4)]))
        report = await ledger.report(store, ReportFilter(by=(Group.SLURM_JOB,)))
        one = await ledger.report(store, ReportFilter(by=(Group.SESSION,), slurm_jobs=("4242",)))
    assert [(row.key[Group.SLURM_JOB], row.charges.shots) for row in report.rows] == [("4242", 30), ("4243.0", 10)]
    assert keys(one) == [("s0",), ("s1",), ("s2",)]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({"user_ids": (1001,)}, {1, 3}),
        ({"user_ids": (1001, 1002)}, {1, 2, 3}),
        ({"queues": ("test",)}, {3}),
        ({"resources": ("OTHER",)}, {2}),
        ({"sessions": ("s2",)}, {2}),
        ({"start": NOON + 10}, {2, 3}),
        ({"end": NOON + 10}, {1}),
        ({"start": NOON, "end": NOON}, set()),
        ({"user_ids": (1001,), "queues": ("test",)}, {3}),
        ({"accounts": ("chem",)}, set()),
    ],
)
async def test_filters_choose_rows(tmp_path: Path, which: dict[str, Any], expected: set[int]) -> None:
    ran = [
        Ran(1, at=NOON),
        Ran(2, at=NOON + 10, user=1002, session="s2", resource="OTHER"),
        Ran(3, at=NOON + 20, queue="test"),
    ]
    report = await a_report(tmp_path, ran, by=(Group.JOB,), **which)
    assert {row.key[Group.JOB] for row in report.rows} == expected
    assert report.total.shots == 10 * len(expected)


async def test_pages_follow_each_other_and_each_tells_the_whole_sum(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(store_all([Ran(number) for number in range(1, 6)]))
        pages, offset = [], 0
        while offset is not None:
            page = await ledger.report(store, ReportFilter(by=(Group.JOB,), limit=2, offset=offset))
            pages.append(page)
            offset = page.next
    assert [keys(page) for page in pages] == [[(1,), (2,)], [(3,), (4,)], [(5,)]]
    assert {page.total.shots for page in pages} == {50}


async def test_a_report_of_nothing_is_empty_and_sums_to_zero(tmp_path: Path) -> None:
    report = await a_report(tmp_path, [])
    assert (report.rows, report.total.shots, report.total.started_at, report.next) == ([], 0, None, None)


async def test_the_ledger_knows_the_names_of_the_past(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(store_all([Ran(1), Ran(2, user=1002, queue="gone")]))
        assert set(await ledger.names(store, Group.QUEUE, ())) == {"development", "gone"}
        assert await ledger.names(store, Group.QUEUE, (1001,)) == ["development"]
        assert await ledger.names(store, Group.ACCOUNT, ()) == []


async def test_a_long_report_keeps_nobody_from_reading(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        busy, go = threading.Event(), threading.Event()
        await store._reporter.create_function("linger", 0, lambda: busy.set() or go.wait(10))
        report = asyncio.create_task(store.long_rows("SELECT linger()"))
        try:
            await asyncio.to_thread(busy.wait, 10)
            assert await store.rows("SELECT count(*) FROM ledger") == [(0,)]
            assert not report.done()
        finally:
            go.set()
            await report


async def test_hourly_usage_tells_whose_seconds_and_when(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(lambda transaction: sessions.insert(transaction, a_session(account="chem")))
        ran = [Ran(1, at=NOON + 600, seconds=30), Ran(1, at=NOON + 1200, seconds=10), Ran(2, user=1002, session="x")]
        await store.write(store_all([*ran, Ran(1, at=NOON + 3600, seconds=5), Ran(1, at=NOON - 7200)]))
        found = await ledger.hourly_usage(store, NOON)
    told = [(one.user_id, one.account, one.at - NOON, one.qpu_seconds) for one in found]
    assert told == [(1001, "chem", 750.0, 40.0), (1002, None, 0.0, 10.0), (1001, "chem", 3600.0, 5.0)]


async def test_hourly_usage_leaves_out_what_cost_nothing(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.write(store_all([Ran(seconds=0.0)]))
        assert await ledger.hourly_usage(store, 0.0) == []


some_ran = st.builds(
    Ran,
    job=st.integers(1, 4),
    at=st.floats(NOON - 3 * DAY, NOON + 3 * DAY),
    shots=st.integers(0, 1000),
    seconds=st.floats(0, 1000),
    wasted=st.integers(0, 50),
)
WHO = [("s1", 1001, "test", "TWIN"), ("s2", 1002, "test", "OTHER"), ("s3", 1001, "development", "TWIN")]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(some_ran, max_size=12), st.lists(st.sampled_from(Group), unique=True), st.integers(1, 5))
def test_rows_of_any_grouping_sum_to_the_slices_that_ran(
    tmp_path_factory: pytest.TempPathFactory, all_ran: list[Ran], by: list[Group], limit: int
) -> None:
    all_ran = [
        ran._replace(**dict(zip(("session", "user", "queue", "resource"), WHO[ran.job % 3], strict=True)))
        for ran in all_ran
    ]
    rows = asyncio.run(_every_row(tmp_path_factory.mktemp("ledger"), all_ran, tuple(by), limit))
    assert sum(row.charges.shots for row in rows) == sum(ran.shots for ran in all_ran)
    assert sum(row.charges.slices for row in rows) == len(all_ran)
    assert sum(row.charges.wasted_shots for row in rows) == sum(ran.wasted for ran in all_ran)
    assert sum(row.charges.qpu_seconds for row in rows) == pytest.approx(sum(ran.seconds for ran in all_ran))


async def _every_row(path: Path, all_ran: list[Ran], by: tuple[Group, ...], limit: int) -> list[Any]:
    async with a_store(path) as store:
        await store.write(store_all(all_ran))
        return [row async for row in _rows(store, by, limit)]


async def _rows(store: Store, by: tuple[Group, ...], limit: int) -> Any:
    offset: int | None = 0
    while offset is not None:
        page = await ledger.report(store, ReportFilter(by=by, limit=limit, offset=offset))
        for row in page.rows:
            yield row
        offset = page.next
