"""Users of the cloud SDK, its Pulser connections and QRMI's cloud resource, unchanged, against the cloud dialect."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import clients
import pytest
from conftest import SHOTS, MakeSite
from livesite import SLOW, Site
from proxy import DropsReplies
from seen import BEST, is_antiferromagnet, is_one_sentence, variation

pytestmark = [pytest.mark.client, pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]

SDKS = ("pasqal_cloud", "pulser_pasqal")
"""Environments: pasqal-cloud 0.24 with its own connection, and 0.22 with pulser-pasqal 0.24."""
LARGEST_VARIATION = 0.15  # see test_sdks.py
AHS = Path(__file__).resolve().parent.parent / "worker" / "samples" / "foreign_ahs_program_6_of_9_sites.json"


@pytest.fixture(scope="session")
def token(site: Site) -> str:
    """A session of root's, as the token that cloud users are given; the devices are there."""
    for name in ("FRESNEL", "EMU_MPS"):
        site.spec(name)
    return str(site.open_session(slurm_job_id="cloud", account="physics")["token"])


@pytest.fixture(scope="session", params=SDKS)
def seen(request: pytest.FixtureRequest, site: Site, token: str, afm: str) -> Any:
    """What the SDK's script saw."""
    return clients.run(request.param, "cloud_sdk.py", site.url, token, "300", stdin=afm, env={})


def test_a_closed_batch_gives_its_counts(seen: Any) -> None:
    closed = seen["closed"]
    assert (closed["status"], closed["device"], closed["open"]) == ("DONE", "FRESNEL", False)
    assert sum(closed["counter"].values()) == 300 and is_antiferromagnet(closed["counter"])
    assert closed["tags"] == ["paper", "second"]
    assert closed["same_sequence"] and closed["job_sequence"] is None and all(closed["times"])
    assert len(set(closed["ids"])) == 1


def test_an_open_batch_takes_jobs_and_a_repeat_until_it_is_closed(seen: Any) -> None:
    opened = seen["open"]
    assert (opened["status"], opened["shots"], opened["was_open"]) == ("DONE", [11, 12, 11], True)
    assert "is closed (complete) and takes no more jobs" in opened["refusal"]


def test_a_batch_can_be_submitted_again(seen: Any) -> None:
    assert seen["rebatch"] == [True, [300]]


def test_cancel_stops_a_job_some_jobs_and_several_batches(seen: Any) -> None:
    canceled = seen["canceled"]
    assert canceled["job"] in ("CANCELED", "RUNNING", "DONE")  # it had begun, or even ended: then nothing was left
    assert canceled["many"] == [True]
    (text,) = canceled["errors"].values()
    assert "does not exist" in text


def test_filters_and_pages_find_what_they_should(seen: Any) -> None:
    listed = seen["listed"]
    assert seen["closed"]["ids"][0] in listed["second"]
    assert listed["done"] and listed["device"] and listed["project"]
    assert listed["timed_out"] == listed["open"] == listed["before"] == []
    assert listed["id"] == seen["closed"]["ids"][:1]
    assert (listed["page"], listed["jobs"]) == ([True, 1], [1, [True]])


def test_devices_and_projects_are_told(seen: Any) -> None:
    assert (seen["devices"], seen["projects"][0]) == (["FRESNEL", "EMU_MPS"], "physics")


def test_every_refusal_reaches_the_user_as_a_sentence(seen: Any) -> None:
    for text, part in zip(
        seen["refused"],
        ("exceed max_runs 2000", "maximum value allowed", "did you mean FRESNEL?", "does not exist", "workloads"),
        strict=True,
    ):
        sentence = text.splitlines()[0].split(": ", 3)[3]
        assert part in sentence and is_one_sentence(sentence), text


