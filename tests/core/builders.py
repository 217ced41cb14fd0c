"""Values of core, with what a test does not care about filled in."""

from __future__ import annotations

from typing import Any

from qpud.core.ids import job_uid
from qpud.core.job import Job, JobState
from qpud.core.policy import DaemonPolicy, Policy, QueuePolicy
from qpud.core.resource import ResourcePolicy
from qpud.core.session import Session
from qpud.core.slices import Outcome, OutcomeState
from qpud.core.terms import DriverKind, PreemptMode

QUEUES = {
    "production": QueuePolicy(name="production", priority_tier=100, preempt_mode=PreemptMode.OFF),
    "test": QueuePolicy(name="test", priority_tier=50),
    "development": QueuePolicy(name="development", priority_tier=10),
}


def a_policy(*resources: str) -> Policy:
    return Policy(
        daemon=DaemonPolicy(),
        queues=dict(QUEUES),
        resources={name: ResourcePolicy(name=name, driver=DriverKind.SIMULATED) for name in resources or ("TWIN",)},
    )


def a_job(job_id: int = 1, queue: str = "development", **changes: Any) -> Job:
    return Job(
        **{
            "id": job_id,
            "uid": job_uid(job_id, 7),
            "session_id": "s1",
            "user_id": 1001,
            "queue": queue,
            "resource": "TWIN",
            "sequence_hash": "h",
            "register_hash": "r",
            "shots": 10,
            "submitted_at": float(job_id),
            **changes,
        }
    )


def running(job_id: int = 1, queue: str = "development", **changes: Any) -> Job:
    return a_job(job_id, queue, **{"state": JobState.RUNNING, "started_at": 2.0, **changes})


def a_session(**changes: Any) -> Session:
    return Session(
        **{
            "id": "s1",
            "user_id": 1001,
            "user": "alice",
            "queue": "development",
            "opened_at": 0.0,
            "last_used_at": 0.0,
            "expires_at": 1000.0,
            **changes,
        }
    )


def an_outcome(counts: Any = None, state: OutcomeState = OutcomeState.DONE, **changes: Any) -> Outcome:
    return Outcome(
        **{
            "state": state,
            "counts": {} if counts is None else counts,
            "started_at": 3.0,
            "ended_at": 4.0,
            "qpu_seconds": 1.0,
            **changes,
        }
    )
