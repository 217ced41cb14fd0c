"""What users and administrators are told while a resource cannot work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qpud.core.job import Reason
from qpud.scheduler import monitor
from tests.daemon.builders import a_site, until
from tests.daemon.qpu import SPEC, Qpu


def without_spec() -> Qpu:
    qpu = Qpu(seconds=0.0)
    qpu.spec = None
    return qpu


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "WORRIED_SECONDS", 0.001)


async def test_a_resource_that_never_told_its_device_spec_is_down(tmp_path: Path, impatient: None) -> None:
    async with a_site(tmp_path, without_spec()) as site:
        flight = site.book.flights["TWIN"]
        await until(lambda: flight.state == "down")
        assert flight.message == "no spec yet"


async def test_a_job_behind_a_resource_that_is_down_waits_for_it_and_not_for_a_verdict(
    tmp_path: Path, impatient: None
) -> None:
    async with a_site(tmp_path, without_spec()) as site:
        await until(lambda: site.book.flights["TWIN"].state == "down")
        job = await site.submit(await site.session())
        assert (await site.job(job)).reason is Reason.DOWN
        assert (await site.story(job)).endswith("waits: TWIN is down (no spec yet)")


async def test_a_resource_is_up_with_its_first_device_spec(tmp_path: Path, impatient: None) -> None:
    async with a_site(tmp_path, without_spec()) as site:
        await until(lambda: site.book.flights["TWIN"].state == "down")
        job = await site.submit(await site.session())
        site.qpu.spec = SPEC
        assert (await site.end(job)).shots_done == 10


async def test_the_same_trouble_is_logged_once(tmp_path: Path, impatient: None, caplog: Any) -> None:
    asked = 0

    class Counting(Qpu):
        def __getattribute__(self, name: str) -> Any:
            nonlocal asked
            asked += name == "health"
            return super().__getattribute__(name)

    qpu = Counting(seconds=0.0)
    qpu.spec = None
    with caplog.at_level("INFO"):
        async with a_site(tmp_path, qpu):
            await until(lambda: asked > 5)
    assert [record.message for record in caplog.records].count("no device spec") == 1
    assert [record.message for record in caplog.records].count("resource state") == 1
