"""Metrics: promtool's opinion, and what is counted how."""

from __future__ import annotations

import subprocess

import pytest
from fakes import Desk

from qpud.telemetry.metrics import Metrics


def a_page(metrics: Metrics) -> str:
    return metrics.render().decode()


def metrics() -> Metrics:
    return Metrics(("FRESNEL",), ("production",))


@pytest.mark.prometheus
def test_promtool_finds_nothing_to_complain_of() -> None:
    page = Desk().metrics.render()
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, timeout=30, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_every_series_of_a_resource_exists_at_zero() -> None:
    lines = [line for line in a_page(metrics()).splitlines() if 'resource="FRESNEL"' in line]
    assert len(lines) > 20
    assert all(line.endswith(" 0.0") for line in lines)


def test_a_resource_is_in_one_state() -> None:
    found = metrics()
    found.resource_state("FRESNEL", "up")
    found.resource_state("FRESNEL", "drained")
    states = [line for line in a_page(found).splitlines() if line.startswith("qpud_resource_state{")]
    assert [line.split('state="')[1] for line in states if line.endswith(" 1.0")] == ['drained"} 1.0']


def test_depths_are_read_at_the_scrape() -> None:
    found, depths = metrics(), {("FRESNEL", "production", "PENDING"): 3}
    found.watch_depths(lambda: depths)
    depths["FRESNEL", "production", "PENDING"] = 5
    assert 'qpud_jobs_unfinished{queue="production",resource="FRESNEL",state="PENDING"} 5.0' in a_page(found)


def test_a_slice_counts_shots_and_busy_seconds() -> None:
    found = metrics()
    found.slice_ended("FRESNEL", "production", "DONE", 200, 12.5, 2.5)
    page = a_page(found)
    assert 'qpud_shots_total{queue="production",resource="FRESNEL"} 200.0' in page
    assert 'qpud_resource_busy_seconds_total{queue="production",resource="FRESNEL"} 12.5' in page


def test_a_forecast_is_judged_by_its_error_and_by_its_bound() -> None:
    found = metrics()
    found.forecast_ended("FRESNEL", "production", 42.0, True)
    page = a_page(found)
    assert 'qpud_forecast_error_seconds_sum{queue="production",resource="FRESNEL"} 42.0' in page
    assert 'qpud_forecasts_total{kept="yes",queue="production",resource="FRESNEL"} 1.0' in page


def test_a_cached_verdict_has_no_time() -> None:
    found = metrics()
    found.validation("cached", 0.0)
    found.validation("ok", 0.01)
    assert "qpud_validation_seconds_count 1.0" in a_page(found)


def test_a_resource_added_by_a_reload_appears_at_zero() -> None:
    found = metrics()
    found.cover(("TWIN",), ("production",))
    assert 'qpud_shots_total{queue="production",resource="TWIN"} 0.0' in a_page(found)