def test_canceled_batches_end_as_canceled_while_the_qpu_is_slow(
    make_site: MakeSite, afm_of: Any, tmp_path: Path
) -> None:
    site = make_site("slow", SLOW)
    ask = {"sequence_builder": afm_of(site), "jobs": [{"runs": 50}, {"runs": 50}], "device_type": "FRESNEL"}
    with site.tcp(Authorization=f"Bearer {site.open_session()['token']}") as client:
        batch = client.post("/core-fast/api/v1/batches", json=ask).json()["data"]
        first, second = batch["job_ids"]
        site.until(site.get(f"/v1/jobs/{first}")["id"], lambda job: job["state"] == "RUNNING")
        path = f"/core-fast/api/v2/batches/{batch['id']}/cancel"
        assert client.patch(f"{path}/jobs", params={"id": second}).json()["data"]["jobs"][0]["status"] == "CANCELED"
        assert client.patch(path).status_code == 200
        assert site.ended(site.get(f"/v1/jobs/{first}")["id"])["state"] == "CANCELED"
        status = client.get(f"/core-fast/api/v1/batches/{batch['id']}/status").json()["data"]
        assert (status["status"], status["jobs_count_per_status"]) == ("CANCELED", {"CANCELED": 2})
        link = client.get(f"/core-fast/api/v1/jobs/{first}/results_link").json()["data"]["results_link"]
        assert link is None


@pytest.fixture
def afm_of(tmp_path: Path) -> Any:
    """Makes the antiferromagnet's sequence for the QPU of a site."""

    def make(site: Site) -> str:
        specs = tmp_path / "specs.json"
        specs.write_text(json.dumps(site.spec()))
        return json.dumps(clients.run("qrmi", "afm.py", str(specs), env={}))

    return make


@pytest.mark.parametrize("client", SDKS)
@pytest.mark.parametrize("kind", ["qpu", "emulator", "ovh"])
def test_pulsers_cloud_connections_get_the_antiferromagnet(
    site: Site, token: str, client: str, kind: str, native: dict[str, int]
) -> None:
    env = {"PASQAL_PULSER_ACCESS_TOKEN": token}
    ran = clients.run(client, "cloud_pulser.py", site.url, str(SHOTS), kind, env=env)
    (counts,) = ran["counts"]
    assert (ran["device"], sum(counts.values())) == ("AnalogDevice", SHOTS)
    assert variation(counts, native) < LARGEST_VARIATION


@pytest.mark.parametrize("client", SDKS)
def test_pulsers_open_batch_holds_two_points_of_a_sweep(site: Site, token: str, client: str) -> None:
    ran = clients.run(client, "cloud_pulser.py", site.url, "200", "open", env={"PASQAL_PULSER_ACCESS_TOKEN": token})
    excited, idle = ran["counts"]
    assert (sum(excited.values()), idle) == (200, {"00000": 200})
    assert is_antiferromagnet(excited)
    assert site.get(f"/v1/batches/{ran['batch']}")["close_reason"] == "complete"


@pytest.fixture(scope="session")
def native(site: Site, token: str, afm: str) -> dict[str, int]:
    """The same sweep by POST /v1/jobs."""
    job = site.submit(token, sequence=afm, shots=SHOTS)
    assert site.ended(job["id"])["state"] == "DONE"
    return site.counts(job["id"])


@pytest.mark.parametrize("login", ["token", "password", "client secret"])
def test_qrmis_cloud_resource_runs_and_stops(
    site: Site, token: str, afm: str, login: str, native: dict[str, int]
) -> None:
    ways = {
        "token": {"FRESNEL_QRMI_PASQAL_CLOUD_AUTH_TOKEN": token},
        "password": {"PASQAL_USERNAME": "ada", "PASQAL_PASSWORD": token},
        "client secret": {
            "FRESNEL_QRMI_PASQAL_CLOUD_CLIENT_ID": "ada",
            "FRESNEL_QRMI_PASQAL_CLOUD_CLIENT_SECRET": token,
        },
    }
    env = {
        "FRESNEL_QRMI_PASQAL_CLOUD_BASE_URL": site.url,
        "FRESNEL_QRMI_PASQAL_CLOUD_PROJECT_ID": "any",
        "FRESNEL_QRMI_PASQAL_CLOUD_AUTH_ENDPOINT": f"{site.url}/oauth/token",
        **ways[login],
    }
    ran = clients.run("qrmi", "qrmi_cloud.py", "FRESNEL", str(SHOTS), stdin=afm, env=env)
    counts = ran["result"]["counter"]
    assert (ran["accessible"], ran["status"], sum(counts.values())) == (True, "TaskStatus.Completed", SHOTS)
    assert ran["target"][0]["device_type"] == "FRESNEL"
    assert ran["stopped"] in ("TaskStatus.Cancelled", "TaskStatus.Completed")  # a fast QPU may have been faster
    assert "exceed max_runs 2000" in ran["refusal"]
    assert max(counts, key=lambda key: counts[key]) == BEST
    assert variation(counts, native) < LARGEST_VARIATION


