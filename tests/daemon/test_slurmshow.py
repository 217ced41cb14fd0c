"""How the QPUs are shows in a real Slurm: drained, down, degraded, silent; and what is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qpud.core import slurmmarks
from qpud.core.errors import BadRequest, Conflict, Forbidden
from qpud.core.policy import Policy
from qpud.drivers.base import Health, HealthState
from qpud.site.slurm import Slurm
from qpud.site.slurmcontrol import SlurmControl
from tests.daemon.builders import ALICE, ROOT, Site, a_life, a_policy, a_site, until
from tests.daemon.qpu import Qpu
from tests.site.cluster import PARTITIONS, Cluster

pytestmark = pytest.mark.slurm

OURS, PATIENCE = "qpud_TWIN", 60.0


def shown(cluster: Cluster) -> dict[str, str]:
    """Licences of the reservations in Slurm."""
    rows = [line.split() for line in cluster.attempt("scontrol", "-o", "show", "reservation").stdout.splitlines()]
    found = [dict(word.partition("=")[::2] for word in row) for row in rows if row and row[0].startswith("Res")]
    return {one["ReservationName"]: one["Licenses"] for one in found}


def reason_of(cluster: Cluster, job: int) -> str:
    return cluster.run("squeue", "-h", "-j", str(job), "-o", "%r")


def partition_of(cluster: Cluster, name: str) -> str:
    return cluster.run("sinfo", "-h", "-p", name, "-o", "%a").split("\n")[0]


async def comes(condition: Any) -> None:
    """Wait, without stopping the loop, for what Slurm shows."""
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


@pytest.fixture
def clean(cluster: Cluster) -> Iterator[Cluster]:
    """No reservations and every partition up, afterwards."""
    yield cluster
    for name in shown(cluster):
        cluster.run("scontrol", "delete", f"ReservationName={name}")
    for partition in PARTITIONS:
        cluster.run("scontrol", "update", f"PartitionName={partition}", "State=UP")


def a_shown_policy(*resources: str, **shows: Any) -> Policy:
    policy = a_policy(*resources, slurm_lookup=True, slurm_control=True)
    shows = shows or {"slurm_licenses": ("qpu:10",)}
    changed = {name: msgspec.structs.replace(one, **shows) for name, one in policy.resources.items()}
    return msgspec.structs.replace(policy, resources=changed)


@asynccontextmanager
async def a_shown_site(path: Path, cluster: Cluster, **parts: Any) -> AsyncIterator[Site]:
    policy = parts.pop("policy", None) or a_shown_policy()
    slurm = Slurm(cluster.conf, time.monotonic)
    async with a_site(path, policy=policy, slurm=slurm, slurm_conf=cluster.conf, **parts) as site:
        yield site


def audit(path: Path) -> list[tuple[str, str, str]]:
    with contextlib.closing(sqlite3.connect(path / "state.sqlite")) as database:
        return database.execute("SELECT user, action, object FROM audit ORDER BY id").fetchall()


async def test_a_drained_qpu_lets_new_slurm_jobs_wait_and_a_resume_starts_them(tmp_path: Path, clean: Cluster) -> None:
    running = await asyncio.to_thread(clean.start, "sleep 300", "-L", "qpu:3")
    async with a_shown_site(tmp_path, clean) as site:
        began = time.monotonic()
        await site.service.drain(ROOT, "TWIN", "laser service")
        await comes(lambda: shown(clean) == {OURS: "qpu:10"})
        print(f"a drain shows in Slurm after {time.monotonic() - began:.2f} s")
        waits = await asyncio.to_thread(clean.submit, "true", "-L", "qpu:1")
        await comes(lambda: reason_of(clean, waits) == "Licenses")
        assert clean.state(running) == "RUNNING"
        await site.service.resume(ROOT, "TWIN")
        await comes(lambda: clean.state(waits) == "COMPLETED")
        assert shown(clean) == {}
    assert audit(tmp_path) == [
        ("root", "drain", "TWIN"),
        ("qpud", "slurm reserve", OURS),
        ("root", "resume", "TWIN"),
        ("qpud", "slurm unreserve", OURS),
    ]


async def test_a_degraded_qpu_reserves_a_part_of_its_licences(tmp_path: Path, clean: Cluster) -> None:
    async with a_shown_site(tmp_path, clean) as site:
        view = await site.service.degrade(ROOT, "TWIN", 7, "two lasers of five")
        assert (view.state, view.degraded_units, view.degraded_reason) == ("up", 7, "two lasers of five")
        await comes(lambda: shown(clean) == {OURS: "qpu:7"})
        small, large = [await asyncio.to_thread(clean.submit, "true", "-L", f"qpu:{units}") for units in (3, 4)]
        await comes(lambda: clean.state(small) == "COMPLETED")
        await comes(lambda: reason_of(clean, large) == "Licenses")
        assert (await site.end(await site.submit(await site.session()))).shots_done == 10
        await site.service.drain(ROOT, "TWIN", "the rest of them too")
        await comes(lambda: shown(clean) == {OURS: "qpu:10"})
        await site.service.resume(ROOT, "TWIN")
        await comes(lambda: clean.state(large) == "COMPLETED")


async def test_a_partition_is_down_while_all_that_list_it_are(tmp_path: Path, clean: Cluster) -> None:
    policy = a_shown_policy("TWIN", "EMU", slurm_partitions=("test",))
    async with a_shown_site(tmp_path, clean, policy=policy) as site:
        await site.service.drain(ROOT, "TWIN", "laser service")
        await site.settle()
        await site.show.compare(control_of(site))
        assert partition_of(clean, "test") == "up"
        await site.service.down(ROOT, "EMU", "memory is broken")
        await comes(lambda: partition_of(clean, "test") == "down")
        waits = await asyncio.to_thread(clean.submit, "true", "-p", "test")
        await comes(lambda: reason_of(clean, waits) == "PartitionDown")
        await site.service.resume(ROOT, "EMU")
        await comes(lambda: clean.state(waits) == "COMPLETED")


def control_of(site: Site) -> SlurmControl:
    assert site.context.slurm_control is not None
    return site.context.slurm_control


async def test_what_administrators_of_slurm_made_is_left_alone(tmp_path: Path, clean: Cluster) -> None:
    policy = a_shown_policy(slurm_licenses=("qpu:10",), slurm_partitions=("test",))
    foreign = ("StartTime=now", "Duration=60", "Users=root", "Flags=LICENSE_ONLY")
    clean.run("scontrol", "create", "reservation", f"ReservationName={OURS}", "Licenses=qpu:1", *foreign)
    clean.run("scontrol", "create", "reservation", "ReservationName=qpud_OTHER", "Licenses=qpu:1", *foreign)
    clean.run("scontrol", "update", "PartitionName=test", "State=DOWN")
    async with a_shown_site(tmp_path, clean, policy=policy) as site:
        await site.service.drain(ROOT, "TWIN", "laser service")
        await comes(lambda: "not make" in site.service.slurm_trouble())
        await site.service.resume(ROOT, "TWIN")
        await comes(lambda: site.service.slurm_trouble() == "")
    assert shown(clean) == {OURS: "qpu:1", "qpud_OTHER": "qpu:1"}
    assert partition_of(clean, "test") == "down"
    assert [action for _user, action, _object in audit(tmp_path)] == ["drain", "resume"]


async def test_what_a_crash_left_in_slurm_is_removed_at_the_start(tmp_path: Path, clean: Cluster) -> None:
    policy = a_shown_policy(slurm_licenses=("qpu:10",), slurm_partitions=("test",))
    async with a_shown_site(tmp_path, clean, policy=policy) as site:
        await site.service.drain(ROOT, "TWIN", "laser service")
        await comes(lambda: (shown(clean), partition_of(clean, "test")) == ({OURS: "qpu:10"}, "down"))
    idle = await a_life(tmp_path, Qpu(seconds=0.0), policy=policy)  # resumed, and killed before Slurm was told
    await idle.service.resume(ROOT, "TWIN")
    await idle.stop()
    assert shown(clean) == {OURS: "qpu:10"}
    async with a_shown_site(tmp_path, clean, policy=policy):
        await comes(lambda: (shown(clean), partition_of(clean, "test")) == ({}, "up"))


async def test_a_restart_keeps_what_a_drained_qpu_shows(tmp_path: Path, clean: Cluster) -> None:
    async with a_shown_site(tmp_path, clean) as site:
        await site.service.degrade(ROOT, "TWIN", 2, "a laser of five")
        await site.service.drain(ROOT, "TWIN", "laser service")
        await comes(lambda: shown(clean) == {OURS: "qpu:10"})
    async with a_shown_site(tmp_path, clean) as site:
        assert await site.show.compare(control_of(site)) == ""
        assert shown(clean) == {OURS: "qpu:10"}
        assert (await site.service.resources())[0].degraded_units == 2
    assert [one[1] for one in audit(tmp_path)].count("slurm reserve") == 1


async def test_a_resource_that_left_the_policy_leaves_nothing_in_slurm(tmp_path: Path, clean: Cluster) -> None:
    async with a_shown_site(tmp_path, clean, policy=a_shown_policy("OLD", "TWIN")) as site:
        await site.service.drain(ROOT, "OLD", "goes to the museum")
        await comes(lambda: shown(clean) == {"qpud_OLD": "qpu:10"})
    async with a_shown_site(tmp_path, clean, policy=a_policy(slurm_lookup=True, slurm_control=True)):
        await comes(lambda: shown(clean) == {})


async def test_a_silent_qpu_shows_after_a_while_and_a_flapping_one_does_not(
    tmp_path: Path, clean: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurmmarks, "WORSE_AFTER_SECONDS", 1.5)
    monkeypatch.setattr(slurmmarks, "BETTER_AFTER_SECONDS", 1.5)
    async with a_shown_site(tmp_path, clean) as site:
        flight = site.book.flights["TWIN"]
        await site.show.compare(control_of(site))  # it is known to be well
        for state in ("unreachable", "up") * 3:
            flight.state = state
            site.context.show_state("TWIN")
            await site.show.compare(control_of(site))
        assert shown(clean) == {}
        flight.state = "unreachable"
        site.context.show_state("TWIN")
        await comes(lambda: shown(clean) == {OURS: "qpu:10"})
        flight.state = "up"
        site.context.show_state("TWIN")
        await comes(lambda: shown(clean) == {})
    assert [one[1] for one in audit(tmp_path)] == ["slurm reserve", "slurm unreserve"]


async def test_a_qpu_that_is_down_at_the_start_shows_until_it_is_well(
    tmp_path: Path, clean: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurmmarks, "WORSE_AFTER_SECONDS", 0.5)
    monkeypatch.setattr(slurmmarks, "BETTER_AFTER_SECONDS", 0.5)
    qpu = Qpu(seconds=0.0)
    qpu.health = Health(state=HealthState.DOWN, message="vacuum is gone")
    async with a_shown_site(tmp_path, clean, qpu=qpu):
        await comes(lambda: shown(clean) == {OURS: "qpu:10"})
        qpu.health = Health(state=HealthState.UP)  # the monitor asks every two seconds
        await comes(lambda: shown(clean) == {})


async def test_what_stays_in_slurm_without_slurm_control_is_told(
    tmp_path: Path, clean: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_shown_site(tmp_path, clean) as site:
        await site.service.drain(ROOT, "TWIN", "laser service")
        await comes(lambda: shown(clean) == {OURS: "qpu:10"})
    async with a_site(tmp_path):
        await until(lambda: "without SlurmControl what qpud set in Slurm stays there" in caplog.messages)
    assert shown(clean) == {OURS: "qpu:10"}


async def test_a_hung_slurm_costs_a_drain_nothing_and_shows_it_later(tmp_path: Path, clean: Cluster) -> None:
    async with a_shown_site(tmp_path, clean) as site:
        await site.show.compare(control_of(site))
        with clean.hung():
            began = time.monotonic()
            await site.service.drain(ROOT, "TWIN", "laser service")
            session = await site.session()
            await site.submit(session)
            assert time.monotonic() - began < 1.0
            await until(lambda: "does not answer" in site.service.slurm_trouble(), 30.0)
        await comes(lambda: shown(clean) == {OURS: "qpu:10"})
        await until(lambda: site.service.slurm_trouble() == "", 30.0)


async def test_a_refusal_is_one_sentence_and_no_flood(
    tmp_path: Path, clean: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    policy = a_shown_policy(slurm_licenses=("nosuch:1",), slurm_partitions=("nowhere",))
    async with a_shown_site(tmp_path, clean, policy=policy) as site:
        await site.service.drain(ROOT, "TWIN", "laser service")
        await comes(lambda: site.service.slurm_trouble() != "")
        for _ in range(3):
            trouble = await site.show.compare(control_of(site))
        await site.service.resume(ROOT, "TWIN")
        await comes(lambda: site.service.slurm_trouble() == "")
    assert trouble == (
        "Slurm refused to reserve qpud_TWIN: Error creating the reservation: Invalid license specification; "
        "Slurm has no partition nowhere, which SlurmPartitions names"
    )
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sorted(warned) == ["Slurm does not show how the resources are", "Slurm refused"]


async def test_who_may_degrade_what(tmp_path: Path, clean: Cluster) -> None:
    policy = a_shown_policy("TWIN", "EMU")
    bare = msgspec.structs.replace(policy.resources["EMU"], slurm_licenses=())
    policy = msgspec.structs.replace(policy, resources={**policy.resources, "EMU": bare})
    async with a_shown_site(tmp_path, clean, policy=policy) as site:
        with pytest.raises(Forbidden, match="degrade TWIN"):
            await site.service.degrade(ALICE, "TWIN", 3, "why not")
        for units in (0, 10):
            with pytest.raises(BadRequest, match="outside 1 … 9"):
                await site.service.degrade(ROOT, "TWIN", units, "why not")
        with pytest.raises(BadRequest, match="needs a reason"):
            await site.service.degrade(ROOT, "TWIN", 3, " ")
        with pytest.raises(Conflict, match="SlurmLicenses"):
            await site.service.degrade(ROOT, "EMU", 3, "why not")
