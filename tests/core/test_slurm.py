"""What a Slurm job's name, licences and state mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpud.core.slurm import (
    SlurmHold,
    SlurmJob,
    has_ended,
    job_number,
    lease,
    looks_like_a_job,
    not_releasable,
    queue_fed_by,
    units_of,
)
from tests.core.builders import a_session
from tests.daemon.builders import a_policy, with_queue


def a_slurm_job(**changes: object) -> SlurmJob:
    fields = {"id": 7, "user_id": 1001, "partition": "test", "state": "RUNNING", "nodes": 1, "started_at": 100.0}
    return SlurmJob(**{**fields, "ends_at": 400.0, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "number"), [("4242", 4242), ("4242.run-1a2b", 4242), ("4242.batch", 4242)])
def test_a_name_leads_to_its_slurm_job(name: str, number: int) -> None:
    assert job_number(name) == number


@pytest.mark.parametrize("name", [None, "", "0", "run-1a2b", "x4242"])
def test_other_names_are_no_slurm_jobs(name: str | None) -> None:
    assert job_number(name) is None
    assert not looks_like_a_job(name)


@pytest.mark.parametrize("name", ["4242_7", "4242+1", "4242 ", "4242.", "4242.a\n", "٤", "12345678901", "00"])
def test_a_name_that_only_resembles_a_slurm_job_is_not_taken_for_one(name: str) -> None:
    assert job_number(name) is None
    assert looks_like_a_job(name)


@given(st.text())
def test_whatever_the_name_squeue_is_given_a_number_or_nothing(name: str) -> None:
    number = job_number(name)
    assert number is None or str(number) in name


@pytest.mark.parametrize(
    ("licenses", "gres", "units"),
    [
        ("qpu:3", "N/A", 3),
        ("qpu", "N/A", 1),
        ("qpu*4", "N/A", 4),
        ("matlab:2,qpu:1,qpu:2", "N/A", 3),
        ("qpu@slurmdb:5", "N/A", 5),
        ("(null)", "gres:qpu:2", 2),
        ("(null)", "gres/qpu:2", 2),
        ("(null)", "gres:gpu:8", 1),
        ("qpu:4", "gres:qpu:2", 4),
        ("qpu:100", "N/A", 10),
        ("myqpu:9|qpu:5", "N/A", 1),
        ("(null)", "N/A", 1),
    ],
)
def test_licences_then_gres_are_the_share(licenses: str, gres: str, units: int) -> None:
    assert units_of(licenses, gres) == units


def test_a_partition_feeds_the_queue_that_names_it() -> None:
    policy = with_queue(a_policy(), "test", partitions=("gpu", "debug"))
    assert queue_fed_by(policy.queues.values(), "debug") == "test"
    assert queue_fed_by(policy.queues.values(), "production") == "production"
    assert queue_fed_by(policy.queues.values(), "test") is None


def test_a_qos_feeds_its_queue_whatever_the_partition() -> None:
    policy = with_queue(a_policy(), "production", qos=("urgent",))
    assert queue_fed_by(policy.queues.values(), "test", "urgent") == "production"
    assert queue_fed_by(policy.queues.values(), "nowhere", "urgent") == "production"
    assert queue_fed_by(policy.queues.values(), "test", "normal") == "test"
    assert queue_fed_by(policy.queues.values(), "nowhere", None) is None


def test_a_running_job_keeps_its_session() -> None:
    session = a_session(user_id=1001, slurm_started_at=100.0)
    assert not has_ended(session, a_slurm_job())
    assert not has_ended(session, a_slurm_job(state="SUSPENDED"))


def test_a_state_that_nobody_knows_closes_nothing() -> None:
    assert not has_ended(a_session(user_id=1001, slurm_started_at=100.0), a_slurm_job(state="ENTANGLED"))


@pytest.mark.parametrize("state", ["COMPLETED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "PENDING"])
def test_a_job_that_ended_or_was_requeued_loses_its_session(state: str) -> None:
    assert has_ended(a_session(user_id=1001, slurm_started_at=100.0), a_slurm_job(state=state))


def test_a_second_run_and_a_reused_number_are_not_the_sessions_job() -> None:
    session = a_session(user_id=1001, slurm_started_at=100.0)
    assert has_ended(session, a_slurm_job(started_at=900.0))
    assert has_ended(session, a_slurm_job(user_id=1002))
    assert has_ended(session, None)


def test_a_session_outlives_its_job_by_the_grace_and_never_its_own_limit() -> None:
    assert lease(400.0, 60.0, 1000.0) == 460.0
    assert lease(990.0, 60.0, 1000.0) == 1000.0
    assert lease(None, 60.0, 1000.0) == 1000.0


@pytest.mark.parametrize(
    ("state", "reason", "user_id", "why"),
    [
        ("PENDING", "JobHeldUser", 1001, ""),
        ("PENDING", "JobHeldAdmin", 1001, "held by an administrator, who alone releases it"),
        ("PENDING", "Priority", 1001, "is PENDING and not held by its user"),
        ("RUNNING", "None", 1001, "is RUNNING and not held by its user"),
        ("COMPLETED", "JobHeldUser", 1001, "is COMPLETED and not held by its user"),
        ("PENDING", "JobHeldUser", 1002, "is another user's"),
    ],
)
def test_only_a_job_that_its_user_holds_is_released_for_him(state: str, reason: str, user_id: int, why: str) -> None:
    said = not_releasable(7, 1001, "alice", SlurmHold(id=7, user_id=user_id, state=state, reason=reason))
    assert (why in said) and bool(said) == bool(why)


def test_an_unknown_job_and_another_users_look_alike() -> None:
    foreign = SlurmHold(id=7, user_id=1002, state="PENDING", reason="JobHeldUser")
    assert not_releasable(7, 1001, "alice", foreign) == not_releasable(7, 1001, "alice", None)
