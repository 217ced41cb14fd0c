import pytest

from tests.site.cluster import STRANGER, USER, Cluster

pytestmark = pytest.mark.slurm


def test_a_job_of_an_ordinary_user_runs_to_its_end(cluster: Cluster) -> None:
    job = cluster.submit("id -un", "-p", "production", "-L", "qpu:3")
    cluster.wait(job, "COMPLETED")
    assert cluster.output(job).strip() == USER


def test_another_user_submits_too(cluster: Cluster) -> None:
    job = cluster.start("sleep 100", user=STRANGER)
    assert cluster.run("squeue", "-h", "-j", str(job), "-o", "%u") == STRANGER
    cluster.cancel(job)
