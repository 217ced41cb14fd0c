"""The job of an ended batch, and its result: a link that the API gives, to an object on another host."""

from __future__ import annotations

from typing import Any

from qpud.drivers.base import Unreachable
from qpud.drivers.cloud import CloudClient, job_path, link_path
from qpud.drivers.cloud_batch import CloudBatch, first_job, read_job
from qpud.drivers.exchange import Answer, Away
from qpud.drivers.onprem_job import BadAnswer, QpuJob


class Results:
    """What ended batches gave.

    Args:
        name: The resource, for messages.
        client: The API.
    """

    def __init__(self, name: str, client: CloudClient) -> None:
        self._name = name
        self._client = client

    async def job_of(self, batch: CloudBatch) -> QpuJob:
        """The one job of a batch; a batch that shows none stands for it. Raises: Unreachable."""
        if batch.job is not None:
            return batch.job
        try:
            found = await self._ask_for_job(batch)
        except BadAnswer as bad:
            raise Unreachable(f"resource {self._name} reports {bad.message}") from None
        return found or QpuJob(uid=batch.id, status=batch.status, phase=batch.phase)

    async def of(self, job: QpuJob) -> Any:
        """The result of a job, as it is told; None if there is none, or none yet. Raises: Unreachable."""
        answer = await self._client.get(link_path(job.uid))
        link = answer.data.get("results_link") if answer.ok and isinstance(answer.data, dict) else None
        if not isinstance(link, str) or not link.startswith(("http://", "https://")):
            return None
        try:
            found = await self._client.download(link)
        except Away as away:
            if away.answered and away.status < 500:  # no result stands there, whatever does
                return None
            raise
        return found.content if found.ok else None

    async def _ask_for_job(self, batch: CloudBatch) -> QpuJob | None:
        if batch.job_id is not None:
            answer = await self._client.get(job_path(batch.job_id))
            return read_job(answer.data) if self._is_there(answer) else None
        order = {"order_by": "creation_order", "order_by_direction": "ASC"}
        answer = await self._client.get("/api/v2/jobs", batch_id=batch.id, **order)
        return first_job(answer.data) if self._is_there(answer) else None

    def _is_there(self, answer: Answer) -> bool:
        if not answer.ok and not answer.unknown:
            raise Unreachable(f"resource {self._name}: the job of a batch: it answered {answer.status}")
        return answer.ok
