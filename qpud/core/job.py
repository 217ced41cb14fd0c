"""Jobs: one sequence × shots, submitted to one resource.

    state     who enters                              who leaves                         after a crash
    PENDING   a submission; nothing ran yet           first slice, cancel, bad verdict   queued again
    RUNNING   first slice intended                    last shot, cancel, error           goes on after its last slice
    DONE      all shots obtained                      nobody                             -
    CANCELED  user, closed session, expiry            nobody                             -
    ERROR     invalid, or the resource gave up on it  nobody                             -

A job between two slices is RUNNING for its user, also while another job has the resource; `reason` then says
why it waits. State and reason are two fields, as in squeue.
"""

from __future__ import annotations

import enum

import msgspec

from qpud.core.errors import Conflict


class JobState(enum.StrEnum):
    """What a job is: Pulser's and the wire's words."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    DONE = "DONE"
    CANCELED = "CANCELED"
    ERROR = "ERROR"


class Reason(enum.StrEnum):
    """Why a job waits, or why it ended; empty while it has the resource."""

    NONE = ""
    PRIORITY = "Priority"  # jobs of a higher tier, or older ones, go first
    RESOURCES = "Resources"  # next in line, the resource is busy
    WORKER = "Worker"  # has the resource, whose worker on the cluster waits for Slurm or starts
    VALIDATING = "Validating"  # the worker has not given its verdict yet
    HELD = "JobHeldUser"
    HELD_ADMIN = "JobHeldAdmin"
    DRAINED = "ResourceDrained"
    DOWN = "ResourceDown"
    RESERVED = "Reserved"  # a reservation of others is active, or begins before even one shot could end
    MAX_JOBS_PER_USER = "MaxJobsPerUser"  # so many jobs of the user in the queue have begun and not ended
    UNKNOWN = "ResourceUnreachable"  # the resource does not answer; what runs there is not lost
    PREEMPTED = "Preempted"  # a higher tier has the resource, the job goes on afterwards
    SHARE = "Share"  # its session has had its share for now
    CANCELING = "Canceling"  # asked to stop; the slice in flight has not ended yet
    USER = "CanceledByUser"
    ADMIN = "CanceledByAdmin"
    PREEMPTION = "CanceledByPreemption"  # by a higher tier, where PreemptMode=CANCEL
    SESSION_CLOSED = "SessionClosed"
    SESSION_EXPIRED = "SessionExpired"
    TIME_LIMIT = "TimeLimit"  # it was charged more QPU seconds than its queue allows
    INVALID = "InvalidSequence"
    FAULT = "ResourceFault"


TERMINAL = frozenset({JobState.DONE, JobState.CANCELED, JobState.ERROR})

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.RUNNING, JobState.CANCELED, JobState.ERROR}),
    JobState.RUNNING: frozenset({JobState.DONE, JobState.CANCELED, JobState.ERROR}),
    JobState.DONE: frozenset(),
    JobState.CANCELED: frozenset(),
    JobState.ERROR: frozenset(),
}


class Job(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One sequence × shots as the scheduler holds it; texts and counts stay in the store.

    Times are float seconds since the epoch, UTC. Kept small: a pending job costs the daemon under 2 KB.
    """

    id: int  # 1 … 2³¹−1: released QRMI clients parse an i32
    uid: str  # uuid, the id that other dialects want
    session_id: str
    user_id: int  # the owner's numeric uid
    queue: str
    resource: str
    sequence_hash: str  # sha256 hex of the sequence text
    register_hash: str  # the loaded register: equal ones need no SetupSeconds between them
    shots: int
    shots_done: int = 0
    qpu_seconds: float = 0.0  # charged so far, set-up included
    state: JobState = JobState.PENDING
    reason: Reason = Reason.NONE
    submitted_at: float
    started_at: float | None = None
    ended_at: float | None = None
    batch_id: str | None = None
    name: str | None = None
    validated_spec: str | None = None  # hash of the device spec of the last good verdict

    @property
    def shots_left(self) -> int:
        """Shots still to be obtained."""
        return self.shots - self.shots_done

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended for good."""
        return self.state in TERMINAL


def move(job: Job, state: JobState, reason: Reason, now: float) -> Job:
    """Take a job to another state.

    Args:
        job: The job as it is.
        state: The state to enter; must be allowed by TRANSITIONS.
        reason: Why.
        now: Seconds since the epoch; becomes started_at or ended_at.

    Raises:
        Conflict: The transition does not exist; terminal states have no exit.
    """
    if state not in TRANSITIONS[job.state]:
        raise Conflict(f"job {job.id} is {job.state} and cannot become {state}")
    started = now if state is JobState.RUNNING and job.started_at is None else job.started_at
    ended = now if state in TERMINAL else job.ended_at
    return msgspec.structs.replace(job, state=state, reason=reason, started_at=started, ended_at=ended)