@pytest.mark.parametrize("client", SDKS)
def test_a_batch_whose_answer_a_gateway_lost_is_not_run_again_for_the_sdks_retry(
    site: Site, client: str, native: dict[str, int]
) -> None:
    opened = site.open_session(slurm_job_id=f"gateway-{client}")
    with DropsReplies(site.port, method="POST", drops=1, instead=504) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        env = {"PASQAL_PULSER_ACCESS_TOKEN": opened["token"]}
        ran = clients.run(client, "cloud_pulser.py", url, "60", "qpu", env=env)
    assert (proxy.seen, sum(ran["counts"][0].values())) == (2, 60)
    assert len(site.get("/v1/jobs", session=opened["id"])["jobs"]) == 1


def test_qrmis_cloud_resource_runs_an_ahs_program(site: Site, token: str) -> None:
    env = {
        "EMU_MPS_QRMI_PASQAL_CLOUD_BASE_URL": site.url,
        "EMU_MPS_QRMI_PASQAL_CLOUD_PROJECT_ID": "any",
        "EMU_MPS_QRMI_PASQAL_CLOUD_AUTH_TOKEN": token,
    }
    ran = clients.run("qrmi", "qrmi_cloud.py", "EMU_MPS", "100", stdin=AHS.read_text(), env=env)
    counts = ran["result"]["counter"]
    assert (ran["status"], sum(counts.values()), {len(key) for key in counts}) == ("TaskStatus.Completed", 100, {6})


def test_one_id_serves_an_ahs_program_as_cudaq_id_batch_and_job(site: Site, token: str) -> None:
    ask = {"machine": "EMU_MPS", "shots": 50, "project_id": "p", "sequence": json.loads(AHS.read_text())}
    with site.tcp(Authorization=f"Bearer {token}") as client:
        reply = client.post("/core-fast/api/v1/cudaq/job", json=ask)
        assert reply.status_code == 200, reply.text
        one = reply.json()["data"]["id"]
        batch = client.get(f"/core-fast/api/v2/batches/{one}").json()["data"]
        assert batch["job_ids"] == [one]
        site.ended(site.get(f"/v1/jobs/{one}")["id"])
        assert client.get(f"/core-fast/api/v2/jobs/{one}").json()["data"]["status"] == "DONE"
        found = client.get(f"/core-fast/api/v1/cudaq/job/{one}").json()["data"]
    assert (found["status"], sum(found["result"][one].values())) == ("DONE", 50)


def test_two_equal_submissions_are_two_batches_and_a_link_to_results_outlives_a_restart(
    make_site: MakeSite, afm_of: Any
) -> None:
    site = make_site("links", SLOW.replace("SpeedUp = 4", "SpeedUp = 1000"))
    ask = {"sequence_builder": afm_of(site), "jobs": [{"runs": 20}], "device_type": None, "project_id": "p"}
    body = gzip.compress(json.dumps(ask).encode())
    zipped = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    with site.tcp(Authorization=f"Bearer {site.open_session()['token']}") as client:
        one, other = (
            client.post("/core-fast/api/v1/batches", content=body, headers=zipped).json()["data"]["id"]
            for _ in range(2)
        )
        assert one != other
        site.ended(site.get(f"/v1/jobs/{one}")["id"])
        link = client.get(f"/core-fast/api/v1/jobs/{one}/results_link").json()["data"]["results_link"]
    site.kill()
    site.start()
    with site.tcp() as nobody:
        assert sum(nobody.get(link).json()["counter"].values()) == 20
        assert nobody.get(link.replace("user=0", "user=1")).status_code == 403
