"""A real Prometheus scrapes the daemon; promtool finds nothing to say about the page."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from livesite import Site, free_port

from qpud import __version__

pytestmark = [pytest.mark.prometheus, pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]
START_SECONDS = 30.0


def program(name: str) -> str:
    """The path of a program of the distribution's package, or a skip."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: apt-get install prometheus")
    return found


@pytest.fixture(scope="module")
def prometheus(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prometheus with the site as its one target; its URL."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: qpud, static_configs: [{{targets: ['127.0.0.1:{site.port}']}}]}}]\n"
    )
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    process.wait(START_SECONDS)


def query(prometheus: str, expression: str) -> list[dict[str, Any]]:
    """What an expression gives, as soon as it gives anything."""
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(base_url=prometheus, trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                found: list[dict[str, Any]] = client.get("/api/v1/query", params={"query": expression}).json()["data"][
                    "result"
                ]
            except (httpx.TransportError, ValueError, KeyError):  # not listening yet, or not ready
                found = []
            if found:
                return found
            time.sleep(0.2)
    raise AssertionError(f"{expression} gave nothing within {START_SECONDS:.0f} s")


def test_the_target_is_up(prometheus: str) -> None:
    assert query(prometheus, "up == 1")[0]["metric"]["job"] == "qpud"


def test_the_build_is_known(prometheus: str) -> None:
    assert query(prometheus, "qpud_build_info")[0]["metric"]["version"] == __version__


def test_every_resource_has_its_queue_depth(prometheus: str, site: Site) -> None:
    names = {one["name"] for one in site.get("/v1/resources")["resources"]}
    found = query(prometheus, "qpud_jobs_unfinished")
    assert {one["metric"]["resource"] for one in found} == names


def test_the_shots_of_a_job_are_counted(prometheus: str, site: Site, session: dict[str, Any], afm: str) -> None:
    total = 'sum(qpud_shots_total{resource="FRESNEL"})'
    before = float(query(prometheus, total)[0]["value"][1])
    site.ended(site.submit(session["token"], sequence=afm, shots=7)["id"])
    assert query(prometheus, f"{total} == {before + 7:g}")


def test_promtool_finds_nothing_wrong_with_the_live_page(site: Site) -> None:
    promtool = program("promtool")
    with site.tcp() as client:
        page = client.get("/metrics")
    assert page.status_code == 200
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page.text, capture_output=True, text=True, timeout=30
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
