"""Drivers `pasqal-qpu` and `pasqal-cloud` in front of another qpud: two real daemons, one of them dying at will."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeSite
from livesite import SLOW, Site, behind, in_cloud

pytestmark = [pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]


def as_qpu(back: Site, _folder: Path) -> str:
    """The back daemon as an on-prem QPU; a session's token stands in its URL."""
    return behind(f"http://0:{back.open_session()['token']}@127.0.0.1:{back.port}")


def as_cloud(back: Site, folder: Path) -> str:
    """The back daemon as the cloud: the front logs in with a session's token."""
    credentials = folder / "credentials"
    credentials.touch(mode=0o600)
    credentials.write_text(f"username = front\npassword = {back.open_session()['token']}\n")
    return in_cloud(back.url, credentials)


KINDS: dict[str, Callable[[Site, Path], str]] = {"pasqal-qpu": as_qpu, "pasqal-cloud": as_cloud}


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest, make_site: MakeSite, tmp_path: Path) -> tuple[Site, Site]:
    """A front daemon and the one behind it, which plays the QPU or the cloud."""
    back = make_site("back", SLOW)
    return make_site("front", KINDS[request.param](back, tmp_path)), back


def device_jobs(back: Site) -> list[dict[str, Any]]:
    """What reached the QPU, oldest first."""
    found: list[dict[str, Any]] = back.get("/v1/jobs")["jobs"]
    return found[::-1]


def started(front: Site, back: Site, afm: str, shots: int) -> int:
    """Submit a job at the front and wait until the back one really runs it."""
    known = len(device_jobs(back))
    token = front.open_session()["token"]
    job = int(front.submit(token, sequence=afm, shots=shots)["id"])
    front.until(job, lambda found: found["state"] == "RUNNING" and len(device_jobs(back)) > known)
    back.until(device_jobs(back)[-1]["id"], lambda found: found["shots_done"] > 0 or found["state"] == "RUNNING")
    return job


def slices(front: Site, job: int) -> list[dict[str, Any]]:
    """The slices of a job as its owner sees them."""
    found: list[dict[str, Any]] = front.get(f"/v1/jobs/{job}/result")["slices"]
    return found


def check_each_shot_once(front: Site, back: Site, job: int, shots: int) -> None:
    """The job ends with exactly its shots, and each slice reached the QPU once, as a job or as a batch of one."""
    assert front.ended(job)["state"] == "DONE"
    assert sum(front.counts(job).values()) == shots
    ran = device_jobs(back)
    assert [one["batch_id"] or str(one["id"]) for one in ran] == [one["device_id"] for one in slices(front, job)]
    assert sum(one["shots"] for one in ran) == shots


def check_cancel_reaches_the_device(front: Site, back: Site, job: int) -> None:
    """A running job that is canceled at the front ends so in both daemons."""
    with front.unix() as client:
        assert client.post(f"/v1/jobs/{job}/cancel").status_code == 200
    assert front.ended(job)["state"] == "CANCELED"
    assert back.ended(device_jobs(back)[-1]["id"])["state"] == "CANCELED"


def test_a_job_runs_through_two_daemons(pair: tuple[Site, Site], afm: str) -> None:
    front, back = pair
    job = front.submit(front.open_session()["token"], sequence=afm, shots=12)["id"]
    check_each_shot_once(front, back, job, 12)


def test_the_front_daemon_killed_in_a_slice_adopts_the_same_device_job(pair: tuple[Site, Site], afm: str) -> None:
    front, back = pair
    job = started(front, back, afm, 24)
    front.kill()
    front.start()
    check_each_shot_once(front, back, job, 24)
    assert len(device_jobs(back)) == 1


def test_a_qpu_that_is_away_makes_jobs_wait_and_comes_back(pair: tuple[Site, Site], afm: str) -> None:
    front, back = pair
    token = front.open_session()["token"]
    front.ended(front.submit(token, sequence=afm, shots=1)["id"])  # its device spec is known now
    back.stop()
    job = front.submit(token, sequence=afm, shots=8)["id"]
    front.until(job, lambda found: found["reason"] in ("ResourceDown", "ResourceUnreachable"))
    assert front.get("/v1/resources")["resources"][0]["state"] == "unreachable"
    back.start()
    assert front.ended(job)["state"] == "DONE"
    assert sum(front.counts(job).values()) == 8


def test_a_qpu_killed_in_a_slice_is_waited_for(pair: tuple[Site, Site], afm: str) -> None:
    front, back = pair
    job = started(front, back, afm, 24)
    back.kill()
    front.until(job, lambda found: found["reason"] == "ResourceUnreachable")
    back.start()
    check_each_shot_once(front, back, job, 24)


def test_a_cancel_reaches_the_qpu(pair: tuple[Site, Site], afm: str) -> None:
    front, back = pair
    check_cancel_reaches_the_device(front, back, started(front, back, afm, 200))
