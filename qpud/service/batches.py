"""Verbs on batches: open, add jobs, complete, cancel, tag."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import ExitStack

import msgspec

from qpud.context import new_uuid
from qpud.core import verbs
from qpud.core.batch import Batch, BatchEnd
from qpud.core.errors import BadRequest, Conflict, Invalid, LimitExceeded
from qpud.core.identity import Identity
from qpud.core.job import Reason
from qpud.core.session import Session
from qpud.core.verbs import JobRequest
from qpud.service.base import usable
from qpud.service.batch_looks import BatchLooks
from qpud.service.submit import Accepted, SubmitVerbs, check_digest, check_texts, digest_of, submission_of
from qpud.store import batches as sql
from qpud.store import jobs as jobs_sql
from qpud.store import search, sessions
from qpud.store.jobs import NewJob
from qpud.store.submission import Submission
from qpud.store.writer import Transaction

MOST_OPEN = 1000  # open batches of one session
_LARGEST_BATCH = 1000  # jobs in one request
_STOPPED_AT_ONCE = 256
_CLOSED = "batch {} is closed ({}) and takes no more jobs: open another one"


class _Repeat(msgspec.Struct, frozen=True, kw_only=True):
    """By what a request that was sent before is known."""

    user_id: int
    key: str | None
    digest: bytes
    since: float  # the first call was not earlier; 0: whenever


class BatchVerbs(SubmitVerbs, BatchLooks):
    """Batches: what changes them."""

    async def open_batch(
        self,
        who: Identity,
        session_ref: str | None,
        ask: verbs.OpenBatch,
        key: str | None = None,
        key_seconds: float | None = None,
    ) -> verbs.BatchView:
        """Store a batch and its jobs durably, closed or open for more.

        Args:
            who: The caller.
            session_ref: As `submit`.
            ask: The batch.
            key: A repeated key of the same user returns the batch of the first call.
            key_seconds: Where the key is not the client's own, but made of what he sent: it counts so long, within
                one session, and only until the batch's id was told (`id_was_told`) or named, since who knows it
                does not repeat his request.

        Raises:
            BadRequest: A closed batch without jobs, or too many jobs.
            Everything that `submit` raises.
        """
        self._check_batch(ask)
        session = await self._session_for(who, session_ref)
        repeat = _Repeat(
            user_id=session.user_id,
            key=key if key_seconds is None else f"{key} of session {session.id}",
            digest=hashlib.sha256(msgspec.json.encode(ask, order="deterministic")).digest(),
            since=0.0 if key_seconds is None else self._context.clock() - key_seconds,
        )
        try:
            batch_id = await self._open_in(session, ask, repeat)
        except LimitExceeded:  # maybe it is the first call's jobs that are too many already
            found = await self._context.store.write(lambda transaction: self._earlier(transaction, repeat))
            if found is None:
                raise
            batch_id = found
        return await self._viewed(await self._any_batch(who, batch_id))

    async def _open_in(self, session: Session, ask: verbs.OpenBatch, repeat: _Repeat) -> str:
        if ask.is_open and len(self._context.book.batches_of_session(session.id)) >= MOST_OPEN:
            raise LimitExceeded(f"session {session.id} has {MOST_OPEN} open batches: complete some of them")
        resource = self.resource_name(ask.resource)
        asks = [_of_batch(job, resource, ask.sequence) for job in ask.jobs]
        with self._room(session, asks) as room:
            accepted = await self._accept_all(session, asks)
            new = self._new_batch(session, ask, resource, accepted)
            return await self._store_new(session, new, repeat, room)

    async def add_jobs(
        self, who: Identity, ref: str, asks: list[JobRequest], key: str | None = None
    ) -> verbs.BatchView:
        """Add jobs to an open batch, durably.

        Raises:
            Conflict: The batch is closed.
            Everything that `submit` raises.
        """
        if not 0 < len(asks) <= _LARGEST_BATCH:
            raise BadRequest(f"{len(asks)} jobs in one request: 1 … {_LARGEST_BATCH} are possible")
        batch, digest = await self._batch(who, ref), digest_of(asks)
        if key is not None and await self._repeated(who, key, digest):
            return await self._viewed(batch)
        if not batch.is_open:
            raise Conflict(_CLOSED.format(batch.id, batch.close_reason))
        session = usable(await self._session(who, batch.session_id), who)
        text = await self._text_of(batch)
        asks = [_of_batch(job, batch.resource, text) for job in asks]
        with self._room(session, asks) as room:
            accepted = await self._accept_all(session, asks)
            await self._store_more(session, batch, accepted, key, digest, room)
        return await self._viewed(await self._batch(who, ref))

    async def complete_batch(self, who: Identity, ref: str) -> verbs.BatchView:
        """Close a batch to more jobs; one that is closed stays as it is."""
        batch = await self._batch(who, ref)
        if batch.is_open:
            await self.end_batch(batch, BatchEnd.COMPLETE)
        return await self._viewed(await self._batch(who, ref))

    async def cancel_batch(self, who: Identity, ref: str) -> verbs.BatchView:
        """Close a batch and stop its unfinished jobs; those that have ended stay as they are."""
        batch = await self._batch(who, ref)
        if batch.is_open:
            await self.end_batch(batch, BatchEnd.CANCELED)
        why = Reason.USER if who.user_id == batch.user_id else Reason.ADMIN
        text = f"canceled with its batch by {who.user}"
        jobs = [
            job for job in await self._jobs_of(batch) if not job.is_terminal and job.reason is not Reason.CANCELING
        ]
        for start in range(0, len(jobs), _STOPPED_AT_ONCE):
            current = (self._context.book.jobs.get(job.id) for job in jobs[start : start + _STOPPED_AT_ONCE])
            await asyncio.gather(*(self.stop_job(job, why, text) for job in current if job is not None))
        return await self._viewed(await self._batch(who, ref))

    async def tag_batch(self, who: Identity, ref: str, tags: tuple[str, ...]) -> verbs.BatchView:
        """Give a batch other tags.

        Raises:
            BadRequest: Too many, or too long.
            Conflict: It is a job without batch: those have the tags of their submission.
        """
        check_texts(JobRequest(sequence="", shots=1, tags=tags))
        batch = await self._batch(who, ref)
        if await search.batch(self._context.store, batch.id) is None:
            raise Conflict(f"batch {batch.id} was submitted as jobs: their tags stay as they are")
        tagged = msgspec.structs.replace(batch, tags=tags)

        def then(_none: None) -> None:
            if (current := self._context.book.batches.get(batch.id)) is not None:
                self._context.book.batches[batch.id] = msgspec.structs.replace(current, tags=tags)

        await self._context.store.write(lambda transaction: sql.set_tags(transaction, batch.id, tags), then)
        return await self._viewed(tagged)

    # -- storing
    def _check_batch(self, ask: verbs.OpenBatch) -> None:
        if len(ask.jobs) > _LARGEST_BATCH or not (ask.jobs or ask.is_open):
            raise BadRequest(
                f"a batch of {len(ask.jobs)} jobs: 1 … {_LARGEST_BATCH} are possible, none in an open one"
            )
        check_texts(JobRequest(sequence="", shots=1, name=ask.name, tags=ask.tags))

    def _room(self, session: Session, asks: list[JobRequest]) -> ExitStack:
        return self._room_for(session, asks) if asks else ExitStack()

    def _new_batch(
        self, session: Session, ask: verbs.OpenBatch, resource: str, accepted: list[Accepted]
    ) -> tuple[Batch, list[NewJob], dict[str, str]]:
        news, texts = self._new_jobs(session, accepted) if accepted else [], self._unstored(accepted)
        sequence_hash = None
        if ask.sequence is not None:
            known = self._known(ask.sequence)
            sequence_hash = known.program.sequence_hash
            if not known.is_stored:
                texts[sequence_hash] = ask.sequence
        is_single = len(news) == 1 and not ask.is_open
        now = self._context.clock()
        batch = Batch(
            id=news[0].job.uid if is_single else new_uuid(),
            session_id=session.id,
            user_id=session.user_id,
            resource=resource,
            name=ask.name,
            tags=ask.tags,
            project=ask.project,
            sequence_hash=sequence_hash,
            opened_at=now,
            last_used_at=now,
            closed_at=None if ask.is_open else now,
            close_reason=None if ask.is_open else BatchEnd.COMPLETE,
        )
        return batch, _belonging(news, batch.id), texts

    async def _store_new(
        self,
        session: Session,
        new: tuple[Batch, list[NewJob], dict[str, str]],
        repeat: _Repeat,
        room: ExitStack,
    ) -> str:
        batch, news, texts = new
        submission = submission_of(session, texts, news)

        def operation(transaction: Transaction) -> str:
            if (earlier := self._earlier(transaction, repeat)) is not None:
                return earlier
            sessions.require_open(transaction, session.id)
            sql.insert(transaction, batch, repeat.key, repeat.digest)
            _insert_jobs(transaction, submission)
            return batch.id

        def then(stored: str) -> None:
            room.close()
            if stored == batch.id:
                self._entered_batch(session, batch, submission)

        return await self._context.store.write(operation, then)

    def _earlier(self, transaction: Transaction, repeat: _Repeat) -> str | None:
        """The batch that the first call made. Raises: Conflict: That was another request."""
        if repeat.key is None:
            return None
        earlier = sql.find_key(transaction, repeat.user_id, repeat.key, repeat.since)
        if earlier is None or (repeat.since > 0 and earlier[0] in self._known_ids):
            return None
        if earlier[1] != repeat.digest:
            raise Conflict(f"Idempotency-Key {repeat.key[:64]!r} came with another request before: use a new key")
        return earlier[0]

    def _entered_batch(self, session: Session, batch: Batch, submission: Submission) -> None:
        if batch.is_open and session.id in self._context.book.sessions:
            self._context.book.batches[batch.id] = batch
            self._context.touch()
        if submission.news:
            self._entered([new.job for new in submission.news], dict(submission.texts))

    async def _store_more(
        self,
        session: Session,
        batch: Batch,
        accepted: list[Accepted],
        key: str | None,
        digest: bytes,
        room: ExitStack,
    ) -> None:
        news = _belonging(self._new_jobs(session, accepted), batch.id)
        jobs = [new.job for new in news]
        submission = submission_of(session, self._unstored(accepted), news)

        def operation(transaction: Transaction) -> bool:
            if key is not None and check_digest(transaction, session.user_id, key, digest):
                return False
            sql.require_open(transaction, batch.id)
            submission(transaction)
            if key is not None:
                jobs_sql.insert_key(transaction, session.user_id, key, jobs, digest)
            return True

        def then(is_first: bool) -> None:
            room.close()
            if is_first:
                self._entered(jobs, dict(submission.texts))

        await self._context.store.write(operation, then)


def _of_batch(ask: JobRequest, resource: str, sequence: str | None) -> JobRequest:
    """A job as part of its batch."""
    if ask.resource not in (None, resource):
        raise Invalid(f"a job for {ask.resource} does not fit into a batch for {resource}")
    if not (text := ask.sequence or sequence):
        raise Invalid("a job without a sequence needs a batch that has one")
    return msgspec.structs.replace(ask, resource=resource, sequence=text)


def _belonging(news: list[NewJob], batch_id: str) -> list[NewJob]:
    return [msgspec.structs.replace(new, job=msgspec.structs.replace(new.job, batch_id=batch_id)) for new in news]


def _insert_jobs(transaction: Transaction, submission: Submission) -> None:
    if submission.news:
        submission(transaction)
    else:
        jobs_sql.insert_sequences(transaction, list(submission.texts.items()))
