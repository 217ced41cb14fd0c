"""queue, show, cancel, hold, release, logs, result, info, sessions, drain…: what people read, and exit codes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from qpud.api import job_wire, wire
from qpud.cli.reasons import WORDS
from qpud.core.job import JobState, Reason

AT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
DONE, RUNNING, ERROR = JobState.DONE, JobState.RUNNING, JobState.ERROR


def job(**changes: Any) -> job_wire.JobView:
    fields = {
        "id": 7,
        "uid": "0d3a8e4e-0000-4000-8000-000000000007",
        "state": JobState.PENDING,
        "reason": "",
        "name": None,
        "resource": "FRESNEL",
        "queue": "development",
        "user": "ada",
        "user_id": 1000,
        "session_id": "s-1",
        "batch_id": None,
        "shots": 100,
        "shots_done": 0,
        "sequence_hash": "ab" * 32,
        "submitted_at": AT,
        "started_at": None,
        "ended_at": None,
    }
    return job_wire.JobView(**(fields | changes))


def result(of: job_wire.JobView, counts: dict[str, int], message: str = "") -> job_wire.ResultView:
    return job_wire.ResultView(
        job=of,
        counts=counts,
        message=message,
        sequence_hash=of.sequence_hash,
        spec_hash="cd" * 32,
        seed=42,
        provenance={"driver": "emulator"},
        slices=[],
        tags=[],
        variables={},
        qpu_seconds=100.0,
        result=None,
    )


FORECAST = job_wire.ForecastView(
    start=datetime(2031, 12, 24, 12, tzinfo=UTC),
    start_latest=datetime(2031, 12, 25, 12, tzinfo=UTC),
    end=datetime(2031, 12, 26, 12, tzinfo=UTC),
    end_latest=datetime(2031, 12, 27, 12, tzinfo=UTC),
    reason="7 years of higher tiers",
)


def queue_line(**changes: Any) -> job_wire.QueueLine:
    fields = {
        "position": 1,
        "id": 7,
        "name": "scan",
        "user": "ada",
        "resource": "FRESNEL",
        "queue": "development",
        "tier": 10,
        "state": JobState.PENDING,
        "reason": "Priority",
        "explanation": "waits: behind 2 jobs of its tier or higher",
        "shots": 100,
        "shots_done": 40,
        "submitted_at": AT,
        "waited_seconds": 3723.4,
        "forecast": FORECAST,
    }
    return job_wire.QueueLine(**(fields | changes))


def resource(**changes: Any) -> wire.ResourceLine:
    fields = {
        "name": "FRESNEL",
        "driver": "simulated",
        "state": "up",
        "message": "",
        "device": "AnalogDevice",
        "spec_hash": None,
        "pending": 3,
        "running_job": 7,
        "drained_reason": None,
    }
    return wire.ResourceLine(**(fields | changes))


def plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def test_every_reason_of_the_core_is_explained() -> None:
    assert set(WORDS) == {reason.value for reason in Reason if reason}


def test_queue_is_a_table_like_squeue(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/queue", plain(job_wire.QueueView(queue=[queue_line()])))
    header, row = qpud("queue", "--qpu", "FRESNEL").stdout.splitlines()
    assert header.split() == [
        "JOBID",
        "NAME",
        "QUEUE",
        "USER",
        "STATE",
        "SHOTS",
        "WAITED",
        "START",
        "RESOURCE",
        "REASON",
    ]
    assert row.split() == [
        "7",
        "scan",
        "development",
        "ada",
        "PENDING",
        "40/100",
        "1:02:03",
        "~2031-12-24",
        "FRESNEL",
        "Priority",
    ]
    assert daemon.asked[0].query == "resource=FRESNEL"


def test_json_is_what_the_api_said(qpud: Any, daemon: Any) -> None:
    said = plain(job_wire.QueueView(queue=[queue_line(name="Δ-scan")]))
    daemon.on("GET", "/v1/queue", said)
    assert json.loads(qpud("queue", "--json").stdout) == said


def test_a_reader_that_stops_reading_is_no_error(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/queue", plain(job_wire.QueueView(queue=[queue_line(id=n) for n in range(5000)])))
    command = qpud.start("queue")
    command.stdout.close()
    assert command.stderr.read() == ""
    command.stderr.close()
    assert command.wait(20) == 0


def test_show_explains_the_reason_in_the_words_of_the_queue(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/jobs/7", plain(job(reason="Priority")))
    daemon.on("GET", "/v1/queue", plain(job_wire.QueueView(queue=[queue_line()])))
    assert "waits: behind 2 jobs of its tier or higher" in qpud("show", "7").stdout


def test_show_of_an_ended_job_explains_its_reason_too(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/jobs/7", plain(job(state=JobState.CANCELED, reason="SessionClosed", ended_at=AT)))
    text = qpud("show", "7").stdout
    assert "its session was closed" in text
    assert "2026-11-22 08:00:00" in text


def test_show_of_a_failed_job_says_what_was_wrong(qpud: Any, daemon: Any) -> None:
    failed = plain(job(state=ERROR, reason="ResourceFault"))
    daemon.on("GET", "/v1/jobs/7", failed)
    daemon.on("GET", "/v1/jobs/7/result", {"job": failed, "message": "25 atoms exceed MaxAtoms 20"})
    assert "25 atoms exceed MaxAtoms 20" in qpud("show", "7").stdout


def test_cancel_tells_the_truth_for_each_job_and_goes_on_after_a_failure(qpud: Any, daemon: Any) -> None:
    canceled = job_wire.CancelView(
        **msgspec.structs.asdict(job(id=9, state=JobState.CANCELED)),
        before=RUNNING,
        asked_before=False,
        message="job 9 is canceled: 40 of 100 shots had run, 60 never will",
    )
    daemon.on("POST", "/v1/jobs/8/cancel", {"detail": "there is no job 8", "code": "not_found"}, status=404)
    daemon.on("POST", "/v1/jobs/9/cancel", plain(canceled))
    ended = qpud("cancel", "8", "9")
    assert ended.returncode == 5
    assert ended.stderr == "qpud: there is no job 8\n"
    assert ended.stdout == "job 9 is canceled: 40 of 100 shots had run, 60 never will\n"


@pytest.mark.parametrize(("before", "code"), [("DONE", 1), ("ERROR", 1), ("CANCELED", 0), ("RUNNING", 0)])
def test_cancel_fails_if_the_job_had_ended_otherwise(qpud: Any, daemon: Any, before: str, code: int) -> None:
    state = JobState(before)
    view = job_wire.CancelView(
        **msgspec.structs.asdict(job(state=state)), before=state, asked_before=False, message="m"
    )
    daemon.on("POST", "/v1/jobs/7/cancel", plain(view))
    assert qpud("cancel", "7").returncode == code


@pytest.mark.parametrize("verb", ["hold", "release"])
def test_hold_and_release_ask_for_just_that(qpud: Any, daemon: Any, verb: str) -> None:
    daemon.on("POST", f"/v1/jobs/7/{verb}", plain(job(reason="JobHeldUser" if verb == "hold" else "")))
    assert qpud(verb, "7").returncode == 0


def test_a_job_reference_cannot_leave_its_place_in_the_path(qpud: Any, daemon: Any) -> None:
    qpud("cancel", "../sessions/x?")
    assert daemon.asked[0].path == "/v1/jobs/..%2Fsessions%2Fx%3F/cancel"


def test_logs_are_sentences_with_local_times(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/jobs/7/logs", plain(job_wire.Story(lines=[job_wire.Line(at=AT, text="submitted")])))
    assert qpud("logs", "7").stdout == "2026-11-22 08:00:00  submitted\n"


def test_following_logs_prints_each_line_once_until_the_job_has_ended(qpud: Any, daemon: Any) -> None:
    lines = [job_wire.Line(at=AT, text=f"line {n}") for n in range(3)]
    stories = [plain(job_wire.Story(lines=lines[:n])) for n in (1, 2, 3)]
    daemon.on("GET", "/v1/jobs/7/logs", *stories)
    daemon.on("GET", "/v1/jobs/7", plain(job(state=RUNNING)), plain(job(state=DONE)))
    assert [line.split()[-1] for line in qpud("logs", "-f", "7").stdout.splitlines()] == ["0", "1", "2"]


def test_result_draws_the_counts_and_where_they_come_from(qpud: Any, daemon: Any) -> None:
    done = job(state=DONE, shots_done=100)
    daemon.on("GET", "/v1/jobs/7", plain(done))
    daemon.on("GET", "/v1/jobs/7/result", plain(result(done, {"01": 75, "10": 25})))
    ended = qpud("result", "7")
    assert ended.returncode == 0
    assert "01  75   75.0%  █" in ended.stdout
    assert "driver       emulator" in ended.stdout


def test_result_tells_equal_slices_together(qpud: Any, daemon: Any) -> None:
    done = job(state=DONE, shots_done=107)
    shots = [20, 20, 20, 20, 7, 20]
    answer = plain(result(done, {"01": 107})) | {"slices": [{"shots_done": number} for number in shots]}
    daemon.on("GET", "/v1/jobs/7", plain(done))
    daemon.on("GET", "/v1/jobs/7/result", answer)
    assert "slices       6: 4 × 20, 7, 20 shots" in qpud("result", "7").stdout


def test_result_of_a_failed_job_says_why_and_fails(qpud: Any, daemon: Any) -> None:
    failed = job(state=ERROR, reason="InvalidSequence")
    daemon.on("GET", "/v1/jobs/7", plain(failed))
    daemon.on("GET", "/v1/jobs/7/result", plain(result(failed, {}, "atoms q0 and q1 are 3 µm apart, 5 is the least")))
    ended = qpud("result", "7", "--wait")
    assert ended.returncode == 1
    assert "atoms q0 and q1 are 3 µm apart" in ended.stdout


def test_result_of_an_unfinished_job_shows_the_counts_so_far_and_says_so(qpud: Any, daemon: Any) -> None:
    running = job(state=RUNNING, shots_done=40)
    daemon.on("GET", "/v1/jobs/7", plain(running))
    daemon.on("GET", "/v1/jobs/7/result", plain(result(running, {"01": 40})))
    ended = qpud("result", "7")
    assert ended.returncode == 6
    assert "40 of 100 shots" in ended.stdout
    assert "wait for it with --wait" in ended.stderr


def test_waiting_for_a_result_ends_with_the_job(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/jobs/7", *[plain(job(state=RUNNING))] * 3, plain(job(state=DONE, shots_done=100)))
    daemon.on("GET", "/v1/jobs/7/result", plain(result(job(state=DONE, shots_done=100), {"1": 100})))
    ended = qpud("result", "7", "--wait")
    assert ended.returncode == 0
    assert "job 7 RUNNING 0/100 shots" in ended.stderr


def test_waiting_survives_a_lost_connection(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/jobs/7", plain(job(state=RUNNING)), plain(job(state=RUNNING)), None, plain(job(state=DONE)))
    daemon.on("GET", "/v1/jobs/7/result", plain(result(job(state=DONE), {"1": 100})))
    assert qpud("result", "7", "--wait").returncode == 0


def test_waiting_stops_at_the_timeout(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/jobs/7", plain(job(state=RUNNING)))
    daemon.on("GET", "/v1/jobs/7/result", plain(result(job(state=RUNNING), {})))
    assert qpud("result", "7", "--timeout", "0.1").returncode == 6


def info(**changes: Any) -> Any:
    queue = wire.QueuePolicyLine(
        name="production",
        priority_tier=100,
        preempt_mode="OFF",
        slice_seconds=90.0,
        max_shots=1000,
        max_submit_jobs=None,
        max_jobs_per_user=None,
        max_qpu_seconds_per_day=3600.0,
        time_limit=5400.0,
        allow_accounts=["chem", "ops"],
        deny_accounts=[],
        allow_groups=[],
        deny_groups=[],
        partitions=[],
    )
    fields = {
        "version": "1",
        "api_versions": ["v1"],
        "urls": [],
        "default_queue": "production",
        "default_resource": "FRESNEL",
        "max_body_size": 1,
        "queues": [queue],
        "resources": [resource(state="drained", drained_reason="laser")],
    }
    return plain(wire.Info(**(fields | changes)))


LIMITS = ["MaxQPUSecondsPerDay=3600", "TimeLimit=1:30:00", "AllowAccounts=chem,ops"]


def test_info_shows_resources_and_queues_like_sinfo(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/info", info())
    lines = qpud("info").stdout.splitlines()
    assert lines[1].split() == ["FRESNEL", "drained", "simulated", "AnalogDevice", "3", "7", "laser"]
    assert lines[4].split() == ["production", "100", "OFF", "1:30", "MaxShots=1000", *LIMITS]


def test_info_tells_what_is_degraded_and_what_slurm_refuses(qpud: Any, daemon: Any) -> None:
    refusal = "Slurm refused to reserve qpud_FRESNEL: Invalid user id"
    degraded = resource(degraded_units=4, degraded_reason="two lasers of five")
    daemon.on("GET", "/v1/info", info(resources=[degraded], slurm=refusal))
    shown = qpud("info").stdout
    assert "degraded by 4 units: two lasers of five" in shown
    assert shown.endswith(f"\nSlurm: {refusal}\n")


def test_info_shows_the_workers_of_a_resource_on_the_cluster(qpud: Any, daemon: Any) -> None:
    workers = [
        wire.WorkerLine(slurm_job_id="4711", state="busy", reason="", node="gpu1", job_id=7),
        wire.WorkerLine(slurm_job_id="4712", state="PENDING", reason="Resources", node="", job_id=None),
    ]
    daemon.on("GET", "/v1/info", info(resources=[resource(workers=workers)]))
    lines = qpud("info").stdout.splitlines()
    assert lines[3].split() == ["WORKERS", "OF", "SLURMJOB", "NODE", "STATE", "JOB", "REASON"]
    assert lines[4].split() == ["FRESNEL", "4711", "gpu1", "busy", "7", "-"]
    assert lines[5].split() == ["FRESNEL", "4712", "-", "PENDING", "-", "Resources"]


def session(**changes: Any) -> Any:
    fields = {name: None for name in wire.SessionView.__struct_fields__}
    given = {"id": "s-1", "user": "ada", "user_id": 1000, "queue": "test", "share": 3, "hint": "", "active": True}
    return plain(wire.SessionView(**(fields | given | {"opened_at": AT} | changes)))


def test_sessions_lists_the_open_ones(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/sessions", [session(slurm_job_id="4242", qos="normal")])
    row = qpud("sessions").stdout.splitlines()[1].split()
    assert row == ["s-1", "ada", "test", "3", "-", "4242", "normal", "2026-11-22", "08:00:00", "open"]
    assert daemon.asked[0].query == "active=true"


def test_sessions_all_asks_for_closed_ones_too(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/sessions", [session(active=False, close_reason="idle_timeout")])
    assert qpud("sessions", "--all").stdout.splitlines()[1].endswith("idle_timeout")
    assert daemon.asked[0].query == ""


def test_a_session_can_be_closed(qpud: Any, daemon: Any) -> None:
    daemon.on("DELETE", "/v1/sessions/s-1", session(active=False))
    assert qpud("sessions", "--close", "s-1").stdout == "session s-1 is closed\n"


def test_drain_sends_its_reason(qpud: Any, daemon: Any) -> None:
    daemon.on("POST", "/v1/resources/FRESNEL/drain", plain(resource(state="drained")))
    assert qpud("drain", "FRESNEL", "--reason", "laser").returncode == 0
    assert daemon.asked[0].body == {"reason": "laser"}


def test_degrade_sends_its_units(qpud: Any, daemon: Any) -> None:
    daemon.on("POST", "/v1/resources/FRESNEL/degrade", plain(resource(degraded_units=4)))
    answer = qpud("degrade", "FRESNEL", "--units", "4", "--reason", "two lasers of five")
    assert answer.stdout == "FRESNEL is degraded by 4 units: two lasers of five\n"
    assert daemon.asked[0].body == {"units": 4, "reason": "two lasers of five"}


def test_drain_without_a_reason_is_refused(qpud: Any) -> None:
    assert qpud("drain", "FRESNEL").returncode == 2


def test_resume_says_how_the_resource_is(qpud: Any, daemon: Any) -> None:
    daemon.on("POST", "/v1/resources/FRESNEL/resume", plain(resource(state="down")))
    assert qpud("resume", "FRESNEL").stdout == "FRESNEL is down\n"


def test_administration_over_tcp_is_told_to_use_the_socket(qpud: Any, daemon: Any) -> None:
    refused = {"detail": "user ada may not drain FRESNEL", "code": "forbidden"}
    daemon.on("POST", "/v1/resources/FRESNEL/drain", refused, status=403)
    ended = qpud("drain", "FRESNEL", "--reason", "x", "--url", daemon.url)
    assert ended.returncode == 4
    assert "use --socket" in ended.stderr


def test_reconfigure_shows_the_warnings(qpud: Any, daemon: Any) -> None:
    daemon.on("POST", "/v1/reconfigure", plain(wire.Reconfigured(warnings=["[qpud] Listen needs a restart"])))
    ended = qpud("reconfigure")
    assert (ended.returncode, ended.stdout) == (0, "the policy file is in force\n")
    assert "[qpud] Listen needs a restart" in ended.stderr


def test_reconfigure_refused_fails_with_the_reason(qpud: Any, daemon: Any) -> None:
    daemon.on("POST", "/v1/reconfigure", {"detail": "qpud.conf:3: …", "code": "invalid"}, status=422)
    assert qpud("reconfigure").returncode == 1


def test_the_long_queue_explains_each_reason(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/queue", plain(job_wire.QueueView(queue=[queue_line()])))
    assert qpud("queue", "-l").stdout.splitlines()[1].endswith("Priority  waits: behind 2 jobs of its tier or higher")


def test_the_long_queue_tells_the_latest_start_and_the_end(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/queue", plain(job_wire.QueueView(queue=[queue_line()])))
    header, row = qpud("queue", "-l").stdout.splitlines()
    assert header.split()[7:10] == ["START", "LATEST", "END"]
    assert row.split()[7:10] == ["~2031-12-24", "~2031-12-25", "~2031-12-26"]


def test_a_job_whose_start_nobody_knows_has_a_dash(qpud: Any, daemon: Any) -> None:
    held = job_wire.ForecastView(start=None, start_latest=None, end=None, end_latest=None, reason="it is held")
    daemon.on("GET", "/v1/queue", plain(job_wire.QueueView(queue=[queue_line(forecast=held)])))
    assert qpud("queue").stdout.splitlines()[1].split()[7] == "-"


def test_show_tells_the_forecast_and_what_it_is_made_of(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/jobs/7", plain(job(reason="Priority", forecast=FORECAST)))
    daemon.on("GET", "/v1/queue", plain(job_wire.QueueView(queue=[queue_line()])))
    text = qpud("show", "7").stdout
    assert "about 2031-12-24 12:00:00, by 2031-12-25 12:00:00 in nine of ten cases" in text
    assert "7 years of higher tiers" in text


def test_followed_logs_lose_no_line_that_came_before_the_one_about_now(qpud: Any, daemon: Any) -> None:
    def story(*texts: str) -> Any:
        return plain(job_wire.Story(lines=[job_wire.Line(at=AT, text=text) for text in texts]))

    stories = [
        story("submitted", "waits"),
        story("submitted", "started", "runs"),
        story("submitted", "started", "DONE"),
    ]
    daemon.on("GET", "/v1/jobs/7/logs", *stories)
    daemon.on("GET", "/v1/jobs/7", plain(job(state=RUNNING)), plain(job(state=DONE)))
    told = [line.split()[-1] for line in qpud("logs", "-f", "7").stdout.splitlines()]
    assert told == ["submitted", "waits", "started", "runs", "DONE"]
