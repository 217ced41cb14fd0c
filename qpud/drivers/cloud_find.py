"""Where is the slice with this tag? Asked of the cloud after a lost reply or a restart: the tag is one of the batch's.

`GET /api/v1/batches?tag=TAG` filters by tag. An answer that shows other batches has ignored the filter: then all pages
are read. Batches that show no tags at all decide nothing, and the slice stays UNKNOWN.
"""

from __future__ import annotations

from typing import Any

from qpud.drivers.base import SliceRequest, Undecided, Unreachable
from qpud.drivers.cloud import CloudClient, batch_path
from qpud.drivers.cloud_batch import CloudBatch, read_batch
from qpud.drivers.exchange import Answer
from qpud.drivers.onprem_job import BadAnswer

PAGE = 100
"""Entries of one page, the most that the cloud gives."""
MOST = 1000
"""Batches that are looked at before giving up."""


class Finder:
    """Finds batches in the cloud.

    Args:
        name: The resource, for messages.
        client: The API.
    """

    def __init__(self, name: str, client: CloudClient) -> None:
        self._name = name
        self._client = client

    async def find(self, request: SliceRequest) -> str | None:
        """The id of the slice's batch, or None if the cloud certainly has none. Raises: Unreachable."""
        if request.device_id is not None and (batch := await self.look(request.device_id)) is not None:
            return batch.id
        return await self._listed(request.tag)

    async def look(self, batch_id: str) -> CloudBatch | None:
        """A batch, or None if the cloud says that it has no such batch. Raises: Unreachable."""
        answer = await self._client.get(batch_path(batch_id))
        if answer.ok:
            return self._read(answer.data)
        if answer.unknown:
            return None
        raise Unreachable(f"resource {self._name}: batch {batch_id}: {self.sentence(answer)}")

    def sentence(self, answer: Answer) -> str:
        """What a refusal means, in words."""
        if answer.status in (401, 403):
            more = f": {answer.reason}" if answer.reason else ""
            return f"it refuses our credentials ({answer.status}{more}): check CredentialsFile or TokenFile, ProjectId"
        return f"it answered {answer.status}{': ' + answer.reason if answer.reason else ''}"

    def _read(self, data: Any) -> CloudBatch:
        try:
            return read_batch(data)
        except BadAnswer as bad:
            raise Unreachable(f"resource {self._name} reports {bad.message}") from None

    async def _listed(self, tag: str) -> str | None:
        offset, nameless = 0, False
        while offset < MOST:
            answer = await self._client.get("/api/v1/batches", tag=tag, limit=str(PAGE), offset=str(offset))
            batches = [self._read(entry) for entry in self._entries(answer)]
            for batch in batches:
                if tag in (batch.tags or ()):
                    return batch.id
            nameless = nameless or any(batch.tags is None for batch in batches)
            if (end := _next(answer, offset)) is None and not nameless:
                return None
            offset = MOST if end is None else end
        why = "it shows batches without tags" if nameless else f"it is not among {MOST} batches"
        raise Undecided(
            f"resource {self._name}: nobody can tell whether it has slice {tag}, as {why}; look there for that tag, "
            "and cancel the job here if it must not wait"
        )

    def _entries(self, answer: Answer) -> list[Any]:
        if not answer.ok:
            raise Unreachable(f"resource {self._name}: its batches: {self.sentence(answer)}")
        if not isinstance(answer.data, list):
            raise Unreachable(f"resource {self._name} reports no list of batches: {str(answer.data)[:40]!r}")
        return answer.data


def _next(answer: Answer, offset: int) -> int | None:
    """Where the next page begins; None after the last one."""
    pagination = answer.content.get("pagination")
    end, total = (pagination.get("end"), pagination.get("total")) if isinstance(pagination, dict) else (None, None)
    if type(end) is int and type(total) is int:
        return end if offset < end < total else None
    return offset + PAGE if len(answer.data) >= PAGE else None
