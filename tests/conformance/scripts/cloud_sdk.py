"""An ordinary script over the cloud SDK: batches closed and open, cancel, retry, tags, lists, errors.

`python cloud_sdk.py URL PASSWORD SHOTS < SEQUENCE`; works with 0.22 and 0.24.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")

from pasqal_cloud import SDK, Endpoints  # noqa: E402
from pasqal_cloud.endpoints import TokenProviderConf  # noqa: E402
from pasqal_cloud.utils.constants import BatchStatus, JobStatus  # noqa: E402
from pasqal_cloud.utils.filters import (  # noqa: E402
    BatchFilters,
    CancelJobFilters,
    JobFilters,
    PaginationParams,
    RebatchFilters,
)


def sdk_of(url, password):
    """The SDK, logged in with user name and password."""
    login = TokenProviderConf(
        token_endpoint=f"{url}/oauth/token", public_client_id="sdk", audience="a", realm="r", grant_type="password"
    )
    endpoints = Endpoints(core=f"{url}/core-fast", account=f"{url}/account")
    project = "5f4d3c2b-0000-4000-8000-000000000001"
    return SDK(username="ada", password=password, project_id=project, endpoints=endpoints, auth_config=login)


def closed(sdk, sequence, shots):
    """Create a batch, wait, read everything that it says."""
    batch = sdk.create_batch(sequence, jobs=[{"runs": shots}], device_type="FRESNEL", wait=True, tags=["paper"])
    (job,) = batch.ordered_jobs
    batch.set_tags(["paper", "second"])
    again = sdk.get_batch(batch.id)
    return {
        "status": batch.status,
        "device": batch.device_type,
        "open": batch.open,
        "counter": job.result,
        "tags": again.tags,
        "same_sequence": again.sequence_builder == sequence,
        "job_sequence": job.sequence,
        "times": [job.start_timestamp, job.end_timestamp],
        "ids": [batch.id, job.id, sdk.get_job(job.id).id],
    }


def opened(sdk, sequence):
    """Add jobs to an open batch, repeat one, close it; then a job more."""
    batch = sdk.create_batch(sequence, jobs=[{"runs": 11}], open=True, device_type="FRESNEL")
    batch.add_jobs([{"runs": 12}], wait=True)
    batch.retry(batch.ordered_jobs[0])
    was_open = sdk.get_batch(batch.id).open
    batch.close(wait=True)
    try:
        batch.add_jobs([{"runs": 5}])
        refusal = ""
    except BaseException as error:  # the SDK's errors are no Exceptions
        refusal = str(error)
    shots = [sum(job.result.values()) for job in batch.ordered_jobs]
    return {"status": batch.status, "shots": shots, "was_open": was_open, "refusal": refusal}


def canceled(sdk, sequence, shots):
    """Cancel a job, some jobs, a batch and several batches."""
    first = sdk.create_batch(sequence, jobs=[{"runs": shots}] * 4, device_type="FRESNEL", tags=["cancel"])
    by_hand = sdk.cancel_job(first.ordered_jobs[3].id)
    some = sdk.cancel_jobs(first.id, CancelJobFilters(id=[first.ordered_jobs[2].id]))
    second = sdk.create_batch(sequence, jobs=[{"runs": shots}] * 2, device_type="FRESNEL", tags=["cancel"])
    unknown = "5f4d3c2b-0000-4000-8000-00000000000f"
    many = sdk.cancel_batches([second.id, unknown])
    sdk.cancel_batch(first.id)
    return {
        "job": by_hand.status,
        "some": [job.id == first.ordered_jobs[2].id for job in some.jobs],
        "many": [batch.id == second.id for batch in many.batches],
        "errors": {str(key): text for key, text in many.errors.items()},
        "ids": [first.id, second.id],
    }


def listed(sdk, batch):
    """What filters and pages find."""

    def batches(**filters):
        return [one.id for one in sdk.get_batches(BatchFilters(**filters)).results]

    page = sdk.get_batches(pagination_params=PaginationParams(limit=1, offset=1))
    jobs = sdk.get_jobs(JobFilters(batch_id=batch, status=JobStatus.DONE, min_runs=1))
    return {
        "second": batches(tag="second"),
        "done": batch in batches(status=[BatchStatus.DONE, BatchStatus.TIMED_OUT]),
        "timed_out": batches(status=BatchStatus.TIMED_OUT),
        "open": batches(open=True),
        "device": batch in batches(device_type="fresnel", start_date="2020-01-01T00:00:00+00:00"),
        "before": batches(end_date="2020-01-01T00:00:00+00:00"),
        "id": batches(id=batch),
        "project": batch in batches(project_id=sdk.project_id),
        "page": [page.total > 1, len(page.results)],
        "jobs": [jobs.total, [job.batch_id == batch for job in jobs.results]],
    }


def refused(sdk, sequence):
    """What the user is told about mistakes."""
    told = []
    for wrong in (
        lambda: sdk.create_batch(sequence, jobs=[{"runs": 10_000_000}], device_type="FRESNEL"),
        lambda: sdk.create_batch(sequence.replace("11.3", "500.0"), jobs=[{"runs": 5}], device_type="FRESNEL"),
        lambda: sdk.create_batch(sequence, jobs=[{"runs": 5}], device_type="FRESNEL_CAN1"),
        lambda: sdk.get_batch("5f4d3c2b-0000-4000-8000-00000000000f"),
        lambda: sdk.create_workload(workload_type="x", backend="y", config={}),
    ):
        try:
            wrong()
            told.append(None)
        except BaseException as error:  # the SDK's errors are no Exceptions
            told.append(f"{type(error).__name__}: {error}")
    return told


def main(url, password, shots):
    """Do everything once."""
    sequence = sys.stdin.read()
    sdk = sdk_of(url, password)
    first = closed(sdk, sequence, shots)
    again = sdk.rebatch(first["ids"][0], RebatchFilters(status=JobStatus.DONE))
    seen = {
        "closed": first,
        "open": opened(sdk, sequence),
        "canceled": canceled(sdk, sequence, shots),
        "listed": listed(sdk, first["ids"][0]),
        "rebatch": [again.id != first["ids"][0], [job.runs for job in again.ordered_jobs]],
        "devices": list(sdk.get_device_specs_dict()),
        "projects": [project.name for project in sdk.get_all_projects()],
        "refused": refused(sdk, sequence),
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
