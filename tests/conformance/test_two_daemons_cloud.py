"""The driver `pasqal-cloud` in front of another qpud's cloud dialect: two real daemons, one of them dying at will."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import MakeSite
from livesite import SLOW, Site, in_cloud
from test_two_daemons import device_jobs, slices, started

pytestmark = [pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]


@pytest.fixture
def pair(make_site: MakeSite, tmp_path: Path) -> tuple[Site, Site]:
    """A front daemon and the one behind it, which plays the cloud: the front logs in with a session's token."""
    back = make_site("back", SLOW)
    credentials = tmp_path / "credentials"
    credentials.touch(mode=0o600)
    credentials.write_text(f"username = front\npassword = {back.open_session()['token']}\n")
    return make_site("front", in_cloud(back.url, credentials)), back


def check_each_shot_once(front: Site, back: Site, job: int, shots: int) -> None:
    """The job ends with exactly its shots, and the cloud was given each slice once."""
    assert front.ended(job)["state"] == "DONE"
    assert sum(front.counts(job).values()) == shots
    ran = device_jobs(back)
    assert len(ran) == len({one["device_id"] for one in slices(front, job)})
    assert sum(one["shots"] for one in ran) == shots


def test_a_job_runs_through_two_daemons(pair: tuple[Site, Site], afm: str) -> None:
    front, back = pair
    job = front.submit(front.open_session()["token"], sequence=afm, shots=12)["id"]
    check_each_shot_once(front, back, job, 12)


def test_the_front_daemon_killed_in_a_slice_adopts_the_same_batch(pair: tuple[Site, Site], afm: str) -> None:
    front, back = pair
    job = started(front, back, afm, 24)
    front.kill()
    front.start()
    check_each_shot_once(front, back, job, 24)
    assert len(device_jobs(back)) == 1


def test_a_cloud_killed_in_a_slice_is_waited_for(pair: tuple[Site, Site], afm: str) -> None:
    front, back = pair
    job = started(front, back, afm, 24)
    back.kill()
    front.until(job, lambda found: found["reason"] == "ResourceUnreachable")
    back.start()
    check_each_shot_once(front, back, job, 24)


def test_a_cancel_reaches_the_cloud(pair: tuple[Site, Site], afm: str) -> None:
    front, back = pair
    job = started(front, back, afm, 200)
    with front.unix() as client:
        assert client.post(f"/v1/jobs/{job}/cancel").status_code == 200
    assert front.ended(job)["state"] == "CANCELED"
    assert back.ended(device_jobs(back)[-1]["id"])["state"] == "CANCELED"
