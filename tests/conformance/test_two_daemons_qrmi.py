"""The driver `qrmi` with the released package, in front of another qpud: as pasqal-local by munge, as pasqal-cloud.

And payloads of another kind through a whole daemon, over a stand-in of the package: no such QPU is reached from here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import venvs
from conftest import MakeSite
from livesite import SLOW, Site, through_qrmi
from test_two_daemons import check_cancel_reaches_the_device, device_jobs, started

pytestmark = [pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker, pytest.mark.client]

FAKE = Path(__file__).parents[1] / "drivers" / "fake_qrmi"
SAMPLER = {"program_id": "sampler", "input": {"pubs": [["OPENQASM 3.0; qubit q;", None, 10]], "version": 2}}
RAW = '{"results": [{"data": {"c": [1, 0]}}]}'


def private(path: Path, *lines: str) -> Path:
    """A file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")
    return path


def local_variables(back: Site) -> list[str]:
    """What qrmi's type pasqal-local reads; munge proves who we are."""
    return [f"FRESNEL_QRMI_WARDEN_URL={back.url}", "QRMI_JOB_UID=0", "QRMI_JOB_ID=4711"]


def cloud_variables(back: Site) -> list[str]:
    """What qrmi's type pasqal-cloud reads; a session's token proves who we are."""
    prefix = "FRESNEL_QRMI_PASQAL_CLOUD_"
    token = back.open_session()["token"]
    return [f"{prefix}BASE_URL={back.url}", f"{prefix}PROJECT_ID=none", f"{prefix}AUTH_TOKEN={token}"]


KINDS = {"pasqal-local": local_variables, "pasqal-cloud": cloud_variables}


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest, make_site: MakeSite, tmp_path: Path) -> tuple[Site, Site]:
    """A front daemon that speaks qrmi, and the one behind it."""
    back = make_site("back", SLOW)
    environment = private(tmp_path / "environment", *KINDS[request.param](back))
    return make_site("front", through_qrmi(request.param, venvs.python_of("qrmi"), environment)), back


def check_shots(front: Site, back: Site, job: int, shots: int) -> None:
    """The job ends with exactly its shots, and no more ran."""
    assert front.ended(job)["state"] == "DONE"
    assert sum(front.counts(job).values()) == shots
    assert sum(one["shots"] for one in device_jobs(back)) == shots


def test_a_job_runs_through_qrmi_with_exactly_its_shots(pair: tuple[Site, Site], afm: str) -> None:
    front, back = pair
    job = front.submit(front.open_session()["token"], sequence=afm, shots=12)["id"]
    check_shots(front, back, job, 12)


def test_the_front_daemon_killed_in_a_slice_adopts_the_same_task(pair: tuple[Site, Site], afm: str) -> None:
    front, back = pair
    job = started(front, back, afm, 60)
    front.until(job, lambda _found: bool(front.get(f"/v1/jobs/{job}/result")["slices"][0]["device_id"]))
    front.kill()
    front.start()
    check_shots(front, back, job, 60)


def test_a_cancel_reaches_the_task(pair: tuple[Site, Site], afm: str) -> None:
    front, back = pair
    check_cancel_reaches_the_device(front, back, started(front, back, afm, 400))


@pytest.fixture
def vendor(make_site: MakeSite, tmp_path: Path) -> Site:
    """A daemon with a resource whose programs are no Pulser's, over the stand-in of the package."""
    python = tmp_path / "python"
    code = f"sys.path.insert(0, {str(FAKE)!r})\ncode, sys.argv = sys.argv[4], ['-c', *sys.argv[5:]]\nexec(code)"
    python.write_text(f"#!{sys.executable} -I\nimport sys\n{code}\n")
    python.chmod(0o700)
    environment = private(tmp_path / "environment", "IBM_QRMI_URL=http://nowhere", f"FAKE_FOLDER={tmp_path}")
    return make_site("vendor", through_qrmi("ibm-quantum-compute-service", python, environment, "IBM"))


def test_a_payload_runs_whole_and_its_result_comes_back_as_it_came(vendor: Site) -> None:
    token = vendor.open_session()["token"]
    job = vendor.submit(token, sequence=json.dumps(SAMPLER), shots=4000)["id"]
    ended = vendor.ended(job)
    result: dict[str, Any] = vendor.get(f"/v1/jobs/{job}/result")
    assert (ended["state"], ended["shots_done"]) == ("DONE", 4000)
    assert (result["result"], result["counts"], len(result["slices"])) == (RAW, {}, 1)
    assert result["qpu_seconds"] > 0


def test_what_is_no_payload_is_refused_at_once(vendor: Site) -> None:
    token = vendor.open_session()["token"]
    with vendor.tcp(Authorization=f"Bearer {token}") as client:
        reply = client.post("/v1/jobs", json={"sequence": '{"program_id": "sampler"}', "shots": 1})
    assert reply.status_code == 422
    assert "lacks input or parameters" in reply.text


def test_a_helper_that_hangs_ends_with_a_daemon_that_is_killed(vendor: Site, tmp_path: Path) -> None:
    (tmp_path / "hang").write_text("start")
    vendor.submit(vendor.open_session()["token"], sequence=json.dumps(SAMPLER), shots=1)
    calls = tmp_path / "calls"
    wait_for(lambda: calls.exists() and "start" in calls.read_text().splitlines())
    helper = Path("/proc") / (tmp_path / "pid").read_text()
    assert helper.exists()
    vendor.kill()
    wait_for(lambda: not helper.exists())


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is true, at most a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
