"""Sessions: the right of one user (usually one Slurm job) to submit to resources."""

from __future__ import annotations

import enum

import msgspec

TOKEN_PREFIX = "qpud_"  # noqa: S105  how session tokens begin, not one of them


SHARE_UNITS = 10
"""Units of a whole resource: a share of 3 is 30 %."""
AFTER_PREFIX = "after-"
"""How sessions are named whose jobs go on after their Slurm job: after-4242 of Slurm job 4242."""
FINISHED_SECONDS = 60.0
"""For which such a session outlives its last job, so that those of one Slurm job that follow each other share one."""


class Hint(enum.StrEnum):
    """The user's word on the workload; it may reorder, it never entitles."""

    NONE = ""
    QC_HEAVY = "qc-heavy"
    CC_HEAVY = "cc-heavy"
    QC_BALANCED = "qc-balanced"


class CloseReason(enum.StrEnum):
    """Why a session ended, in the wire's words."""

    MANUAL = "manual"
    IDLE = "idle_timeout"
    LIFETIME = "max_lifetime_expired"
    SLURM = "slurm_job_ended"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One user's right to submit. Times are float seconds since the epoch, UTC.

    `last_used_at` moves with each submission and each job's end; the session expires `idle_timeout` seconds
    after it, unless jobs are unfinished, and at `expires_at` in any case.
    """

    id: str  # uuid; not a secret
    user_id: int
    user: str  # name, or the uid as text where the system knows no name
    account: str | None = None
    slurm_job_id: str | None = None
    queue: str
    share: int = 1  # units, 10 = 100 %
    hint: Hint = Hint.NONE
    expected_qpu_seconds: float | None = None
    expected_classical_seconds: float | None = None  # between two of its jobs
    nodes: int = 1  # held by its Slurm job while it waits
    opened_at: float
    last_used_at: float
    expires_at: float
    closed_at: float | None = None
    close_reason: CloseReason | None = None
    slurm_started_at: float | None = None  # of the run that Slurm vouched for; None where it was not asked
    qos: str | None = None  # of its Slurm job
    slurm_priority: int = 0  # of its Slurm job when it was opened, with SlurmPriority; 0 without

    @property
    def is_open(self) -> bool:
        """Whether jobs may still be submitted."""
        return self.closed_at is None

    @property
    def only_finishes(self) -> bool:
        """Whether it holds jobs that go on after their Slurm job; nobody submits with it directly."""
        return (self.slurm_job_id or "").startswith(AFTER_PREFIX)


def idle_deadline(session: Session, idle_timeout_seconds: float) -> float:
    """Seconds since the epoch at which an unused session expires."""
    return session.last_used_at + idle_seconds(session, idle_timeout_seconds)


def idle_seconds(session: Session, idle_timeout_seconds: float) -> float:
    """For how long a session may be unused."""
    return min(idle_timeout_seconds, FINISHED_SECONDS) if session.only_finishes else idle_timeout_seconds


def expiry(session: Session, has_unfinished: bool, idle_timeout_seconds: float, now: float) -> CloseReason | None:
    """Say whether and why a session has expired.

    Args:
        session: An open session.
        has_unfinished: Whether any of its jobs is PENDING or RUNNING; such a session is never idle.
        idle_timeout_seconds: SessionIdleTimeout.
        now: Seconds since the epoch.
    """
    if now >= session.expires_at:
        return CloseReason.LIFETIME
    if not has_unfinished and now >= idle_deadline(session, idle_timeout_seconds):
        return CloseReason.IDLE
    return None
