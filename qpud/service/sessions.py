"""Verbs on sessions: open, close, look."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from functools import partial
from weakref import WeakValueDictionary

import msgspec

from qpud.context import Context, new_uuid
from qpud.core import verbs
from qpud.core.errors import BadRequest, Conflict, Forbidden, Invalid, LimitExceeded, NotFound
from qpud.core.identity import Identity, Proof
from qpud.core.job import Reason
from qpud.core.session import AFTER_PREFIX, SHARE_UNITS, TOKEN_PREFIX, CloseReason, Session
from qpud.core.slurm import has_ended, job_number
from qpud.core.terms import OpenSessions
from qpud.service import admission, rehearsals, slurm
from qpud.service.base import token_hash
from qpud.service.ending import EndingVerbs
from qpud.store import batches, queries
from qpud.store import sessions as sql
from qpud.store.writer import Transaction

log = logging.getLogger(__name__)

MOST_OPEN = 1000  # sessions that one user opens himself
MOST_TOKENS = 100  # of one session, and one more for each node that Slurm says its job has
_LARGEST_UID = 2**32 - 2
_STOPPED_AT_ONCE = 256


class SessionVerbs(EndingVerbs):
    """Sessions."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._tokens = Counter(context.book.tokens.values())  # by open session
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()  # by Slurm job

    async def open_session(self, who: Identity, ask: verbs.OpenSession) -> verbs.Grant:
        """Open a session, or return the open one of the same user and Slurm job with one more token.

        With SlurmLookup, a session that names a Slurm job is on Slurm's terms, whatever the client asks.

        Raises:
            Forbidden: The caller may not open sessions, or not for that user; the queue is closed to the user, his
                groups or the account; the account is a duty's, and the caller no administrator; the Slurm job does
                not run, or is another user's.
            Unavailable: Slurm does not answer, and SlurmUnavailable is refuse.
            Invalid: No such queue, or a share outside 1 … 10.
            Conflict: The open session of that Slurm job rehearses something else, or, where Slurm does not vouch for
                it, has another share or queue.
            LimitExceeded: The user has 1000 open sessions, or the session 100 tokens and one for each node.
        """
        user_id = who.user_id if ask.user_id is None else ask.user_id
        self._check_user(who, user_id)
        self._check_ask(ask)
        terms = await slurm.terms(self._context, user_id, ask)
        if terms.number is None:
            return await self._open(who, user_id, terms)
        async with self._turns.setdefault(terms.number, asyncio.Lock()):  # its sessions divide its units
            return await self._open(who, user_id, slurm.with_units_left(self._context, user_id, terms))

    async def _open(self, who: Identity, user_id: int, terms: slurm.Terms) -> verbs.Grant:
        ask = terms.ask
        with_token = ask.with_token and (who.proof is not Proof.MUNGE or user_id == who.user_id)
        found = await self._found(user_id, terms)
        if found is not None:
            with contextlib.suppress(Forbidden):  # it ended just now: open another one
                return await self._grant(found, created=False, with_token=with_token)
        self._check_may_open(who, is_vouched=terms.job is not None)
        await self._check_access(who, user_id, ask)
        try:
            grant = await self._grant(self._new_session(user_id, terms), created=True, with_token=with_token)
            _record("session opened for another user", who, grant.session)
            return grant
        except Conflict:  # two opened the same Slurm job's session at once: the other one won
            if (found := await self._found(user_id, terms)) is None:
                raise
        return await self._grant(found, created=False, with_token=with_token)

    async def close_session(self, who: Identity, ref: str) -> Session:
        """Close a session and cancel its unfinished jobs; closing twice keeps the first closing time.

        Raises:
            NotFound: No such session, or another user's.
        """
        session = await self._session(who, ref)
        if not session.is_open:
            return session
        _record("session closed for another user", who, session)
        return await self.end_session(session, CloseReason.MANUAL)

    async def get_session(self, who: Identity, ref: str) -> Session:
        """One session, open or closed. Raises: NotFound, also for others' sessions, even to root by munge."""
        session = await self._session(who, ref)
        if not who.may_see(session.user_id):
            raise NotFound(f"session {ref[:36]} does not exist")
        return session

    async def list_sessions(self, who: Identity, which: verbs.SessionFilter) -> list[Session]:
        """The caller's sessions, newest first, at most 1000; everybody's for an administrator."""
        if not who.is_admin:
            which = msgspec.structs.replace(which, user_id=who.user_id)
        closed = [] if which.active else await queries.sessions(self._context.store, which)
        return [self._context.book.sessions.get(session.id, session) for session in closed] or self._open_ones(which)

    async def renew_session(self, who: Identity, ref: str) -> Session:
        """Compare an open session with its Slurm job now: its nodes and its end may have changed.

        Raises:
            NotFound: No such session, or another user's.
            Unavailable: Slurm does not answer.
        """
        session, asking = await self.get_session(who, ref), self._context.slurm
        number = job_number(session.slurm_job_id)
        if asking is None or number is None or not session.is_open:
            return session
        asking.forget(number)
        job = await asking.look_up(number)
        if job is None or has_ended(session, job):
            return await self.end_session(session, CloseReason.SLURM)
        return await slurm.follow(self._context, session, job)

    async def end_session(self, session: Session, reason: CloseReason) -> Session:
        """Close an open session for a reason: its tokens end, unfinished jobs are canceled.

        A crash or a full disk in between leaves a closed session with unfinished jobs: `stop_orphans` cancels them.

        Returns:
            The session, with the first closing time if it is closed twice at once.
        """
        context = self._context
        now = context.clock()
        closed = msgspec.structs.replace(session, closed_at=now, close_reason=reason, last_used_at=now)

        def operation(transaction: Transaction) -> bool:
            sql.delete_tokens(transaction, session.id)
            batches.close_of_session(transaction, session.id, now)
            return sql.close(transaction, closed)

        def then(_is_first: bool) -> None:
            context.book.remove_session(session.id)
            for batch in context.book.batches_of_session(session.id):
                context.book.remove_batch(batch.id)
            self._tokens.pop(session.id, None)
            context.veils.end_session(session.id)
            self._forget_slurm_job(session)
            context.metrics.sessions(len(context.book.sessions))
            if self.policy.daemon.scheduler_type == "exclusive":  # others wait for its end, not only for its jobs'
                for resource in context.book.flights:
                    context.wake(resource)

        try:
            is_first = await context.store.write(operation, then)
            await self._stop_jobs(session.id, reason)
        except BaseException:
            context.touch()  # the reaper goes on where this caller stops
            raise
        return closed if is_first else await queries.session(context.store, session.id) or closed

    def _forget_slurm_job(self, session: Session) -> None:
        number = job_number(session.slurm_job_id)
        if self._context.slurm is not None and number is not None:
            self._context.slurm.forget(number)

    async def stop_orphans(self) -> None:
        """Cancel unfinished jobs of sessions that have ended: a crash or a full disk came between the two."""
        for session_id in self._context.book.orphaned():
            session = await queries.session(self._context.store, session_id)
            reason = session.close_reason if session else None
            await self._stop_jobs(session_id, reason or CloseReason.MANUAL)

    async def _stop_jobs(self, session_id: str, reason: CloseReason) -> None:
        """Cancel the unfinished jobs of an ended session; those that are stopped together share their commits."""
        why = Reason.SESSION_CLOSED if reason is CloseReason.MANUAL else Reason.SESSION_EXPIRED
        text = f"canceled: its session ended ({reason})"
        jobs = [job for job in self._context.book.jobs_of_session(session_id) if job.reason is not Reason.CANCELING]
        for start in range(0, len(jobs), _STOPPED_AT_ONCE):
            current = (self._context.book.jobs.get(job.id) for job in jobs[start : start + _STOPPED_AT_ONCE])
            await asyncio.gather(*(self.stop_job(job, why, text) for job in current if job is not None))

    def _open_ones(self, which: verbs.SessionFilter) -> list[Session]:
        if which.active is False:
            return []
        return [
            session
            for session in reversed(list(self._context.book.sessions.values()))
            if which.user_id in (None, session.user_id) and which.slurm_job_id in (None, session.slurm_job_id)
        ][:1000]

    def _check_user(self, who: Identity, user_id: int) -> None:
        if user_id != who.user_id and not who.may_open_for_others:
            raise Forbidden(f"user {who.user} may not open a session for uid {user_id}, only for himself")

    def _check_may_open(self, who: Identity, *, is_vouched: bool) -> None:
        if who.may_open_for_others:
            return
        if not is_vouched and self.policy.daemon.open_sessions is OpenSessions.ADMIN:
            raise Forbidden(
                f"user {who.user} may not open sessions: OpenSessions=admin leaves it to Slurm and administrators"
            )
        if len(self._context.book.sessions_of_user(who.user_id)) >= MOST_OPEN:
            raise LimitExceeded(f"user {who.user} has {MOST_OPEN} open sessions: close some, or let them expire")

    async def _check_access(self, who: Identity, user_id: int, ask: verbs.OpenSession) -> None:
        account = ask.account or ""
        admission.check_duty(who, account)
        queue = self.policy.queues[ask.queue or self.policy.default_queue]
        await admission.check_access(self._context, queue, user_id, account)

    def _check_ask(self, ask: verbs.OpenSession) -> None:
        if ask.queue is not None and ask.queue not in self.policy.queues:
            raise Invalid(f"queue {ask.queue!r} does not exist: there are {', '.join(self.policy.queues)}")
        if ask.share is not None and not 1 <= ask.share <= SHARE_UNITS:
            raise Invalid(f"a share of {ask.share} units is outside 1 … {SHARE_UNITS}")
        if ask.user_id is not None and not 0 <= ask.user_id <= _LARGEST_UID:
            raise BadRequest(f"user id {ask.user_id} is outside 0 … {_LARGEST_UID}")
        if ask.slurm_job_id is not None and not 0 < len(ask.slurm_job_id) <= 64:
            raise BadRequest("a Slurm job id has 1 … 64 characters")
        self._check_rehearsal(ask)
        if (ask.slurm_job_id or "").startswith(AFTER_PREFIX):
            raise BadRequest(f"sessions named {AFTER_PREFIX}… are opened by qpud alone, for jobs that release another")
        for what, text in (("Slurm job id", ask.slurm_job_id), ("account", ask.account)):
            if not (text or "").isprintable():
                raise BadRequest(f"the {what} has unprintable characters")

    def _check_rehearsal(self, ask: verbs.OpenSession) -> None:
        if ask.rehearsal is not None:
            rehearsals.check_session(self.policy, ask.rehearsal)
            if ask.for_resource is not None:
                rehearsals.check_resource(self.policy, ask.rehearsal, self.resource_name(ask.for_resource))

    def _new_session(self, user_id: int, terms: slurm.Terms) -> Session:
        ask, now = terms.ask, self._context.clock()
        return Session(
            id=new_uuid(),
            user_id=user_id,
            user=self._context.names(user_id),
            account=ask.account,
            slurm_job_id=ask.slurm_job_id,
            queue=ask.queue or self.policy.default_queue,
            share=ask.share or 1,
            hint=ask.hint,
            expected_qpu_seconds=ask.expected_qpu_seconds,
            expected_classical_seconds=ask.expected_classical_seconds,
            nodes=ask.nodes or 1,
            opened_at=now,
            last_used_at=now,
            expires_at=terms.expires_at,
            slurm_started_at=terms.started_at,
            rehearsal=ask.rehearsal,
            qos=terms.qos,
            slurm_priority=terms.priority if self.policy.daemon.slurm_priority else 0,
        )

    async def _found(self, user_id: int, terms: slurm.Terms) -> Session | None:
        """The open session of the same user and Slurm job, of this run of the job. Raises: Conflict."""
        name = terms.ask.slurm_job_id
        found = None if name is None else self._context.book.session_of(user_id, name)
        if found is not None and terms.job is not None and has_ended(found, terms.job):
            await self.end_session(found, CloseReason.SLURM)
            return None
        return None if found is None else _same(found, terms)

    async def _grant(self, session: Session, *, created: bool, with_token: bool) -> verbs.Grant:
        most = MOST_TOKENS + (0 if session.slurm_started_at is None else session.nodes)
        if with_token and self._tokens[session.id] >= most:
            raise LimitExceeded(f"session {session.id} has {most} tokens: use one of them, or close it")
        token = f"{TOKEN_PREFIX}{secrets.token_urlsafe(32)}" if with_token else ""
        hashed = token_hash(token) if with_token else None
        operation = partial(_store_grant, session=session, token=hashed, created=created)
        await self._context.store.write(operation, lambda _none: self._enter(session, hashed, created))
        return verbs.Grant(session=session, token=token, created=created)

    def _enter(self, session: Session, hashed: bytes | None, created: bool) -> None:
        book = self._context.book
        if created:
            book.add_session(session)
            self._context.touch()
            self._context.expect()
        if session.id in book.sessions and hashed is not None:
            book.tokens[hashed] = session.id
            self._tokens[session.id] += 1
        self._context.metrics.sessions(len(book.sessions))


def _record(what: str, who: Identity, session: Session) -> None:
    """Log what was done for another: a credential of root can be stolen (facts/CONTRACTS §7)."""
    if session.user_id != who.user_id:
        about = {"user": session.user, "session": session.id, "slurm_job": session.slurm_job_id}
        terms = {"queue": session.queue, "share": session.share}
        log.info(what, extra={"by": who.user, "proof": who.proof, **about, **terms})


def _store_grant(transaction: Transaction, *, session: Session, token: bytes | None, created: bool) -> None:
    if created:
        sql.insert(transaction, session)
    else:
        sql.require_open(transaction, session.id)
    if token is not None:
        sql.insert_token(transaction, token, session.id)


def _same(found: Session, terms: slurm.Terms) -> Session:
    """The open session, if it is what was asked for; queue and share are Slurm's word where it decides."""
    ask, name = terms.ask, found.slurm_job_id
    if terms.number is None and not (ask.share in (None, found.share) and ask.queue in (None, found.queue)):
        raise Conflict("An active session already exists for this scheduler job with different parameters.")
    if ask.rehearsal not in (None, found.rehearsal):
        raise Conflict(f"session {found.id} of Slurm job {name} is open with another rehearsal: close it first")
    return found
