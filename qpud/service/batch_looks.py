"""Verbs on batches: look, list, find jobs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from qpud.context import Context
from qpud.core import verbs
from qpud.core.batch import Batch, BatchEnd, state_of
from qpud.core.errors import BadRequest, NotFound
from qpud.core.identity import Identity
from qpud.core.ids import job_id_of
from qpud.core.job import Job
from qpud.service.jobs import JobVerbs
from qpud.store import search

_REMEMBERED = 4096  # batches whose ids their users have


class BatchLooks(JobVerbs):
    """Batches. A reference is a batch's id, or the uuid of a job without batch, which is one of its own."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._known_ids: OrderedDict[str, None] = OrderedDict()

    async def get_batch(self, who: Identity, ref: str) -> verbs.BatchView:
        """One batch with its jobs. Raises: NotFound: No such batch, or another user's."""
        return await self._viewed(await self._batch(who, ref))

    async def list_batches(self, who: Identity, which: verbs.BatchFilter) -> verbs.BatchPage:
        """The caller's batches, newest first; everybody's for an administrator."""
        _check_page(which.limit, which.offset)
        if not who.is_admin:
            which = msgspec.structs.replace(which, user_id=who.user_id)
        found, total = await search.batches(self._context.store, which)
        self._notice(batch.id for batch in found)
        jobs: dict[str, list[Job]] = {batch.id: [] for batch in found}
        for job in await search.jobs_of(self._context.store, list(jobs)):
            jobs[job.batch_id or ""].append(self._current(job))
        current = [self._context.book.batches.get(batch.id, batch) for batch in found]
        return verbs.BatchPage(batches=[_view(batch, jobs[batch.id]) for batch in current], total=total)

    async def search_jobs(self, who: Identity, which: verbs.JobSearch) -> tuple[list[Job], int]:
        """A page of the caller's jobs, and how many there are in all; everybody's for an administrator."""
        _check_page(which.limit, which.offset)
        if not who.is_admin:
            which = msgspec.structs.replace(which, user_id=who.user_id)
        found, total = await search.jobs(self._context.store, which)
        self._notice(job.batch_id for job in found)
        return [self._current(job) for job in found], total

    async def sequence_texts(self, hashes: list[str]) -> dict[str, str]:
        """The texts of sequences, by hash; those of jobs that the caller was shown."""
        return await search.sequence_texts(self._context.store, set(hashes))

    async def job_details(self, jobs: list[Job]) -> tuple[dict[int, dict[str, object]], dict[int, str]]:
        """Variables and final sentences of jobs, by id, of those that have any."""
        store = self._context.store
        told = [job for job in jobs if self._veil(job) is None]
        return await search.job_variables(store, jobs), await search.job_messages(store, told)

    def id_was_told(self, batch_id: str) -> None:
        """The answer that made a batch has reached its user: an equal request is no retry of the first."""
        self._notice([batch_id])

    # -- parts
    async def _batch(self, who: Identity, ref: str) -> Batch:
        batch = await self._any_batch(who, ref)
        self._notice([batch.id])
        return batch

    async def _any_batch(self, who: Identity, ref: str) -> Batch:
        batch = self._context.book.batches.get(ref) or await search.batch(self._context.store, ref)
        batch = batch or await self._batch_of_jobs(who, ref)
        if batch is None or not who.may_see(batch.user_id):
            raise NotFound(f"batch {ref[:40]} does not exist")
        return batch

    async def _batch_of_jobs(self, who: Identity, ref: str) -> Batch | None:
        """What POST /v1/jobs made: a list is a batch, a single job is one of its own."""
        jobs = await search.jobs_of(self._context.store, [ref])
        if not jobs:
            try:
                jobs = [await self._job(who, ref)]
            except NotFound:
                return None
        return _implied(jobs[0])

    async def _viewed(self, batch: Batch) -> verbs.BatchView:
        return _view(batch, [self._current(job) for job in await self._jobs_of(batch)])

    def _notice(self, batch_ids: Iterable[str | None]) -> None:
        """Who names these batches, or was shown them, has had the answers that made them."""
        self._known_ids.update(dict.fromkeys(batch_id for batch_id in batch_ids if batch_id is not None))
        while len(self._known_ids) > _REMEMBERED:
            self._known_ids.popitem(last=False)

    async def _jobs_of(self, batch: Batch) -> list[Job]:
        jobs = await search.jobs_of(self._context.store, [batch.id])
        if jobs or (job_id := job_id_of(batch.id)) is None:
            return jobs
        job = await self._job_by_id(job_id)
        return [] if job is None else [job]

    def _current(self, job: Job) -> Job:
        return self._explained(self._as_seen(self._context.book.jobs.get(job.id, job)))

    async def _text_of(self, batch: Batch) -> str | None:
        if batch.sequence_hash is None:
            return None
        return (await self.sequence_texts([batch.sequence_hash])).get(batch.sequence_hash)


def _implied(job: Job) -> Batch:
    """The batch that a job is in, or is, without anybody having opened one."""
    return Batch(
        id=job.batch_id or job.uid,
        session_id=job.session_id,
        user_id=job.user_id,
        resource=job.resource,
        name=job.name,
        sequence_hash=job.sequence_hash,
        opened_at=job.submitted_at,
        last_used_at=job.submitted_at,
        closed_at=job.submitted_at,
        close_reason=BatchEnd.COMPLETE,
    )


def _view(batch: Batch, jobs: list[Job]) -> verbs.BatchView:
    return verbs.BatchView(batch=batch, jobs=jobs, state=state_of(batch, [job.state for job in jobs]))


def _check_page(limit: int, offset: int) -> None:
    if not (1 <= limit <= 1000 and offset >= 0):
        raise BadRequest(f"a page of {limit} from {offset} on is impossible: limit is 1 … 1000, offset 0 or more")
