"""The driver qrmi over a stand-in of the package: payloads as they are, nothing started twice, sessions given back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from qpud.core.errors import BadRequest, Invalid
from qpud.core.payload import read_payload
from qpud.core.slices import Outcome, OutcomeState
from qpud.core.terms import QrmiType
from qpud.drivers.base import Fault, HealthState, Program, Refused, SliceRequest, Undecided, Unreachable
from qpud.drivers.qrmi import QrmiDriver
from qpud.drivers.qrmi_process import Told
from qpud.drivers.qrmi_words import refusal_of, spec_of
from tests.drivers.builders import a_slice, opened
from tests.drivers.qrmi_rig import Fake, fake_qrmi

IBM = QrmiType.IBM_QUANTUM_COMPUTE_SERVICE
SAMPLER = {"program_id": "sampler", "parameters": {"pubs": [["OPENQASM 3.0; qubit q;", None, 10]], "version": 2}}
RAW = '{"results": [{"data": {"c": [1, 0]}}]}'


@asynccontextmanager
async def rig(kind: QrmiType = IBM, **changes: Any) -> AsyncIterator[tuple[Fake, QrmiDriver]]:
    async with asyncio.timeout(60), fake_qrmi() as fake, opened(fake.driver(kind, **changes)) as driver:
        yield fake, driver


def payload(tag: str = "tag-1", document: Any = SAMPLER) -> SliceRequest:
    text = json.dumps(document)
    return a_slice(tag, program=Program(sequence=text, sequence_hash="h", register_hash="h"))


async def run(driver: QrmiDriver, request: SliceRequest) -> Outcome:
    return await driver.wait(await driver.start(request), request)


# -- payloads
async def test_an_ibm_payload_arrives_as_it_is_and_its_result_comes_back_as_it_is():
    async with rig() as (fake, driver):
        outcome = await run(driver, payload())
    (task,) = fake.tasks
    assert json.loads(task["payload"]["input"]) == SAMPLER["parameters"]
    assert (task["payload"]["program_id"], task["type"]) == ("sampler", "IBMQuantumComputeService")
    assert (outcome.state, outcome.result, outcome.counts, outcome.shots) == (OutcomeState.DONE, RAW, {}, 10)
    assert outcome.provenance["qrmi_type"] == "ibm-quantum-compute-service"
    assert outcome.qpu_seconds > 0


@pytest.mark.parametrize(
    ("kind", "document", "arrived"),
    [
        (
            QrmiType.IQM_SERVER,
            {"iqmjson": {"circuits": []}, "job_type": "circuit", "use_timeslot": False, "tag": "t"},
            {"iqmjson": '{"circuits": []}', "job_type": "circuit", "use_timeslot": False, "tag": "t"},
        ),
        (
            QrmiType.ALICE_BOB_FELIS,
            {"human_qir": "; qir", "input_params": {"nbShots": 10}},
            {"human_qir": "; qir", "input_params": '{"nbShots": 10}'},
        ),
        (QrmiType.OQTOPUS, {"job_spec": {"shots": 10}}, {"job_spec": '{"shots": 10}'}),
    ],
)
async def test_payloads_of_other_vendors_arrive_in_their_classes(kind, document, arrived):
    async with rig(kind) as (fake, driver):
        outcome = await run(driver, payload(document=document))
    assert fake.tasks[0]["payload"] == arrived
    assert outcome.result == RAW


async def test_a_pulser_slice_becomes_counts():
    async with rig(QrmiType.PASQAL_CLOUD) as (fake, driver):
        outcome = await run(driver, a_slice(shots=12))
    assert fake.tasks[0]["payload"]["job_runs"] == 12
    assert (outcome.counts, outcome.result) == ({"0000": 12}, None)


def test_a_payload_is_checked_for_its_shape():
    assert read_payload(json.dumps(SAMPLER), IBM) == {"input": SAMPLER["parameters"], "program_id": "sampler"}
    with pytest.raises(Invalid, match="the payload lacks input or parameters"):
        read_payload('{"program_id": "sampler"}', IBM)
    with pytest.raises(Invalid, match="must be a JSON object"):
        read_payload("[1]", IBM)
    with pytest.raises(BadRequest, match="the payload is not JSON"):
        read_payload("OPENQASM 3.0;", IBM)
    with pytest.raises(BadRequest, match="nested deeper"):
        read_payload('{"input": ' + "[" * 100 + "]" * 100 + "}", IBM)


# -- sessions
async def test_each_slice_has_a_session_of_its_own_which_is_given_back():
    async with rig() as (fake, driver):
        await run(driver, payload("t1"))
        await run(driver, payload("t2"))
    sessions = [call for call in fake.calls if call.startswith(("acquire", "release"))]
    assert sessions == ["acquire", "release token-7"] * 2
    assert [task["session"] for task in fake.tasks] == ["token-7"] * 2


async def test_a_session_from_the_environment_file_is_neither_acquired_nor_released():
    async with rig() as (fake, driver):
        text = fake.environment.read_text()
        fake.environment.write_text(text + "Q_QRMI_JOB_ACQUISITION_TOKEN=given\n")
        await run(driver, payload())
    assert not [call for call in fake.calls if call.startswith(("acquire", "release"))]
    assert fake.tasks[0]["session"] == "given"


async def test_a_session_that_cannot_be_had_refuses_the_slice_for_now():
    async with rig() as (fake, driver):
        fake.say(fail="acquire QrmiError Status: 403 Forbidden, Fail no")
        with pytest.raises(Refused, match="gives no session: Status: 403") as refused:
            await driver.start(payload())
    assert refused.value.transient
    assert not fake.tasks


# -- nothing twice
async def test_a_lost_reply_is_told_to_the_operator_and_never_started_again():
    async with rig(request_timeout=3.0) as (fake, driver):
        fake.say(hang="started")
        with pytest.raises(Unreachable, match="did not answer within 3 s"):
            await driver.start(payload())
        for attempt in (driver.find, driver.start):
            with pytest.raises(Undecided, match="look there for a task of that time, and cancel the job here"):
                await attempt(payload())
    assert len(fake.tasks) == 1


async def test_after_a_restart_a_task_is_found_by_its_stored_id():
    async with rig() as (fake, driver):
        device_id = await driver.start(payload())
        later = fake.driver(IBM)
        await later.open()
        known = a_slice("tag-1", program=payload().program, device_id=device_id)
        assert await later.find(known) == device_id
        assert (await later.wait(device_id, known)).result == RAW
        await later.close()


async def test_a_refused_slice_is_certainly_not_there():
    async with rig() as (fake, driver):
        fake.say(fail="start UnsupportedPayloadError no such program")
        with pytest.raises(Refused, match="no such program") as refused:
            await driver.start(payload())
        assert await driver.find(payload()) is None
    assert not refused.value.transient
    assert "release token-7" in fake.calls


@pytest.mark.parametrize(
    ("told", "transient"),
    [
        (Told("Status: 422 Unprocessable Entity, Fail bad", "QrmiError"), False),
        (Told("Status: 503 Service Unavailable, Fail later", "QrmiError"), True),
        (Told("Status: 429 Too Many Requests, Fail later", "QrmiError"), True),
        (Told("no", "AuthenticationFailedError"), True),
        (Told("out of range", "OverflowError"), False),
        (Told("Status: 502 Bad Gateway, Fail", "QrmiError"), None),
        (Told("error sending request for url", "QrmiError"), None),
    ],
)
def test_an_error_of_task_start_is_a_refusal_or_a_doubt(told, transient):
    refused = refusal_of("Q", told)
    assert (refused and refused.transient) == transient


# -- how tasks end
async def test_a_failed_task_carries_its_log():
    async with rig() as (fake, driver):
        fake.say(ends="Failed")
        outcome = await run(driver, payload())
    assert (outcome.state, outcome.result) == (OutcomeState.FAILED, None)
    assert "the fridge is warm" in outcome.message


async def test_a_canceled_payload_gives_nothing():
    async with rig() as (fake, driver):
        fake.say(rate="0.1")
        request = payload()
        device_id = await driver.start(request)
        await driver.cancel(device_id)
        outcome = await driver.wait(device_id, request)
    assert (outcome.state, outcome.result, outcome.shots) == (OutcomeState.CANCELED, None, 0)


async def test_a_task_that_the_resource_forgot_fails_the_slice_which_may_run_again():
    async with rig() as (fake, driver):
        request = payload()
        device_id = await driver.start(request)
        (fake.folder / f"{device_id}.json").unlink()
        outcome = await driver.wait(device_id, request)
    assert (outcome.state, outcome.transient) == (OutcomeState.FAILED, True)


async def test_a_helper_that_hangs_is_ended_and_the_slice_goes_on():
    async with rig(request_timeout=3.0) as (fake, driver):
        request = payload()
        device_id = await driver.start(request)
        fake.say(hang="status")
        with pytest.raises(Unreachable, match="qrmi's status did not answer"):
            await driver.wait(device_id, request)
        assert (await driver.wait(device_id, request)).result == RAW


# -- spec and health
async def test_the_target_of_an_opaque_resource_is_its_spec():
    async with rig() as (fake, driver):
        fake.say(target='{"num_qubits": 5}')
        spec = await driver.spec()
    assert json.loads(spec.text) == {"name": "Q", "target": {"num_qubits": 5}}


async def test_health_is_what_qrmi_says():
    async with rig() as (fake, driver):
        assert (await driver.health()).state is HealthState.UP
        fake.say(status="Paused", reason="maintenance")
        health = await driver.health()
    assert (health.state, health.message) == (HealthState.DOWN, "resource Q is paused: maintenance")


async def test_an_interpreter_without_qrmi_is_named():
    async with rig(qrmi_python=None) as (_fake, driver):
        health = await driver.health()
    assert health.state is HealthState.UNREACHABLE
    assert f"the interpreter {sys.executable} (QrmiPython) cannot import qrmi" in health.message


async def test_an_interpreter_that_is_none_is_named(tmp_path):
    async with rig(qrmi_python=tmp_path / "nothing") as (_fake, driver):
        assert "cannot be run: No such file" in (await driver.health()).message


async def test_an_environment_file_that_others_may_read_is_refused():
    async with rig() as (fake, driver):
        fake.environment.chmod(0o644)
        message = (await driver.health()).message
    assert "other users may read it: chmod 600" in message


async def test_an_environment_file_that_cannot_be_read_is_named_without_what_it_holds():
    async with rig() as (fake, driver):
        fake.environment.write_text("secret\n")
        message = (await driver.health()).message
    assert "it needs lines NAME=value" in message
    assert "secret" not in message


def test_a_missing_type_is_named(tmp_path):
    with pytest.raises(Fault, match="QrmiType is missing"):
        Fake(tmp_path).driver(None)


@pytest.mark.parametrize("field", ["name", "comment"])
def test_a_spec_with_half_a_character_is_none(field):
    target = json.dumps({"device_type": "FRESNEL", "specs": {"name": "FRESNEL", field: "half \ud800"}})
    with pytest.raises(Unreachable, match="half a character"):
        spec_of("FRESNEL", target, is_pulser=True)


async def test_who_gives_up_while_the_helper_starts_does_not_shift_the_answers_of_others():
    async with rig() as (_fake, driver):
        asking = asyncio.create_task(driver.spec())
        while driver._process._launched is None:
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert (await driver.health()).state is HealthState.UP
