"""Users of CUDA-Q, unchanged, against the cloud dialect: machine `qrmi`, which the environment alone redirects.

CUDA-Q's own QRMI knows cloud resources only, and turns the bits around that it is given: q0 comes last.
"""

from __future__ import annotations

import clients
import pytest
from livesite import Site
from seen import is_antiferromagnet, variation

pytestmark = [pytest.mark.client, pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]

SHOTS = 1000
SITES = 5


def cloud_env(url: str, token: str, resource: str) -> dict[str, str]:
    """What CUDA-Q 0.16 reads: it ignores the type, and takes every resource for one of the cloud."""
    return {
        "SLURM_JOB_QPU_RESOURCES": resource,
        "SLURM_JOB_QPU_TYPES": "pasqal-cloud",
        f"{resource}_QRMI_PASQAL_CLOUD_BASE_URL": url,
        f"{resource}_QRMI_PASQAL_CLOUD_AUTH_TOKEN": token,
        f"{resource}_QRMI_PASQAL_CLOUD_PROJECT_ID": "physics",
    }


@pytest.fixture(scope="session")
def token(site: Site) -> str:
    """A session of root's."""
    return str(site.open_session(slurm_job_id="cudaq")["token"])


@pytest.fixture(scope="session")
def native(site: Site, token: str, afm: str) -> dict[str, int]:
    """The same sweep as Pulser writes it, by POST /v1/jobs."""
    job = site.submit(token, sequence=afm, shots=SHOTS)
    assert site.ended(job["id"])["state"] == "DONE"
    return site.counts(job["id"])


@pytest.mark.parametrize("resource", ["FRESNEL", "EMU_MPS"])
def test_a_rydberg_hamiltonian_gives_the_antiferromagnet(
    site: Site, token: str, native: dict[str, int], resource: str
) -> None:
    ran = clients.run("cudaq", "cudaq_afm.py", str(SHOTS), env=cloud_env(site.url, token, resource))
    counts = {bits[::-1]: number for bits, number in ran["counter"].items()}
    assert (sum(counts.values()), {len(bits) for bits in counts}) == (SHOTS, {SITES})
    assert is_antiferromagnet(counts)
    assert variation(counts, native) < 0.15  # test_sdks.py explains the number


def test_a_refusal_ends_the_script_and_the_reason_is_in_the_daemon_only(site: Site, token: str) -> None:
    """CUDA-Q drops the body of an error answer (CONTRACTS §6): the user sees that, not why."""
    with pytest.raises(clients.ClientFailed, match="QRMI call failed"):
        clients.run("cudaq", "cudaq_afm.py", "100000", env=cloud_env(site.url, token, "FRESNEL"))
