"""Pulser on qpud: `QPUBackend(sequence, QpudConnection())` and nothing else changes.

One file to copy beside a script; needs Pulser and the standard library. `qpud run --qpu=NAME -- python script.py`, or
Slurm in a job with `--qpu=NAME`, tells it where the daemon is (QPUD_URL), as whom to speak (QPUD_TOKEN, or a file in
QPUD_TOKEN_FILE) and which resource to use (QPUD_QPU). What qpud refuses is raised with qpud's own sentence.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from pulser import Sequence
from pulser.backend.remote import (
    BatchStatus,
    JobParams,
    JobStatus,
    RemoteConnection,
    RemoteResults,
    RemoteResultsError,
)
from pulser.backend.results import Results
from pulser.devices import Device
from pulser.json.abstract_repr.deserializer import deserialize_device

WAIT_SECONDS = 60  # how long one request is held for an answer to arrive
ENDED = {"DONE", "CANCELED", "ERROR"}


class QpudError(Exception):
    """What qpud refused, in its own sentence."""


def _session_token() -> str:
    """The token that `qpud run` sets, or that Slurm laid in a file; "" without either."""
    named = os.environ.get("QPUD_TOKEN_FILE")
    if os.environ.get("QPUD_TOKEN") or not named:
        return os.environ.get("QPUD_TOKEN", "")
    try:
        return Path(named).read_text(encoding="utf-8").strip()
    except OSError as why:
        raise QpudError(f"QPUD_TOKEN_FILE {named} cannot be read: {why.strerror}") from None


class _NoRedirect(HTTPRedirectHandler):
    """urllib would send the token wherever a redirect points."""

    def redirect_request(self, *_: Any) -> None:
        """The answer is an error."""


class QpudConnection(RemoteConnection):
    """A connection to one resource of a qpud daemon.

    Args:
        qpu: Name of the resource, as in `--qpu=NAME`. Default: QPUD_QPU, else the daemon's default resource.
        url: Address of the daemon. Default: QPUD_URL.
        token: Token of a session. Default: QPUD_TOKEN, else what the file QPUD_TOKEN_FILE holds.
    """

    def __init__(self, qpu: str | None = None, url: str | None = None, token: str | None = None) -> None:
        self._url = (url or os.environ.get("QPUD_URL", "")).rstrip("/")
        if not self._url:
            raise QpudError("QPUD_URL is not set: start the script with `qpud run --qpu=NAME -- python …`")
        self._token = token or _session_token()
        self._qpu = qpu or os.environ.get("QPUD_QPU") or self._get("/v1/resources")["default"]
        self._built: dict[str, Sequence] = {}  # what each job of this connection runs, by job id

    # -- what Pulser's QPUBackend calls

    def fetch_available_devices(self) -> dict[str, Device]:
        """The resource's device as it is now, by the resource's name."""
        spec = self._get(f"/v1/resources/{quote(self._qpu, safe='')}/spec")["spec"]
        return {self._qpu: deserialize_device(json.dumps(spec))}

    def submit(
        self,
        sequence: Sequence,
        wait: bool = False,
        open: bool = False,
        batch_id: str | None = None,
        *,
        job_params: list[JobParams] | None = None,
        **_: Any,
    ) -> RemoteResults:
        """Submit one job for each entry of `job_params`, all as one batch; qpud has stored them when this returns.

        Args:
            sequence: What to run; a missing measurement is added.
            wait: Return only when every job has ended.
            open: Open batches are not supported.
            batch_id: Open batches are not supported.
            job_params: `{"runs": shots, "variables": {…}}` for each job.

        Raises:
            QpudError: qpud refused the batch.
            RemoteResultsError: With `wait`: a job did not end well.
            ValueError: No `job_params`, or an open batch.
        """
        if open or batch_id:
            raise ValueError("QpudConnection has no open batches: give all job_params to one run()")
        if not job_params:
            raise ValueError("job_params must hold at least one entry, such as {'runs': 500}")
        measured = self._add_measurement_to_sequence(self.update_sequence_device(sequence))
        built = [_build(measured, params) for params in job_params]
        program = measured.to_abstract_repr()
        asked = [self._job(program, params) for params in job_params]
        accepted = self._request("POST", "/v1/jobs", asked, {"Idempotency-Key": str(uuid.uuid4())})
        ids = [str(job["id"]) for job in accepted]
        self._built.update(zip(ids, built, strict=True))
        results = RemoteResults("|".join(ids), self)
        if wait:
            self._fetch_result(results.batch_id, None)
        return results

    def supports_open_batch(self) -> bool:
        """No: a batch is complete when it is submitted."""
        return False

    # -- what Pulser's RemoteResults calls

    def _get_job_ids(self, batch_id: str) -> list[str]:
        return batch_id.split("|")

    def _fetch_result(self, batch_id: str, job_ids: list[str] | None) -> list[Results]:
        return [self._results(self._wait_for_end(job)) for job in job_ids or self._get_job_ids(batch_id)]

    def _query_job_progress(self, batch_id: str) -> Mapping[str, tuple[JobStatus, Results | None]]:
        return dict(self._progress(batch_id))

    def _progress(self, batch_id: str) -> Iterator[tuple[str, tuple[JobStatus, Results | None]]]:
        for job in self._get_job_ids(batch_id):
            answer = self._get(f"/v1/jobs/{job}/result")
            state = answer["job"]["state"]
            yield job, (JobStatus[state], self._results(answer) if state == "DONE" else None)

    def _get_batch_status(self, batch_id: str) -> BatchStatus:
        states = {self._get(f"/v1/jobs/{job}")["state"] for job in self._get_job_ids(batch_id)}
        # The first of these that some job is in; a batch is DONE when all are.
        return BatchStatus[
            next(state for state in ("RUNNING", "PENDING", "ERROR", "CANCELED", "DONE") if state in states)
        ]

    def _wait_for_end(self, job: str) -> dict[str, Any]:
        while True:
            answer = self._get(f"/v1/jobs/{job}/result?wait={WAIT_SECONDS}")
            if answer["job"]["state"] in ENDED:
                return answer

    def _results(self, answer: dict[str, Any]) -> Results:
        job, counts = answer["job"], answer["counts"]
        if job["state"] != "DONE":
            raise RemoteResultsError(f"job {job['id']} is {job['state']}: {answer['message'] or job['reason']}")
        built = self._built.get(str(job["id"]))
        if built is None:  # submitted by another process: the order is the register's, its names are not known here
            return Results.from_final_bitstrings([f"q{i}" for i in range(len(next(iter(counts))))], 0, counts)
        return Results.from_final_bitstrings(built.register.qubit_ids, built.get_duration(), counts)

    # -- HTTP

    def _job(self, program: str, params: JobParams) -> dict[str, Any]:
        variables = json.loads(json.dumps(params.get("variables", {}), default=_plain))
        return {"sequence": program, "shots": params["runs"], "variables": variables, "resource": self._qpu}

    def _get(self, path: str) -> Any:
        return self._request("GET", path)

    def _request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}", **(headers or {})}
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._url + path, data, sent, method=method)
        try:
            # No proxy and no redirect: the token is for the daemon alone.
            with build_opener(ProxyHandler({}), _NoRedirect).open(request, timeout=WAIT_SECONDS + 30) as answer:
                return json.load(answer)
        except HTTPError as refused:
            raise QpudError(_sentence(refused)) from None
        except URLError as gone:
            if data and isinstance(gone.reason, (BrokenPipeError, ConnectionResetError)):
                self._check_size(len(data))
            raise QpudError(f"qpud does not answer at {self._url}: {gone.reason}") from None

    def _check_size(self, size: int) -> None:
        """Say what qpud's lost answer said: it hangs up on a body that is too large, while the rest is on its way."""
        limit = self._get("/v1/info")["max_body_size"]
        if size > limit:
            raise QpudError(
                f"the body of {size} bytes exceeds MaxBodySize {limit} bytes: give fewer job_params to one run()"
            )


def _build(sequence: Sequence, params: JobParams) -> Sequence:
    return (
        sequence.build(**params.get("variables", {}))
        if sequence.is_parametrized() or sequence.is_register_mappable()
        else sequence
    )


def _sentence(refused: HTTPError) -> str:
    text = refused.read().decode(errors="replace")
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"qpud answered {refused.code}: {text[:200]}"


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's."""
    return value.tolist()
