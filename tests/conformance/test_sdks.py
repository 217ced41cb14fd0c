"""Pulser, Qiskit and myQLM users, unchanged, and the same physics on every path."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import clients
import pytest
from conftest import SHOTS
from livesite import Site
from proxy import DropsReplies
from seen import is_antiferromagnet, variation

pytestmark = [pytest.mark.client, pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]

LARGEST_VARIATION = 0.15
"""Of two honest samples of 1000 shots.

Their expected distance is at most Σ √(2 p (1-p) / n) / 2 ≈ 0.05 for this state (one outcome of 72 %, about ten more
of a few per cent). One shot moves it by at most 1/n, so it exceeds its expectation by t with a chance below
exp(-n t²) (McDiarmid, 2n shots): 5e-5 for t = 0.1, for each of the ten pairs. Reversed or flipped bits give 0.7.
"""


@pytest.fixture(scope="session")
def user(site: Site) -> dict[str, Any]:
    """A session of root's that stays open: what the SDKs are given."""
    return site.open_session(slurm_job_id="sdks")


@pytest.fixture(scope="session")
def pulser_run(site: Site, user: dict[str, Any]) -> Any:
    """QPUBackend over PulserQRMIConnection."""
    env = clients.slurm_env(site.url, token=user["id"])
    return clients.run("qrmi", "pulser_qpu.py", "plain", str(SHOTS), env=env)


@pytest.fixture(scope="session")
def qiskit_run(site: Site, user: dict[str, Any]) -> Any:
    """qrmi.primitives.pasqal.SamplerV2."""
    env = clients.slurm_env(site.url, token=user["id"])
    return clients.run("qiskit", "qiskit_sampler.py", "FRESNEL", str(SHOTS), env=env)


@pytest.fixture(scope="session")
def myqlm_run(site: Site, user: dict[str, Any]) -> Any:
    """FresnelQPU, which knows neither munge nor sessions: the URL carries the session's token."""
    return clients.run(
        "myqlm", "myqlm_fresnel.py", f"http://0:{user['token']}@127.0.0.1:{site.port}/api", str(SHOTS), env={}
    )


@pytest.fixture(scope="session")
def qrmi_counts(site: Site, afm: str) -> dict[str, int]:
    """The raw QuantumResource."""
    seen = clients.run(
        "qrmi", "qrmi_task.py", "FRESNEL", str(SHOTS), stdin=afm, env=clients.slurm_env(site.url, slurm_job=9)
    )
    counts: dict[str, int] = seen["counter"]
    return counts


@pytest.fixture(scope="session")
def native_counts(site: Site, user: dict[str, Any], afm: str) -> dict[str, int]:
    """POST /v1/jobs."""
    job = site.submit(user["token"], sequence=afm, shots=SHOTS)
    assert site.ended(job["id"])["state"] == "DONE"
    return site.counts(job["id"])


def test_pulsers_backend_gets_all_shots_with_the_antiferromagnet_on_top(pulser_run: Any) -> None:
    (counts,) = pulser_run["counts"]
    assert pulser_run["device"] == "AnalogDevice"
    assert sum(counts.values()) == SHOTS
    assert is_antiferromagnet(counts)


def test_pulsers_backend_can_read_the_logs(pulser_run: Any) -> None:
    (log,) = pulser_run["logs"]
    assert f"{SHOTS} shots" in log


def test_two_job_params_give_two_results_in_their_order(site: Site, user: dict[str, Any]) -> None:
    env = clients.slurm_env(site.url, token=user["id"])
    excited, idle = clients.run("qrmi", "pulser_qpu.py", "variables", "200", "100", env=env)["counts"]
    assert (sum(excited.values()), idle) == (200, {"00000": 100})
    assert is_antiferromagnet(excited)


def test_the_qiskit_sampler_runs_though_it_sends_no_measurement(qiskit_run: Any) -> None:
    assert sum(qiskit_run["counts"].values()) == SHOTS
    assert is_antiferromagnet(qiskit_run["counts"])


def test_myqlm_gets_all_shots_with_the_antiferromagnet_on_top(myqlm_run: Any) -> None:
    assert sum(myqlm_run["counts"].values()) == SHOTS
    assert is_antiferromagnet(myqlm_run["counts"])


def test_every_path_gives_the_same_physics(
    native_counts: dict[str, int], qrmi_counts: dict[str, int], pulser_run: Any, qiskit_run: Any, myqlm_run: Any
) -> None:
    samples = {
        "native": native_counts,
        "qrmi": qrmi_counts,
        "pulser": pulser_run["counts"][0],
        "qiskit": qiskit_run["counts"],
        "myqlm": myqlm_run["counts"],
    }
    distances = {
        (one, other): variation(samples[one], samples[other]) for one, other in itertools.combinations(samples, 2)
    }
    assert max(distances.values()) < LARGEST_VARIATION, distances


def jobs_of(site: Site, session: dict[str, Any]) -> list[dict[str, Any]]:
    """The jobs of one session."""
    found: list[dict[str, Any]] = site.get("/v1/jobs", session=session["id"])["jobs"]
    return found


def fresnel(port: int, session: dict[str, Any], shots: int, **env: str) -> Any:
    """Run myQLM's script against a port."""
    uri = f"http://0:{session['token']}@127.0.0.1:{port}/api"
    return clients.run("myqlm", "myqlm_fresnel.py", uri, str(shots), env=env)


def test_a_job_whose_reply_was_lost_is_not_run_again_for_myqlms_retry(site: Site, session: dict[str, Any]) -> None:
    with DropsReplies(site.port, method="POST", drops=1) as proxy:
        ran = fresnel(proxy.port, session, 60)
    assert (proxy.seen, sum(ran["counts"].values())) == (2, 60)
    assert len(jobs_of(site, session)) == 1


def test_myqlms_time_out_cancels_the_job(site: Site, session: dict[str, Any]) -> None:
    ran = fresnel(site.port, session, 2000, JOB_POLLING_TIMEOUT_SECONDS="0")
    (job,) = jobs_of(site, session)
    assert "did not finish" in ran["error"]
    assert site.ended(job["id"])["state"] == "CANCELED"


@pytest.mark.parametrize("script", ["pulser", "qiskit"])
def test_a_closed_session_ends_the_script_with_the_reason(
    site: Site, script: str, expect_failure: Callable[..., str]
) -> None:
    opened = site.open_session(slurm_job_id=f"closed-{script}")
    with site.unix() as client:
        client.delete(f"/v1/sessions/{opened['id']}")
    env = clients.slurm_env(site.url, token=opened["id"])
    call = {
        "pulser": ("qrmi", "pulser_qpu.py", "plain", "5"),
        "qiskit": ("qiskit", "qiskit_sampler.py", "FRESNEL", "5"),
    }
    assert "Session has been revoked" in expect_failure(*call[script], env=env)


def test_myqlm_tells_its_user_the_status_of_a_refusal_and_no_more(site: Site) -> None:
    opened = site.open_session(slurm_job_id="closed-myqlm")
    with site.unix() as client:
        client.delete(f"/v1/sessions/{opened['id']}")
    ran = fresnel(site.port, opened, 5, MAX_CONNECTION_ATTEMPTS_QPU="1")
    assert "Could not create job" in ran["error"] and "401" in ran["error"]


@pytest.fixture
def expect_failure() -> Callable[..., str]:
    """Run a script that must fail; what it printed."""

    def run(*call: str, env: dict[str, str]) -> str:
        with pytest.raises(clients.ClientFailed) as failed:
            clients.run(*call, env=env)
        return str(failed.value)

    return run
