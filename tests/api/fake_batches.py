"""The verbs on batches, in memory."""

from __future__ import annotations

from typing import Any

import msgspec

from qpud.core import verbs
from qpud.core.batch import Batch, BatchEnd, state_of
from qpud.core.errors import Conflict, NotFound
from qpud.core.identity import Identity
from qpud.core.job import Job
from qpud.core.session import Session

NOW = 1_700_000_000.0


class FakeBatches:
    """What FakeService knows of batches; its jobs are the service's."""

    jobs: dict[int, Job]
    asks: dict[int, verbs.JobRequest]
    fails: Exception | None

    def __init__(self) -> None:
        self.batches: dict[str, Batch] = {}
        self.sequences: dict[str, str | None] = {}  # of batches
        self.batch_keys: dict[str, str] = {}
        self.told: set[str] = set()
        self.searched: list[Any] = []  # filters, as they came

    def id_was_told(self, batch_id: str) -> None:
        self.told.add(batch_id)

    async def open_batch(
        self,
        who: Identity,
        session_ref: str | None,
        ask: verbs.OpenBatch,
        key: str | None = None,
        key_seconds: float | None = None,
    ) -> verbs.BatchView:
        if self.fails:
            raise self.fails
        if key in self.batch_keys and not (key_seconds and self.batch_keys[key] in self.told):
            return await self.get_batch(who, self.batch_keys[key])
        session = await self.get_session(who, session_ref or "")
        batch = Batch(
            id=f"00000000-0000-4000-a000-{len(self.batches):012d}",
            session_id=session.id,
            user_id=session.user_id,
            resource=self.resource_name(ask.resource),
            name=ask.name,
            tags=ask.tags,
            project=ask.project,
            opened_at=NOW,
            last_used_at=NOW,
            closed_at=None if ask.is_open else NOW,
            close_reason=None if ask.is_open else BatchEnd.COMPLETE,
        )
        self.batches[batch.id], self.sequences[batch.id] = batch, ask.sequence
        if key is not None:
            self.batch_keys[key] = batch.id
        return await self._filled(who, batch, list(ask.jobs))

    async def _filled(self, who: Identity, batch: Batch, asks: list[verbs.JobRequest]) -> verbs.BatchView:
        session = await self.get_session(who, batch.session_id)
        for ask in asks:
            job = self._accept(session, msgspec.structs.replace(ask, resource=batch.resource), 1)
            self.jobs[job.id] = msgspec.structs.replace(job, batch_id=batch.id)
        return await self.get_batch(who, batch.id)

    async def add_jobs(
        self, who: Identity, ref: str, asks: list[verbs.JobRequest], key: str | None = None
    ) -> verbs.BatchView:
        batch = (await self.get_batch(who, ref)).batch
        if not batch.is_open:
            raise Conflict(f"batch {ref} is closed ({batch.close_reason}) and takes no more jobs: open another one")
        return await self._filled(who, batch, asks)

    async def complete_batch(self, who: Identity, ref: str) -> verbs.BatchView:
        return self._closed(await self.get_batch(who, ref), BatchEnd.COMPLETE)

    async def cancel_batch(self, who: Identity, ref: str) -> verbs.BatchView:
        view = self._closed(await self.get_batch(who, ref), BatchEnd.CANCELED)
        for job in view.jobs:
            await self.cancel_job(who, str(job.id))
        return await self.get_batch(who, ref)

    def _closed(self, view: verbs.BatchView, reason: BatchEnd) -> verbs.BatchView:
        batch = view.batch
        if batch.is_open:
            batch = msgspec.structs.replace(batch, closed_at=NOW + 9, close_reason=reason)
            self.batches[batch.id] = batch
        return self._batch_view(batch)

    async def tag_batch(self, who: Identity, ref: str, tags: tuple[str, ...]) -> verbs.BatchView:
        batch = (await self.get_batch(who, ref)).batch
        self.batches[batch.id] = msgspec.structs.replace(batch, tags=tags)
        return await self.get_batch(who, ref)

    async def get_batch(self, who: Identity, ref: str) -> verbs.BatchView:
        batch = self.batches.get(ref)
        if batch is None or not who.may_see(batch.user_id):
            raise NotFound(f"batch {ref} does not exist")
        return self._batch_view(batch)

    def _batch_view(self, batch: Batch) -> verbs.BatchView:
        jobs = [job for job in self.jobs.values() if job.batch_id == batch.id]
        return verbs.BatchView(batch=batch, jobs=jobs, state=state_of(batch, [job.state for job in jobs]))

    async def list_batches(self, who: Identity, which: verbs.BatchFilter) -> verbs.BatchPage:
        self.searched.append(which)
        found = [self._batch_view(batch) for batch in self.batches.values() if who.may_see(batch.user_id)]
        found = [view for view in found if which.tag is None or which.tag in view.batch.tags]
        return verbs.BatchPage(batches=found[which.offset :][: which.limit], total=len(found))

    async def search_jobs(self, who: Identity, which: verbs.JobSearch) -> tuple[list[Job], int]:
        self.searched.append(which)
        found = [job for job in self.jobs.values() if who.may_see(job.user_id)]
        found = [job for job in found if not which.batch_ids or job.batch_id in which.batch_ids]
        return found[which.offset :][: which.limit], len(found)

    async def sequence_texts(self, hashes: list[str]) -> dict[str, str]:
        return {one: "the sequence's text" for one in hashes if one}

    async def job_details(self, jobs: list[Job]) -> tuple[dict[int, dict[str, object]], dict[int, str]]:
        return {job.id: self.asks[job.id].variables for job in jobs if self.asks[job.id].variables}, {}

    # -- FakeService has these
    async def get_session(self, who: Identity, ref: str) -> Session:
        raise NotImplementedError

    async def cancel_job(self, who: Identity, ref: str) -> verbs.Cancellation:
        raise NotImplementedError

    def resource_name(self, name: str | None) -> str:
        raise NotImplementedError

    def _accept(self, session: Session, ask: verbs.JobRequest, batch: int) -> Job:
        raise NotImplementedError
