"""The driver pasqal-qpu against the stub: never two jobs, never a shot twice, a sentence for everything."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from qpud.core.slices import OutcomeState
from qpud.drivers.base import Fault, HealthState, Refused, Undecided, Unreachable
from qpud.drivers.pasqal_qpu import PasqalQpuDriver
from tests.drivers.builders import a_slice, opened, qpu, run
from tests.drivers.stub_qpu import HTML, SPECS, StubQpu, stub_qpu


@asynccontextmanager
async def rig(shot_rate: float = 1000.0, **changes: Any) -> AsyncIterator[tuple[StubQpu, PasqalQpuDriver]]:
    async with (
        asyncio.timeout(20),
        stub_qpu(shot_rate=shot_rate) as stub,
        opened(qpu(stub.url, **changes)) as driver,
    ):
        yield stub, driver


# -- the normal course
async def test_a_slice_is_posted_with_the_built_sequence_its_shots_and_its_context():
    async with rig() as (stub, driver):
        await run(driver, "tag-9", shots=10, slurm_job_id="4711")
        body = stub.jobs[0].body
    assert body["nb_run"] == 10
    assert json.loads(body["pulser_sequence"])["name"] == "test"
    assert body["context"] == {"batch_id": "4711", "pasqman_job_id": "tag-9"}


async def test_without_a_slurm_job_the_context_carries_the_batch():
    async with rig() as (stub, driver):
        await run(driver)
    assert stub.jobs[0].body["context"]["batch_id"] == "batch-1"


async def test_a_uid_of_zero_is_a_job_like_any_other():
    async with rig() as (_stub, driver):
        device_id = await driver.start(a_slice())
        outcome = await driver.wait(device_id, a_slice())
    assert device_id == "0"
    assert sum(outcome.counts.values()) == 10


async def test_the_qpu_seconds_are_those_of_the_qpus_own_naive_stamps():
    async with rig(shot_rate=100.0) as (_stub, driver):
        outcome = await run(driver, shots=10)
    assert outcome.qpu_seconds == pytest.approx(0.1, abs=0.001)


@pytest.mark.parametrize("stamps", [True, False])
@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_a_clock_that_is_set_meanwhile_is_not_charged(jump, stamps):
    async with rig(shot_rate=100.0) as (stub, driver):
        stub.stamps = stamps
        request = a_slice(shots=50)
        device_id = await driver.start(request)
        before = driver._clock
        driver._clock = lambda: before() + jump
        outcome = await driver.wait(device_id, request)
    assert outcome.qpu_seconds == pytest.approx(0.5, abs=0.001 if stamps else 0.4)


async def test_once_the_rate_is_measured_a_slice_takes_one_or_two_polls():
    async with rig(shot_rate=200.0) as (stub, driver):
        await run(driver, "t0", shots=20)
        before = stub.polls()
        for number in range(1, 4):
            await run(driver, f"t{number}", shots=40)
        polls = stub.polls() - before
    assert driver.shot_rate == pytest.approx(200.0, rel=0.05)
    assert polls <= 6
    assert driver.polls == stub.polls()


async def test_the_rate_is_learnt_without_stamps_too():
    async with rig(shot_rate=200.0) as (stub, driver):
        stub.stamps = False
        for number in range(5):
            await run(driver, f"t{number}", shots=20)
    assert driver.shot_rate == pytest.approx(200.0, rel=0.5)


async def test_a_queued_job_is_waited_for():
    async with rig() as (stub, driver):
        request = a_slice()
        device_id = await driver.start(request)
        stub.jobs[0].status = "PENDING"
        waiting = asyncio.create_task(driver.wait(device_id, request))
        while stub.polls() < 3:
            await asyncio.sleep(0.005)
        assert not waiting.done()
        stub.jobs[0].status = ""
        assert (await waiting).state is OutcomeState.DONE


# -- one job at the QPU, ever
async def test_nothing_is_posted_while_a_job_of_ours_runs():
    async with rig(shot_rate=1.0) as (stub, driver):
        await driver.start(a_slice("t1"))
        with pytest.raises(Refused, match="still at job 0 of slice t1") as refusal:
            await driver.start(a_slice("t2"))
        assert refusal.value.transient
    assert (len(stub.jobs), stub.overrun) == (1, 0)


async def test_a_lost_reply_is_never_posted_again_and_found_by_context():
    async with rig() as (stub, driver):
        stub.fault("POST", "/jobs", when="after")
        request = a_slice()
        with pytest.raises(Unreachable):
            await driver.start(request)
        device_id = await driver.find(request)
        outcome = await driver.wait(device_id, request)
    assert sum(outcome.counts.values()) == 10
    assert (len(stub.jobs), stub.overrun) == (1, 0)


async def test_a_start_after_an_unresolved_lost_reply_does_not_overrun_the_job():
    async with rig(shot_rate=1.0) as (stub, driver):
        stub.fault("POST", "/jobs", when="after")
        with pytest.raises(Unreachable):
            await driver.start(a_slice("t1"))
        with pytest.raises(Refused, match="slice t1"):
            await driver.start(a_slice("t2"))
    assert stub.overrun == 0


async def test_a_start_cancelled_in_mid_post_leaves_a_doubt_that_is_resolved_first():
    async with rig(shot_rate=1.0, request_timeout=2.0) as (stub, driver):
        stub.fault("POST", "/jobs", delay=5.0, genuine=True)
        starting = asyncio.create_task(driver.start(a_slice("t1")))
        while not stub.jobs:
            await asyncio.sleep(0.005)
        starting.cancel()
        await asyncio.wait({starting})
        with pytest.raises(Refused, match="slice t1"):
            await driver.start(a_slice("t2"))
    assert stub.overrun == 0


async def test_a_post_that_was_reset_before_it_arrived_is_certainly_not_there():
    async with rig() as (stub, driver):
        stub.fault("POST", "/jobs")
        request = a_slice()
        with pytest.raises(Unreachable):
            await driver.start(request)
        assert await driver.find(request) is None
        assert (await run(driver)).state is OutcomeState.DONE


@pytest.mark.parametrize("reply", [(503, '{"detail": "maintenance"}'), (502, HTML), (302, ""), (200, HTML)])
async def test_a_useless_answer_to_a_post_that_had_no_effect_is_a_passing_refusal(reply):
    async with rig() as (stub, driver):
        stub.fault("POST", "/jobs", reply=reply)
        with pytest.raises(Refused) as refusal:
            await driver.start(a_slice())
        assert refusal.value.transient
        assert (await run(driver)).state is OutcomeState.DONE
    assert len(stub.jobs) == 1


@pytest.mark.parametrize("reply", [(503, "{}"), (200, HTML), (200, '{"data": {"uid": null}}')])
async def test_a_useless_answer_to_a_post_that_was_accepted_does_not_lose_the_job(reply):
    async with rig() as (stub, driver):
        stub.fault("POST", "/jobs", when="after", reply=reply)
        request = a_slice()
        try:
            device_id = await driver.start(request)
        except Unreachable:
            device_id = await driver.find(request)
        assert device_id == "0"
        assert sum((await driver.wait(device_id, request)).counts.values()) == 10
    assert (len(stub.jobs), stub.overrun) == (1, 0)


async def test_gets_are_repeated():
    async with rig() as (stub, driver):
        stub.fault("GET", "/jobs/0", times=2, reply=(503, "{}"))
        assert (await run(driver)).state is OutcomeState.DONE


async def test_a_qpu_that_stops_answering_leaves_the_slice_unknown_and_wait_can_be_called_again():
    async with rig() as (stub, driver):
        request = a_slice()
        device_id = await driver.start(request)
        stub.fault("GET", "/jobs/0", times=3)
        with pytest.raises(Unreachable):
            await driver.wait(device_id, request)
        assert (await driver.wait(device_id, request)).state is OutcomeState.DONE


# -- refusals
@pytest.mark.parametrize(
    ("status", "transient"), [(422, False), (400, False), (401, True), (403, True), (404, True), (409, True)]
)
async def test_a_refusal_tells_why_and_whether_it_will_pass(status, transient):
    async with rig() as (stub, driver):
        body = json.dumps({"code": status, "message": "Fail", "data": {"description": "no such channel"}})
        stub.fault("POST", "/jobs", reply=(status, body))
        with pytest.raises(Refused) as refusal:
            await driver.start(a_slice())
    assert refusal.value.transient is transient
    assert ("credentials" if status in (401, 403) else "no such channel") in refusal.value.message


async def test_an_error_wrapped_in_http_200_is_a_refusal():
    async with rig() as (stub, driver):
        stub.fault("POST", "/jobs", reply=(200, '{"code": 422, "message": "bad sequence", "data": null}'))
        with pytest.raises(Refused, match="bad sequence"):
            await driver.start(a_slice())


async def test_after_a_refusal_the_spec_is_fetched_again():
    async with rig() as (stub, driver):
        first = await driver.spec()
        stub.specs = {**SPECS, "max_runs": 100}
        assert (await driver.spec()).hash == first.hash
        stub.fault("POST", "/jobs", reply=(422, '{"detail": "too many runs"}'))
        with pytest.raises(Refused):
            await driver.start(a_slice())
        assert (await driver.spec()).max_runs == 100


# -- ends
@pytest.mark.parametrize("style", ["plain", "3003", "3003-in-200"])
async def test_cancelling_too_late_is_harmless(style):
    async with rig() as (stub, driver):
        stub.cancel_style = style
        request = a_slice()
        device_id = await driver.start(request)
        await asyncio.sleep(0.03)
        await driver.cancel(device_id)
        outcome = await driver.wait(device_id, request)
        await driver.cancel(device_id)
        await driver.cancel("99")
    assert (outcome.state, sum(outcome.counts.values())) == (OutcomeState.DONE, 10)


async def test_a_cancelled_slice_keeps_the_shots_obtained():
    async with rig(shot_rate=200.0) as (stub, driver):
        request = a_slice(shots=1000)
        waiting = asyncio.create_task(driver.wait(await driver.start(request), request))
        while stub.polls() < 2:
            await asyncio.sleep(0.005)
        await driver.cancel("0")
        outcome = await waiting
    assert outcome.state is OutcomeState.CANCELED
    assert 0 < sum(outcome.counts.values()) < 1000
    assert "of 1000 shots" in outcome.message


@pytest.mark.parametrize(
    ("program", "transient"),
    [("MISSING_CALIBRATION", True), ("ABORTED", True), ("ABORTING", True), ("INVALID", False), ("ERROR", False)],
)
async def test_an_error_is_explained_by_the_state_of_its_program(program, transient):
    async with rig() as (stub, driver):
        stub.program_status = program
        request = a_slice()
        device_id = await driver.start(request)
        stub.jobs[0].status, stub.jobs[0].ended_at = "ERROR", stub.jobs[0].posted_at
        outcome = await driver.wait(device_id, request)
    assert (outcome.state, outcome.transient) == (OutcomeState.FAILED, transient)
    assert ("ended job 0 with ERROR" if program == "ERROR" else program) in outcome.message


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "no result"),
        ("Traceback: boom", "not JSON"),
        ('{"counter": {"00": 500}}', "500 shots where 10 were asked for"),
        ('{"counter": {}}', "without shots"),
    ],
)
async def test_a_result_that_cannot_be_used_fails_the_slice_with_a_sentence(result, words):
    async with rig() as (stub, driver):
        stub.result_of = lambda counts: result
        outcome = await run(driver)
    assert (outcome.state, outcome.counts) == (OutcomeState.FAILED, {})
    assert words in outcome.message


async def test_the_python_repr_of_the_older_mock_is_understood():
    async with rig() as (stub, driver):
        stub.result_of = lambda counts: str({"counter": counts})
        assert sum((await run(driver)).counts.values()) == 10


async def test_lost_shots_are_simply_fewer():
    async with rig() as (stub, driver):
        stub.result_of = lambda counts: '{"01": 7}'
        outcome = await run(driver)
    assert (outcome.state, outcome.counts) == (OutcomeState.DONE, {"01": 7})


async def test_a_job_that_the_qpu_forgot_fails_the_slice_which_may_run_again():
    async with rig() as (stub, driver):
        request = a_slice()
        device_id = await driver.start(request)
        stub.jobs.clear()
        outcome = await driver.wait(device_id, request)
    assert (outcome.state, outcome.transient) == (OutcomeState.FAILED, True)


async def test_an_unknown_status_leaves_the_slice_unknown():
    async with rig() as (stub, driver):
        request = a_slice()
        device_id = await driver.start(request)
        stub.jobs[0].status = "LEVITATING"
        with pytest.raises(Undecided, match="LEVITATING of job 0: look there, and cancel the job here"):
            await driver.wait(device_id, request)


# -- spec, health, credentials
@pytest.mark.parametrize("form", [SPECS, json.dumps(SPECS), json.dumps(SPECS, indent=2)])
async def test_the_spec_may_be_an_object_or_text_and_has_one_hash(form):
    async with rig() as (stub, driver):
        reference = await driver.spec()
        stub.specs = form
        driver_2 = qpu(stub.url)
        again = await driver_2.spec()
        await driver_2.close()
    assert (again.hash, again.name, again.max_runs) == (reference.hash, "FRESNEL", 2000)


@pytest.mark.parametrize("most", [10**400, 2**31, "2000", None], ids=lambda most: str(most)[:9])
async def test_a_max_runs_beyond_what_a_job_may_have_limits_nothing(most):
    async with rig() as (stub, driver):
        stub.specs = {**SPECS, "max_runs": most}
        assert (await driver.spec()).max_runs is None


async def test_without_a_spec_the_qpu_is_unreachable_in_a_sentence():
    async with rig() as (stub, driver):
        stub.specs = "<html>"
        with pytest.raises(Unreachable, match="reports no device spec"):
            await driver.spec()


@pytest.mark.parametrize(
    ("fault", "state", "words"),
    [
        ({}, HealthState.UNREACHABLE, "no usable answer"),
        ({"delay": 3.0, "genuine": True}, HealthState.UNREACHABLE, "within 0.5 s"),
        ({"reply": (200, HTML)}, HealthState.UNREACHABLE, "an HTML page instead of JSON"),
        ({"reply": (200, "{" * 5000)}, HealthState.UNREACHABLE, "instead of JSON"),
        ({"reply": (503, "{}")}, HealthState.UNREACHABLE, "answered 503"),
        ({"reply": (401, "{}")}, HealthState.DOWN, "refuses our credentials"),
        ({"reply": (200, '{"data": {"operational_status": "MAINTENANCE"}}')}, HealthState.DOWN, "MAINTENANCE"),
        ({"reply": (200, '{"data": []}')}, HealthState.DOWN, "None"),
    ],
)
async def test_health_tells_in_a_sentence_what_is_wrong(fault, state, words):
    async with rig() as (stub, driver):
        stub.fault("GET", "/system/operational", **fault)
        health = await driver.health()
    assert health.state is state
    assert words in health.message


@pytest.mark.parametrize(("path", "field"), [("/system/operational", "operational_status"), ("/jobs/0", "status")])
async def test_half_a_character_in_an_answer_does_not_get_any_further(path, field):
    half = json.dumps({"code": 200, "data": {"uid": 0, field: "BAD \ud800"}, "status": "success"})
    async with rig() as (stub, driver):
        device_id = await driver.start(a_slice())
        stub.fault("GET", path, reply=(200, half), times=3)
        if field == "status":
            with pytest.raises(Unreachable) as doubt:
                await driver.wait(device_id, a_slice())
            message = doubt.value.message
        else:
            message = (await driver.health()).message
    assert "BAD ?" in message
    assert message.encode()


async def test_a_character_in_two_halves_is_one():
    whole = '{"detail": "sorry \\ud83d\\ude00"}'
    async with rig() as (stub, driver):
        stub.fault("POST", "/jobs", reply=(422, whole))
        with pytest.raises(Refused, match="sorry \U0001f600"):
            await driver.start(a_slice())


async def test_a_redirect_is_named_and_never_followed():
    async with stub_qpu() as elsewhere, rig() as (stub, driver):
        target = {"Location": elsewhere.url + "/api/v1/system/operational"}
        stub.fault("GET", "/system/operational", reply=(307, ""), headers=target)
        health = await driver.health()
    assert "redirected" in health.message
    assert not elsewhere.requests


async def test_userinfo_in_the_url_becomes_basic_and_stays_out_of_messages():
    async with stub_qpu() as stub:
        stub.authorization = "Basic " + base64.b64encode(b"me:secret").decode()
        driver = qpu(stub.url.replace("//", "//me:secret@"))
        assert (await driver.health()).state is HealthState.UP
        stub.fault("GET", "/system/operational")
        message = (await driver.health()).message
        await driver.close()
    assert "secret" not in message


async def test_after_a_401_the_token_file_is_read_again(tmp_path):
    token = tmp_path / "token"
    token.write_text("old\n")
    async with rig(token_file=token) as (stub, driver):
        stub.authorization = "Bearer old"
        assert (await driver.health()).state is HealthState.UP
        stub.authorization = "Bearer new"
        token.write_text("new\n")
        assert (await run(driver)).state is OutcomeState.DONE
        assert len(stub.jobs) == 1


async def test_a_missing_token_file_is_named(tmp_path):
    async with rig(token_file=tmp_path / "nowhere") as (_stub, driver):
        assert "nowhere" in (await driver.health()).message


@pytest.mark.parametrize("text", ["secret\nsecret2\n", "secr\u00e9t", "sec\x00ret", "", "two secrets"])
async def test_a_token_file_that_holds_no_token_is_named_without_what_it_holds(tmp_path, text):
    token = tmp_path / "token"
    token.write_text(text)
    async with rig(token_file=token) as (_stub, driver):
        message = (await driver.health()).message
    assert f"TokenFile {token} holds no token" in message
    assert "secr" not in message.replace(str(token), "")


def test_a_missing_url_is_named():
    with pytest.raises(Fault, match="Url is missing"):
        qpu(None)
