"""What happened at a daemon, as a trace."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from qpud.core.errors import BadRequest, NotFound, QpudError, Unavailable
from qpud.core.job import JobState
from qpud.core.session import CloseReason
from qpud.simulate.history import as_trace
from qpud.simulate.load import from_database
from qpud.simulate.trace import Batch, Classical, Shots
from qpud.store.schema import MIGRATIONS
from tests.core.builders import a_job, a_session
from tests.simulate.builders import a_policy, run

DAY = 86400.0


def ended(job_id: int, submitted_at: float, ended_at: float, **changes: object):  # type: ignore[no-untyped-def]
    fields = {"shots": 10, "shots_done": 10, "state": JobState.DONE, "ended_at": ended_at, **changes}
    return a_job(job_id, submitted_at=submitted_at, **fields)


def test_the_time_between_jobs_is_the_sessions_own() -> None:
    (session,) = as_trace([a_session(opened_at=100.0)], [ended(1, 102.0, 120.0), ended(2, 125.0, 140.0)])
    assert session.steps == (
        Classical(seconds=2.0),
        Batch(jobs=(Shots(shots=10, register="r"),)),
        Classical(seconds=5.0),
        Batch(jobs=(Shots(shots=10, register="r"),)),
    )


def test_jobs_that_waited_for_nobody_are_one_batch_with_their_delays() -> None:
    (session,) = as_trace([a_session()], [ended(1, 0.0, 20.0), ended(2, 4.0, 30.0), ended(3, 25.0, 40.0)])
    (batch,) = session.steps
    assert isinstance(batch, Batch)
    assert [job.after for job in batch.jobs] == [0, 4, 25]


def test_the_clock_of_the_trace_begins_at_midnight() -> None:
    opened = 3 * DAY + 500.0
    (session,) = as_trace([a_session(opened_at=opened)], [ended(1, opened, opened + 9)])
    assert session.at == 500.0


def test_a_closed_session_held_its_nodes_to_its_end_and_an_expired_one_did_not() -> None:
    jobs = [ended(1, 0.0, 10.0)]
    closed = a_session(closed_at=50.0, close_reason=CloseReason.MANUAL)
    expired = a_session(closed_at=50.0, close_reason=CloseReason.IDLE)
    assert as_trace([closed], jobs)[0].steps[-1] == Classical(seconds=40.0)
    assert isinstance(as_trace([expired], jobs)[0].steps[-1], Batch)


def test_a_canceled_job_counts_with_the_shots_that_ran() -> None:
    jobs = [ended(1, 0.0, 10.0, state=JobState.CANCELED, shots_done=4), ended(2, 0.0, 1.0, shots_done=0)]
    (batch,) = as_trace([a_session()], jobs)[0].steps
    assert isinstance(batch, Batch)
    assert [job.shots for job in batch.jobs] == [4]


def test_a_job_that_has_not_ended_counts_with_all_of_its_shots() -> None:
    (batch,) = as_trace([a_session()], [a_job(1, submitted_at=0.0, shots=10, shots_done=4)])[0].steps
    assert isinstance(batch, Batch)
    assert batch.jobs[0].shots == 10


def test_without_a_job_that_ran_there_is_nothing_to_simulate() -> None:
    with pytest.raises(BadRequest, match="holds no session with a job that ran"):
        as_trace([a_session()], [])


def test_the_same_policy_repeats_what_happened() -> None:
    """A trace of a run, recorded as a database would, runs again in the same times."""
    jobs = [ended(1, 0.0, 10.0, started_at=0.0), ended(2, 3.0, 20.0, started_at=10.0), ended(3, 27.0, 37.0)]
    trace = as_trace([a_session()], jobs)
    tally = run(a_policy("fifo"), trace)
    assert [job.ended_at for job in tally.jobs] == [10, 20, 37]


# -- the database
def a_database(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as database:
        for migration in MIGRATIONS:
            database.executescript(migration)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        for statement in statements:
            database.execute(statement)
        database.commit()
    return path


SESSION = (
    "INSERT INTO sessions (id, user_id, user, queue, share, hint, opened_at, last_used_at, expires_at, nodes)"
    " VALUES ('s1', 1001, 'alice', 'development', 3, 'cc-heavy', 10, 10, 99, 8)"
)
JOB = (
    "INSERT INTO jobs (id, uid, session_id, user_id, queue, resource, sequence_hash, register_hash, shots, shots_done,"
    " state, reason, submitted_at, started_at, ended_at, seed)"
    " VALUES (1, 'u', 's1', 1001, 'development', 'TWIN', 'h', 'r', 20, 20, 'DONE', '', 12, 13, 40, 7)"
)
CHARGE = (
    "INSERT INTO ledger (at, slice_id, job_id, session_id, user_id, queue, resource, shots, qpu_seconds,"
    " setup_seconds) VALUES (40, 1, 1, 's1', 1001, 'development', 'TWIN', 20, 13, 3)"
)


def test_a_database_gives_sessions_jobs_and_how_fast_the_resource_was(tmp_path: Path) -> None:
    load = from_database(a_database(tmp_path / "state.sqlite", SESSION, JOB, CHARGE))
    policy, _rule = load.under(a_policy(), "share", None, None)
    (session,) = load.sessions
    assert (session.user, session.share, session.nodes, session.at) == ("alice", 3, 8, 10)
    assert (policy.resources["TWIN"].shot_rate, policy.resources["TWIN"].setup_seconds) == (2.0, 3.0)


def test_reading_a_database_writes_nothing(tmp_path: Path) -> None:
    path = a_database(tmp_path / "state.sqlite", SESSION, JOB)
    before = path.read_bytes()
    from_database(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (None, NotFound, "there is no database"),
        (b"not a database, but long enough to be taken for one", Unavailable, "cannot be read"),
        (b"", Unavailable, "has schema 0"),
    ],
)
def test_what_is_no_database_of_qpud_gets_a_sentence(
    tmp_path: Path, content: bytes | None, error: type[QpudError], words: str
) -> None:
    path = tmp_path / "state.sqlite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=words):
        from_database(path)
