"""Forecasts of the running scheduler: given at submission, judged at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.daemon.builders import ALICE, ROOT, Site, a_site
from tests.daemon.qpu import Qpu


def series(site: Site, name: str) -> float:
    page = site.context.metrics.render().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name))


async def test_a_job_that_starts_is_compared_with_its_forecast(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu(seconds=0.0)) as site:
        await site.end(await site.submit(await site.session(), 1))
        assert series(site, 'qpud_forecasts_total{kept="yes",queue="development"') == 1
        assert series(site, "qpud_forecast_error_seconds_count") == 1


async def test_a_waiting_job_has_a_forecast_and_an_ended_one_has_none(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        session = await site.session()
        first, second = await site.submit(session, 1000), await site.submit(session, 1)
        await site.in_flight(first)
        foreseen = site.service.forecast(second)
        assert foreseen is not None
        assert foreseen.start == pytest.approx(site.clock() + 1000.0, abs=100.0)
        await site.service.cancel_job(ALICE, str(second.id))
        assert site.service.forecast(await site.job(second)) is None


async def test_the_queue_tells_when_each_job_will_start(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        session = await site.session()
        now, jobs = site.clock(), [await site.submit(session, 1000) for _ in range(3)]
        await site.in_flight(jobs[0])
        entries = await site.service.queue(ALICE, None)
        starts = [one.forecast.start for one in entries if one.forecast is not None]
        assert starts == [None, pytest.approx(now + 1000.0, abs=100.0), pytest.approx(now + 2000.0, abs=100.0)]


async def test_the_answer_to_a_submission_is_what_was_foreseen_then(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        session = await site.session()
        await site.in_flight(await site.submit(session, 10))
        job = await site.submit(session, 10)
        now = site.clock()
        site.clock.forward(100.0)
        given = site.service.forecast_at_submission(job)
        assert given is not None
        assert given.start == pytest.approx(now + 10.0, abs=9.0)


async def test_a_held_job_is_not_compared_with_what_was_foreseen_before(tmp_path: Path) -> None:
    async with a_site(tmp_path, Qpu()) as site:
        session = await site.session()
        first = await site.submit(session, 1)
        await site.in_flight(first)
        job = await site.submit(session, 1)
        await site.service.hold_job(ALICE, str(job.id))
        await site.service.release_job(ROOT, str(job.id))
        site.qpu.finish()
        await site.in_flight(job)
        site.qpu.finish()
        await site.end(job)
        assert series(site, "qpud_forecast_error_seconds_count") == 1
