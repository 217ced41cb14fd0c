"""What Slurm vouches for: with SlurmLookup, the terms of a session that names a Slurm job come from Slurm alone."""

from __future__ import annotations

import msgspec

from qpud.context import Context
from qpud.core import verbs
from qpud.core.errors import BadRequest, Forbidden, Unavailable
from qpud.core.reservations import DUTY_PREFIX
from qpud.core.session import Session
from qpud.core.slurm import SlurmAway, SlurmJob, job_number, lease, looks_like_a_job, queue_fed_by
from qpud.core.terms import SlurmUnavailable
from qpud.site.slurm import Slurm
from qpud.store import sessions as sql


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """On what terms a session is opened."""

    ask: verbs.OpenSession
    """What was asked for; where Slurm vouches, with its queue, share, account and nodes instead of the client's."""
    expires_at: float
    """Seconds since the epoch, UTC."""
    number: int | None = None
    """The Slurm job, where Slurm decides."""
    job: SlurmJob | None = None
    """What Slurm said of it; None while Slurm is away."""

    @property
    def started_at(self) -> float | None:
        """When the run of the job began that Slurm vouched for."""
        return None if self.job is None else self.job.started_at

    @property
    def qos(self) -> str | None:
        """The QOS of the job."""
        return None if self.job is None else self.job.qos

    @property
    def priority(self) -> int:
        """The job's priority in Slurm."""
        return 0 if self.job is None else self.job.priority


async def terms(context: Context, user_id: int, ask: verbs.OpenSession) -> Terms:
    """The terms of a session, from its Slurm job if it names one and SlurmLookup is on.

    Raises:
        Forbidden: The job does not run, or is another user's, or its partition feeds no queue.
        BadRequest: A Slurm job's name that cannot be read.
        Unavailable: Slurm does not answer, and SlurmUnavailable is refuse.
    """
    latest = context.clock() + context.policy.daemon.session_max_lifetime
    number = None if context.slurm is None else _number(ask.slurm_job_id)
    if context.slurm is None or number is None:
        return Terms(ask=ask, expires_at=latest)
    try:
        job = await _running_job(context, context.slurm, number, user_id)
    except SlurmAway as away:
        return Terms(ask=_unproven(context, user_id, ask, away), expires_at=latest, number=number)
    expires_at = lease(job.ends_at, context.policy.daemon.slurm_grace_time, latest)
    return Terms(ask=_proven(context, ask, job), expires_at=expires_at, number=number, job=job)


def _number(name: str | None) -> int | None:
    number = job_number(name)
    if number is None and looks_like_a_job(name):
        raise BadRequest(f"Slurm job id {name!r} is neither a number nor a number with a name, as in 4242.run-1")
    return number


async def _running_job(context: Context, slurm: Slurm, number: int, user_id: int) -> SlurmJob:
    job, user = await slurm.look_up(number), context.names(user_id)
    if job is None or job.user_id != user_id:  # alike: whose jobs there are is nobody's business
        raise Forbidden(f"Slurm job {number} is no job of user {user}: Slurm knows none, or it is another user's")
    if not job.is_running:
        raise Forbidden(f"Slurm job {number} of user {user} is {job.state}: only a running job has a session")
    return job


def _proven(context: Context, ask: verbs.OpenSession, job: SlurmJob) -> verbs.OpenSession:
    queue = queue_fed_by(context.policy.queues.values(), job.partition, job.qos)
    if queue is None:
        raise Forbidden(f"partition {job.partition} of Slurm job {job.id} feeds no queue: no Partitions= names it")
    if job.account is not None and job.account.startswith(DUTY_PREFIX):
        raise Forbidden(f"account {job.account} of Slurm job {job.id} is a duty's: duties are for root and AdminUsers")
    return msgspec.structs.replace(ask, queue=queue, account=job.account, nodes=job.nodes)


def with_units_left(context: Context, user_id: int, terms: Terms) -> Terms:
    """The terms with the job's units, less those of its other sessions, at least one; fewer if asked for fewer."""
    if terms.job is None:
        return terms
    others = sum(
        session.share
        for session in context.book.sessions_of_user(user_id)
        if job_number(session.slurm_job_id) == terms.number and session.slurm_job_id != terms.ask.slurm_job_id
    )
    share = min(max(1, terms.job.units - others), terms.ask.share or terms.job.units)
    return msgspec.structs.replace(terms, ask=msgspec.structs.replace(terms.ask, share=share))


async def follow(context: Context, session: Session, job: SlurmJob) -> Session:
    """Follow a time limit or a number of nodes that was changed, and note the run that Slurm could not vouch for.

    Returns:
        The session as it is then.
    """
    daemon = context.policy.daemon
    expires_at = lease(job.ends_at, daemon.slurm_grace_time, session.opened_at + daemon.session_max_lifetime)
    lasting = {"expires_at": expires_at, "slurm_started_at": job.started_at, "nodes": job.nodes}
    followed = msgspec.structs.replace(session, **lasting)
    if followed == session:
        return session

    def then(_none: None) -> None:
        current = context.book.sessions.get(session.id)
        if current is not None:
            context.book.renew_session(msgspec.structs.replace(current, **lasting))
            context.touch()

    await context.store.write(lambda transaction: sql.set_lease(transaction, followed), then)
    return context.book.sessions.get(session.id, followed)


def _unproven(context: Context, user_id: int, ask: verbs.OpenSession, away: SlurmAway) -> verbs.OpenSession:
    """Slurm is away: a session that was opened before is good, another one is as SlurmUnavailable says."""
    is_new = context.book.session_of(user_id, ask.slurm_job_id or "") is None
    if is_new and context.policy.daemon.slurm_unavailable is SlurmUnavailable.REFUSE:
        raise Unavailable(f"Slurm job {ask.slurm_job_id} cannot be checked: {away.message}, try again in a moment")
    lowest = min(context.policy.queues.values(), key=lambda queue: queue.priority_tier).name
    return msgspec.structs.replace(ask, queue=lowest, share=1, account=None, nodes=1)
