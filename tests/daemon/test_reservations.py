"""Reservations against the running scheduler: others wait, owners run, windows begin and end by themselves."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qpud.core import verbs
from qpud.core.errors import Conflict, Forbidden, NotFound
from qpud.core.job import Job, JobState, Reason
from qpud.core.policy import Policy
from qpud.core.resource import ResourcePolicy
from qpud.core.terms import DriverKind
from tests.daemon.builders import ALICE, BOB, ROOT, Site, a_policy, a_site, until
from tests.daemon.qpu import Qpu


def a_twin(**changes: Any) -> Policy:
    """TWIN makes ten shots a second, as the test's QPU does."""
    twin = ResourcePolicy(name="TWIN", driver=DriverKind.SIMULATED, shot_rate=10.0, **changes)
    return msgspec.structs.replace(a_policy(), resources={"TWIN": twin})


async def reserve(site: Site, name: str = "window", start: float = 0.0, seconds: float = 3600.0, **owners: Any) -> Any:
    """Reserve TWIN from `start` seconds from now on, for bob unless told otherwise."""
    ask = verbs.Reserve(
        name=name,
        starts_at=site.clock() + start if start else None,
        duration_seconds=seconds,
        **(owners or {"users": ("user1002",)}),
    )
    return (await site.service.reserve(ROOT, ask)).reservation


async def explained(site: Site, job: Job) -> str:
    entries = await site.service.queue(ROOT, "TWIN")
    return next(entry.explanation for entry in entries if entry.job.id == job.id)


def audit(path: Path) -> list[tuple[str, str, str]]:
    with contextlib.closing(sqlite3.connect(path / "state.sqlite")) as database:
        return database.execute("SELECT user, action, object FROM audit ORDER BY id").fetchall()


async def test_while_a_window_is_active_only_its_owners_start(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=a_twin()) as site:
        await reserve(site)
        others = await site.submit(await site.session(queue="production"), 10)
        owners = await site.submit(await site.session(BOB), 10, who=BOB)
        await site.in_flight(owners)
        assert (await site.job(others)).reason is Reason.RESERVED
        assert "TWIN is reserved for user user1002 until" in await explained(site, others)


@pytest.mark.parametrize(
    ("owners", "session"), [({"accounts": ("chem",)}, {"account": "chem"}), ({"duty": "qa"}, {"account": "duty:qa"})]
)
async def test_accounts_and_duties_own_windows(tmp_path: Path, owners: Any, session: Any) -> None:
    async with a_site(tmp_path, Qpu(), policy=a_twin()) as site:
        await reserve(site, **owners)
        job = await site.submit(await site.session(ROOT, **session), 10, who=ROOT)
        await site.in_flight(job)


async def test_users_may_not_take_a_duty(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        with pytest.raises(Forbidden, match="duties are for root and AdminUsers"):
            await site.session(account="duty:qa")


async def test_a_slice_before_a_window_is_made_so_short_that_it_ends_in_time(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=a_twin()) as site:
        await reserve(site, start=0.65)
        job = await site.submit(await site.session(), 10)
        await site.in_flight(job)
        assert 1 <= site.qpu.requests[0].shots <= 6


async def test_qpu_seconds_before_a_window_pass_as_fast_as_the_resource_runs(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=a_twin(speed_up=100.0)) as site:
        await reserve(site, start=0.65)
        job = await site.submit(await site.session(), 10)
        await site.in_flight(job)
        assert site.qpu.requests[0].shots == 10


async def test_nothing_starts_when_not_even_a_shot_would_end_in_time(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=a_twin(setup_seconds=100.0)) as site:
        await reserve(site, start=50.0)
        job = await site.submit(await site.session(), 10)
        await site.settle()
        assert site.qpu.requests == []
        assert (await site.job(job)).reason is Reason.RESERVED
        assert "not even one shot would end before reservation window, which begins at" in await explained(site, job)


async def test_owners_run_before_their_window_too(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=a_twin(setup_seconds=100.0)) as site:
        await reserve(site, start=50.0)
        job = await site.submit(await site.session(BOB), 10, who=BOB)
        await site.in_flight(job)
        assert site.qpu.requests[0].shots == 10


async def test_a_job_between_two_slices_waits_for_the_end_of_a_window(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=a_twin()) as site:
        job = await site.submit(await site.session(queue="production"), 100)
        await site.in_flight(job)
        await reserve(site)
        site.qpu.finish()
        await until(lambda: site.book.flights["TWIN"].job_id is None)
        await site.settle()
        assert len(site.qpu.requests) == 1
        assert (await site.job(job)).reason is Reason.RESERVED


async def test_work_starts_by_itself_when_a_window_ends(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=a_twin()) as site:
        await reserve(site, seconds=1.0)
        job = await site.submit(await site.session(), 10)
        await site.settle()
        assert site.qpu.requests == []
        await site.in_flight(job)
        assert await site.service.reservations() == []
    assert audit(tmp_path)[-1] == ("qpud", "reservation ended", "window")


async def test_work_starts_at_once_when_a_window_is_deleted(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=a_twin()) as site:
        await reserve(site)
        job = await site.submit(await site.session(), 10)
        await site.settle()
        await site.service.unreserve(ROOT, "window")
        await site.in_flight(job)
    assert audit(tmp_path) == [("root", "reserve", "window"), ("root", "unreserve", "window")]


async def test_a_reservation_survives_a_restart(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=a_twin()) as site:
        made = await reserve(site, accounts=("chem", "ops"), users=("user1002",), duty="qa")
    async with a_site(tmp_path, Qpu(), policy=a_twin()) as site:
        assert [one.reservation for one in await site.service.reservations()] == [made]
        job = await site.submit(await site.session(), 10)
        await site.settle()
        assert (await site.job(job)).reason is Reason.RESERVED


async def test_windows_asked_for_at_once_do_not_overlap(tmp_path: Path) -> None:
    import asyncio

    async with a_site(tmp_path) as site:
        made = await asyncio.gather(*(reserve(site, f"r{number}") for number in range(5)), return_exceptions=True)
        assert sum(isinstance(one, Conflict) for one in made) == 4
        assert len(await site.service.reservations()) == 1


async def test_only_administrators_change_reservations(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        await reserve(site)
        with pytest.raises(Forbidden, match="may not delete reservation window"):
            await site.service.unreserve(ALICE, "window")
        with pytest.raises(Forbidden, match="may not reserve TWIN"):
            await site.service.reserve(ALICE, verbs.Reserve(name="mine", duration_seconds=1.0, users=("user1001",)))


async def test_a_reservation_of_nothing_is_not_found(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        with pytest.raises(NotFound):
            await site.service.unreserve(ROOT, "window")
        with pytest.raises(NotFound, match="resource 'NOPE' does not exist"):
            await site.service.reserve(ROOT, verbs.Reserve(name="w", resource="NOPE", duration_seconds=1.0, duty="qa"))


async def test_a_reserved_resource_says_so_to_a_running_job_only_between_slices(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(), policy=a_twin()) as site:
        job = await site.submit(await site.session(), 100)
        await site.in_flight(job)
        await reserve(site)
        now = await site.job(job)
        assert (now.state, now.reason) == (JobState.RUNNING, Reason.NONE)
