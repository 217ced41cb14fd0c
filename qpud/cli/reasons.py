"""Reasons in words, for answers that carry only the reason's name. One line per member of core.job.Reason."""

from __future__ import annotations

WORDS: dict[str, str] = {
    "Priority": "jobs of a higher tier, or older ones, go first",
    "Resources": "next in line, the resource is busy",
    "Worker": "it has its turn, and waits for Slurm to start a worker",
    "Validating": "its sequence is being checked",
    "JobHeldUser": "held by its user; `qpud release` lets it go on",
    "JobHeldAdmin": "held by an administrator",
    "ResourceDrained": "an administrator has drained the resource",
    "ResourceDown": "the resource is down",
    "Reserved": "the resource is, or will soon be, reserved for others",
    "MaxJobsPerUser": "as many jobs of the user have begun as the queue allows",
    "ResourceUnreachable": "the resource does not answer; what runs there is not lost",
    "Preempted": "a higher tier has the resource; the job goes on afterwards",
    "Share": "its session has had its share for now; others of its tier are served first",
    "Canceling": "asked to stop; the slice in flight has not ended yet",
    "CanceledByUser": "canceled by its user",
    "CanceledByAdmin": "canceled by an administrator",
    "CanceledByPreemption": "a higher tier took the resource, and its queue has PreemptMode=CANCEL",
    "SessionClosed": "its session was closed",
    "SessionExpired": "its session expired",
    "TimeLimit": "it was charged more QPU seconds than TimeLimit of its queue",
    "InvalidSequence": "the resource cannot run this sequence",
    "ResourceFault": "the resource gave up on it",
}


def explain(reason: str | None) -> str:
    """A reason in words; an unknown one (a newer daemon's) as it is."""
    return WORDS.get(reason or "", reason or "")
