"""What a Slurm job says about a session: whose it is, in which queue, with how many units, until when."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from qpud.core.errors import Conflict, Unavailable
from qpud.core.policy import QueuePolicy
from qpud.core.session import SHARE_UNITS, Session

RUNNING = frozenset({"RUNNING", "CONFIGURING"})
"""States with an allocation that may open a session; CONFIGURING while a PrologSlurmctld runs."""
ENDED = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "COMPLETING", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PENDING", "PREEMPTED", "RECONFIG_FAIL", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD"),
        *("REVOKED", "SPECIAL_EXIT", "TIMEOUT"),
    }
)
"""States in which the run that opened a session is over; a word that is in neither set closes nothing."""

HELD = frozenset({"JobHeldUser", "JobHeldAdmin"})
"""Slurm's words for why a held job waits."""

ACTIONS = ("reserve", "change-reservation", "unreserve", "set-partition", "comment", "release")
"""What qpud may do to Slurm, as metrics and the record call it."""
OUTCOMES = ("done", "refused", "away")
"""What came of it."""
ANSWERS = ("answered", "away")
"""What came of a question to Slurm."""

_NAME = re.compile(r"([0-9]{1,10})(?:\.[A-Za-z0-9_-]+)?")
_QPU_UNITS = re.compile(r"(?:gres[:/])?qpu(?:@[^:*]+)?(?:[:*=]([0-9]{1,9}))?")


class SlurmAway(Unavailable):
    """Slurm did not answer: nothing is known, neither that a job runs nor that it does not."""


class SlurmRefused(Conflict):
    """Slurm answered, and did not do what it was told."""


class SlurmForbidden(SlurmRefused):
    """Slurm takes no orders: the daemon's user is neither root nor SlurmUser nor of the rank that it takes."""


class SlurmJob(msgspec.Struct, frozen=True, kw_only=True):
    """One Slurm job as slurmctld tells it; times are seconds since the epoch, UTC."""

    id: int
    user_id: int
    partition: str
    state: str  # Slurm's word
    nodes: int
    started_at: float | None  # of a pending job: when Slurm expects it; another one after each requeue
    ends_at: float | None  # None without a time limit
    units: int = 1  # of a share
    account: str | None = None
    qos: str | None = None  # None without accounting
    priority: int = 0

    @property
    def is_running(self) -> bool:
        """Whether it has an allocation now."""
        return self.state in RUNNING


class SlurmHold(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a Slurm job is held, and by whom: fields that its owner cannot forge."""

    id: int
    user_id: int
    state: str  # Slurm's word
    reason: str  # Slurm's word for why it waits

    @property
    def is_by_its_user(self) -> bool:
        """Whether it waits because its user, and nobody else, holds it (`sbatch --hold`)."""
        return self.state == "PENDING" and self.reason == "JobHeldUser"


def not_releasable(number: int, user_id: int, user: str, hold: SlurmHold | None) -> str:
    """Why qpud does not release a Slurm job for a user, in one sentence; empty if it may.

    Args:
        number: The Slurm job.
        user_id: For whom.
        user: His name.
        hold: What Slurm says of it; None if it knows none.
    """
    if hold is None or hold.user_id != user_id:  # alike: whose jobs there are is nobody's business
        return f"Slurm job {number} is no job of user {user}: Slurm knows none, or it is another user's"
    if hold.is_by_its_user:
        return ""
    if hold.state == "PENDING" and hold.reason == "JobHeldAdmin":
        return f"Slurm job {number} of user {user} is held by an administrator, who alone releases it"
    return f"Slurm job {number} of user {user} is {hold.state} and not held by its user: submit it with sbatch --hold"


class WorkerJob(msgspec.Struct, frozen=True, kw_only=True):
    """A Slurm job in which a worker of ours runs, or waits to."""

    id: int
    name: str
    state: str  # Slurm's word
    reason: str  # why it waits


def job_number(name: str | None) -> int | None:
    """The Slurm job that a session's `slurm_job_id` names: 4242, or 4242.run-1a2b as `qpud run` writes; else None.

    0 is what QRMI's clients send outside Slurm, whose ids begin at 1.
    """
    found = _NAME.fullmatch(name or "")
    return int(found[1]) or None if found else None


def looks_like_a_job(name: str | None) -> bool:
    """Whether a name could be taken for a Slurm job's, read by `job_number` or not (4242_7, 4242+1)."""
    return name not in (None, "0") and str(name)[:1].isdigit()


def units_of(licenses: str, gres: str) -> int:
    """The share that a job holds: its licences `qpu:3`, else its GRES `qpu:3` per node, else one unit; at most 10."""
    held = _count(licenses) or _count(gres) or 1
    return min(held, SHARE_UNITS)


def _count(text: str) -> int:
    found = [_QPU_UNITS.fullmatch(part.strip()) for part in re.split("[,;]", text)]
    return sum(int(one[1] or 1) for one in found if one)


def queue_fed_by(queues: Iterable[QueuePolicy], partition: str, qos: str | None = None) -> str | None:
    """The queue that a QOS feeds (`Qos=`), else the one that the partition feeds (`Partitions=`), or None."""
    queues = tuple(queues)
    by_qos = (queue.name for queue in queues if qos in queue.qos)
    return next(by_qos, None) or next((queue.name for queue in queues if partition in queue.fed_by), None)


def has_ended(session: Session, job: SlurmJob | None) -> bool:
    """Whether a session's Slurm job is over: forgotten, ended, started anew, or another user's by now.

    Args:
        session: One that names a Slurm job.
        job: What Slurm says of that number; None if it knows none.
    """
    if job is None or job.state in ENDED or job.user_id != session.user_id:
        return True
    return None not in (session.slurm_started_at, job.started_at) and session.slurm_started_at != job.started_at


def lease(job_ends_at: float | None, grace_seconds: float, latest: float) -> float:
    """When a session expires: grace after its Slurm job's end, and never after `latest`."""
    return latest if job_ends_at is None else min(latest, job_ends_at + grace_seconds)
