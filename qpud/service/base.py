"""What all verbs share: the context, and how a caller's references become objects."""

from __future__ import annotations

import difflib
import hashlib

from qpud.context import Context
from qpud.core import verbs
from qpud.core.errors import Forbidden, NotFound, Unauthenticated
from qpud.core.identity import Identity, Proof
from qpud.core.ids import job_id_of
from qpud.core.job import Job
from qpud.core.policy import Policy
from qpud.core.rehearsal import veiled
from qpud.core.session import TOKEN_PREFIX, Session
from qpud.store import queries


def token_hash(token: str) -> bytes:
    """The sha256 under which a session token is known."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Verbs:
    """Base of the verbs of one noun.

    Args:
        context: The parts of the daemon.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._context.policy

    def forecast(self, job: Job) -> verbs.Forecast | None:
        """When a job will start and end; None once it has ended."""
        context = self._context
        return None if job.is_terminal else context.forecaster.of(context.book.jobs.get(job.id, job), context.clock())

    def forecast_at_submission(self, job: Job) -> verbs.Forecast | None:
        """What was foreseen of a job that has just been submitted."""
        return None if job.is_terminal else self._context.forecaster.at_submission(job, self._context.clock())

    def identify_token(self, token: str) -> Identity:
        """The owner of a session token.

        Raises:
            Unauthenticated: Nobody's token, or its session has ended.
        """
        book = self._context.book
        session = book.sessions.get(book.tokens.get(token_hash(token), ""))  # not by its id, which is no secret
        if session is None:
            raise Unauthenticated("the session token is unknown, or its session has ended")
        return Identity(user_id=session.user_id, user=session.user, proof=Proof.TOKEN, session_id=session.id)

    def resource_name(self, name: str | None) -> str:
        """Resolve a resource name, or None for the default one.

        Raises:
            NotFound: No such resource; names the nearest one.
        """
        if name is None:
            return self.policy.default_resource
        if name in self.policy.resources:
            return name
        near = difflib.get_close_matches(name.upper(), self.policy.resources, n=1, cutoff=0.5)
        there_are = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.policy.resources)}"
        raise NotFound(f"resource {name[:64]!r} does not exist: {there_are}")

    def _open_session_of(self, ref: str) -> Session | None:
        book = self._context.book
        return book.sessions.get(ref) or book.sessions.get(book.tokens.get(token_hash(ref), ""))

    async def _session(self, who: Identity, ref: str) -> Session:
        session = self._open_session_of(ref) or await queries.session(self._context.store, ref)
        if session is None or not (who.may_see(session.user_id) or who.may_open_for_others):
            named = "of this token" if ref.startswith(TOKEN_PREFIX) else ref[:36]
            raise NotFound(f"session {named} does not exist, or has ended")
        return session

    async def _job(self, who: Identity, ref: str) -> Job:
        job_id = job_id_of(ref)
        job = None if job_id is None else await self._job_by_id(job_id)
        is_named = job is not None and (ref.isdigit() or job.uid == ref.lower())
        if job is None or not is_named or not who.may_see(job.user_id):
            raise NotFound(f"job {ref[:40]} does not exist")
        return job

    async def _job_by_id(self, job_id: int) -> Job | None:
        job = self._context.book.jobs.get(job_id) or await queries.job(self._context.store, job_id)
        return None if job is None else self._as_seen(job)

    def _as_seen(self, job: Job) -> Job:
        """The job as its session wants to see it: RUNNING, while its end is covered."""
        return job if self._veil(job) is None else veiled(job)

    def _veil(self, job: Job) -> float | None:
        """Seconds since the epoch until which the job's end is covered; a session that ends lifts it."""
        if job.session_id not in self._context.book.sessions:
            return None
        return self._context.veils.of(job.id, self._context.clock())


def usable(session: Session, who: Identity) -> Session:
    """The session, if the caller may submit with it.

    Raises:
        NotFound: It belongs to another user.
        Forbidden: It has ended, or an administrator asks, who may see it but not submit with it.
    """
    if not who.may_see(session.user_id):
        raise NotFound(f"session {session.id} does not exist")
    if session.user_id != who.user_id:
        raise Forbidden(f"session {session.id} belongs to another user")
    if not session.is_open:
        raise Forbidden(f"session {session.id} has ended ({session.close_reason})")
    if session.only_finishes:
        raise Forbidden(f"session {session.id} only finishes jobs of a Slurm job that has ended, it takes no others")
    return session
