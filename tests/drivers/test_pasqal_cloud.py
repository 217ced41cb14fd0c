"""The driver pasqal-cloud against the stub: no batch twice, no secret told, a sentence for everything."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from qpud.core.slices import OutcomeState
from qpud.drivers import cloud_login
from qpud.drivers.base import Fault, HealthState, Refused, Unreachable
from qpud.drivers.pasqal_cloud import PasqalCloudDriver
from tests.drivers.builders import a_slice, cloud, opened, private_file, run
from tests.drivers.stub_cloud import SPECS, StubCloud, stub_cloud
from tests.drivers.stub_qpu import HTML

USER = "# of the site\nusername = me@site\npassword = s%cr#t=1\n"


@asynccontextmanager
async def rig(
    shot_rate: float = 1000.0, text: str = USER, **changes: Any
) -> AsyncIterator[tuple[StubCloud, PasqalCloudDriver]]:
    with TemporaryDirectory() as folder:
        credentials = private_file(Path(folder) / "credentials", text)
        async with (
            asyncio.timeout(60),
            stub_cloud(shot_rate=shot_rate) as stub,
            opened(cloud(stub.url, **{"credentials_file": credentials, **changes})) as driver,
        ):
            yield stub, driver


# -- the normal course
async def test_a_slice_is_a_closed_batch_of_one_job_with_its_tag():
    async with rig() as (stub, driver):
        outcome = await run(driver, "tag-9", shots=10)
        body = stub.batches[0].body
    assert json.loads(body.pop("sequence_builder"))["name"] == "test"
    jobs, device = {"jobs": [{"runs": 10}], "open": False}, {"device_type": "FRESNEL", "project_id": "p-1"}
    assert body == {**jobs, **device, "webhook": None, "tags": ["tag-9"]}
    assert (sum(outcome.counts.values()), outcome.provenance["driver"]) == (10, "pasqal-cloud")


async def test_results_are_fetched_without_our_token():
    async with rig() as (stub, driver):
        await run(driver)
    assert stub.seen_on_results == [None]


async def test_the_qpu_seconds_are_those_of_the_clouds_own_stamps():
    async with rig(shot_rate=100.0) as (_stub, driver):
        outcome = await run(driver, shots=10)
    assert outcome.qpu_seconds == pytest.approx(0.1, abs=0.001)


async def test_the_time_in_the_clouds_queue_is_not_charged():
    async with rig(shot_rate=1000.0) as (stub, driver):
        stub.stamps = False
        request = a_slice(shots=10)
        device_id = await driver.start(request)
        batch = stub.batches[0]
        batch.status = "PENDING"
        waiting = asyncio.create_task(driver.wait(device_id, request))
        await asyncio.sleep(0.5)  # the queue of the cloud
        polls = driver.polls
        batch.status, batch.at = "", asyncio.get_running_loop().time()
        outcome = await waiting
    assert polls >= 2
    assert 0 < outcome.qpu_seconds < 0.4


async def test_once_the_rate_is_measured_a_slice_takes_one_or_two_polls():
    async with rig(shot_rate=200.0) as (_stub, driver):
        await run(driver, "t0", shots=20)
        before = driver.polls
        for number in range(1, 4):
            await run(driver, f"t{number}", shots=40)
        polls = driver.polls - before
    assert driver.shot_rate == pytest.approx(200.0, rel=0.05)
    assert polls <= 6


async def test_results_that_are_late_are_waited_for():
    async with rig() as (stub, driver):
        stub.late = 2
        assert sum((await run(driver)).counts.values()) == 10


# -- no batch twice
async def test_a_lost_reply_is_never_posted_again_and_found_by_its_tag():
    async with rig() as (stub, driver):
        stub.fault("POST", "/batches", when="after")
        request = a_slice()
        with pytest.raises(Unreachable):
            await driver.start(request)
        device_id = await driver.find(request)
        assert device_id == stub.batches[0].id
        assert sum((await driver.wait(device_id, request)).counts.values()) == 10
    assert len(stub.batches) == 1


async def test_a_start_after_an_unresolved_lost_reply_takes_the_batch_that_arrived():
    async with rig() as (stub, driver):
        stub.fault("POST", "/batches", when="after", reply=(500, "{}"))
        with pytest.raises(Unreachable):
            await driver.start(a_slice())
        assert await driver.start(a_slice()) == stub.batches[0].id
    assert len(stub.batches) == 1


async def test_a_post_that_arrives_late_is_waited_for():
    async with rig(request_timeout=0.5) as (stub, driver):
        stub.fault("POST", "/batches", reply=(502, HTML))
        request = a_slice()
        with pytest.raises(Unreachable):
            await driver.start(request)
        finding = asyncio.create_task(driver.find(request))
        while not stub.requests["GET v1/batches"]:
            await asyncio.sleep(0.01)
        stub._create(driver._body(request, "{}"))
        assert await finding == stub.batches[0].id


async def test_a_post_that_never_arrived_is_certainly_not_there():
    async with rig() as (stub, driver):
        stub.fault("POST", "/batches")
        with pytest.raises(Unreachable):
            await driver.start(a_slice())
        assert await driver.find(a_slice()) is None
        assert sum((await run(driver)).counts.values()) == 10
    assert len(stub.batches) == 1


async def test_another_daemons_batch_is_found_and_waited_for():
    async with rig() as (stub, driver):
        device_id = await driver.start(a_slice("t1", shots=20))
        async with asyncio.timeout(20):
            later = cloud(stub.url, credentials_file=driver._policy.credentials_file)
            await later.open()
            assert await later.find(a_slice("t1", shots=20)) == device_id
            assert sum((await later.wait(device_id, a_slice("t1", shots=20))).counts.values()) == 20
            await later.close()


async def test_batches_without_tags_decide_nothing():
    async with rig() as (stub, driver):
        await run(driver, "t1")
        stub.shows_tags, stub.filters = False, False
        with pytest.raises(Unreachable, match="nobody can tell whether it has slice t2, as it shows batches without"):
            await driver.find(a_slice("t2"))


# -- tokens
async def test_one_token_serves_many_requests():
    async with rig() as (stub, driver):
        await run(driver, "t1")
        await run(driver, "t2")
    assert len(stub.forms) == 1
    assert stub.forms[0]["username"] == "me@site"
    assert stub.forms[0]["password"] == "s%cr#t=1"
    assert stub.forms[0]["realm"] == "pcs-users"


async def test_a_client_secret_is_posted_as_client_credentials():
    async with rig(text="client_id = c\nclient_secret = s\naudience = a\n") as (stub, driver):
        await driver.spec()
    assert stub.forms == [
        {"grant_type": "client_credentials", "client_id": "c", "client_secret": "s", "audience": "a"}
    ]


async def test_after_a_401_there_is_one_fresh_token_and_one_post():
    async with rig() as (stub, driver):
        await driver.spec()
        stub.token = "token-2"
        assert (await run(driver)).state is OutcomeState.DONE
    assert (len(stub.forms), len(stub.batches)) == (2, 1)


async def test_a_cloud_that_refuses_fresh_tokens_too_is_not_flooded_with_logins():
    async with rig() as (stub, driver):
        await driver.spec()
        for number in range(5):
            stub.fault("GET", "/devices", times=2, reply=(401, "{}"))
            assert "refuses our credentials" in (await driver.health()).message, number
    assert len(stub.forms) == 2


async def test_a_token_is_replaced_before_it_expires():
    async with rig() as (stub, driver):
        stub.expires_in = 0.2
        await driver.spec()
        await asyncio.sleep(0.15)  # half of its life and a bit
        assert (await driver.health()).state is HealthState.UP
    assert len(stub.forms) == 2


async def test_a_life_beyond_all_numbers_is_none_that_is_believed():
    huge = 10**400
    payload = base64.urlsafe_b64encode(json.dumps({"exp": huge}).encode()).decode().rstrip("=")
    assert cloud_login._life(f"h.{payload}.s", 1000.0) == cloud_login.MOST_SECONDS
    async with rig() as (stub, driver):
        stub.expires_in = huge
        assert (await driver.health()).state is HealthState.UP


async def test_the_expiry_of_a_jwt_counts_where_the_answer_tells_none():
    now = 1000.0
    payload = base64.urlsafe_b64encode(json.dumps({"exp": now + 50}).encode()).decode().rstrip("=")
    assert cloud_login._life(f"h.{payload}.s", now) == 50
    assert cloud_login._life("opaque", now) == cloud_login.MOST_SECONDS
    assert cloud_login._life("a.b.c", now) == cloud_login.MOST_SECONDS


@pytest.mark.parametrize("life", [10**400, "1e999", -1, [3600], {}, "soon", None], ids=lambda life: str(life)[:9])
async def test_a_life_of_a_token_that_can_be_none_is_as_good_as_none(life: Any):
    async with rig() as (stub, driver):
        stub.expires_in = life
        assert (await driver.health()).state is HealthState.UP
        assert len(stub.forms) == 1


async def test_refused_credentials_are_named_and_not_sent_again_at_once(caplog):
    caplog.set_level(logging.DEBUG)
    async with rig() as (stub, driver):
        stub.refusal = 403, {"error": "invalid_grant", "error_description": "Wrong email or password."}
        first, second = await driver.health(), await driver.health()
    assert first.state is HealthState.UNREACHABLE
    assert "AuthUrl refuses the credentials of CredentialsFile: 403 Wrong email or password." in first.message
    assert (second, len(stub.forms)) == (first, 1)
    assert "s%cr#t" not in first.message + caplog.text


@pytest.mark.parametrize("reply", [(200, {"token": "x"}), (200, {"access_token": "two words"}), (200, [])])
async def test_an_answer_without_a_token_is_named(reply):
    async with rig() as (stub, driver):
        stub.refusal = reply
        health = await driver.health()
    assert health.state is HealthState.UNREACHABLE
    assert "AuthUrl answers without" in health.message or "instead of JSON" in health.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("username = me\n", "holds neither username and password nor client_id and client_secret"),
        ("s%cr#t", "cannot be read: it needs lines such as username ="),
    ],
)
async def test_a_credentials_file_that_cannot_be_used_is_named_without_what_it_holds(text, words):
    async with rig(text=text) as (_stub, driver):
        message = (await driver.health()).message
    assert words in message
    assert "s%cr#t" not in message


async def test_a_credentials_file_that_others_may_read_is_refused(tmp_path):
    path = private_file(tmp_path / "credentials", USER)
    path.chmod(0o640)
    async with rig(credentials_file=path) as (stub, driver):
        message = (await driver.health()).message
    assert "other users may read it: chmod 600" in message
    assert not stub.forms


async def test_a_token_file_serves_instead_of_credentials_and_is_read_again_after_a_401(tmp_path):
    token = private_file(tmp_path / "token", "token-1\n")
    async with rig(token_file=token, auth_url=None, credentials_file=None) as (stub, driver):
        await driver.spec()
        stub.token = "token-2"
        token.write_text("token-2\n")
        assert (await run(driver)).state is OutcomeState.DONE
    assert not stub.forms


# -- what goes wrong there
@pytest.mark.parametrize(
    ("reply", "transient", "words"),
    [
        ((422, '{"status":"fail","code":"422","data":{"description":"too many atoms"}}'), False, "too many atoms"),
        ((400, "{}"), False, "answered 400"),
        ((402, "{}"), True, "answered 402"),
        ((403, '{"message": "not yours"}'), True, "refuses our credentials (403: not yours)"),
        ((429, "{}"), True, "answered 429"),
    ],
)
async def test_a_refusal_is_given_up_or_comes_back(reply, transient, words):
    async with rig() as (stub, driver):
        stub.fault("POST", "/batches", reply=reply)
        with pytest.raises(Refused) as refused:
            await driver.start(a_slice())
        assert await driver.find(a_slice()) is None
    assert words in refused.value.message
    assert refused.value.transient is transient


@pytest.mark.parametrize("reply", [(500, "{}"), (504, HTML), (200, HTML), (200, "{" * 5000), (302, ""), None])
async def test_what_is_no_answer_leaves_the_slice_unknown(reply):
    async with rig() as (stub, driver):
        stub.fault("POST", "/batches", reply=reply)
        with pytest.raises(Unreachable):
            await driver.start(a_slice())


async def test_an_error_carries_the_clouds_reason():
    async with rig(shot_rate=1.0) as (stub, driver):
        request = a_slice()
        device_id = await driver.start(request)
        stub.batches[0].status, stub.batches[0].errors = "ERROR", ["laser unlocked", "aborted"]
        outcome = await driver.wait(device_id, request)
    assert (outcome.state, outcome.transient) == (OutcomeState.FAILED, False)
    assert outcome.message.endswith("with ERROR: laser unlocked; aborted")


async def test_a_batch_that_timed_out_fails_the_slice():
    async with rig(shot_rate=1.0) as (stub, driver):
        request = a_slice()
        device_id = await driver.start(request)
        stub.batches[0].status = "TIMED_OUT"
        assert "TIMED_OUT" in (await driver.wait(device_id, request)).message


async def test_a_paused_batch_is_waited_for():
    async with rig() as (stub, driver):
        request = a_slice()
        device_id = await driver.start(request)
        stub.batches[0].status = "PAUSED"
        waiting = asyncio.create_task(driver.wait(device_id, request))
        while driver.polls < 3:
            await asyncio.sleep(0.005)
        assert not waiting.done()
        stub.batches[0].status = ""
        assert (await waiting).state is OutcomeState.DONE


async def test_a_batch_that_the_cloud_forgot_fails_the_slice_which_may_run_again():
    async with rig() as (stub, driver):
        request = a_slice()
        device_id = await driver.start(request)
        stub.batches.clear()
        outcome = await driver.wait(device_id, request)
    assert (outcome.state, outcome.transient) == (OutcomeState.FAILED, True)


async def test_a_batch_that_is_not_known_now_and_then_is_none_that_the_cloud_forgot():
    async with rig() as (stub, driver):
        request = a_slice()
        device_id = await driver.start(request)
        stub.batches[0].status = "PAUSED"
        waiting = asyncio.create_task(driver.wait(device_id, request))
        for _ in range(3):
            stub.fault("GET", f"/batches/{device_id}", reply=(404, json.dumps({"code": "404"})))
            while stub.faults and not waiting.done():
                await asyncio.sleep(0.005)
            polls = driver.polls
            while driver.polls < polls + 2 and not waiting.done():  # one of them was answered
                await asyncio.sleep(0.005)
        stub.batches[0].status = ""
        assert (await waiting).state is OutcomeState.DONE


async def test_an_unknown_status_leaves_the_slice_unknown():
    async with rig() as (stub, driver):
        request = a_slice()
        device_id = await driver.start(request)
        stub.batches[0].status = "LEVITATING"
        with pytest.raises(Unreachable, match="LEVITATING"):
            await driver.wait(device_id, request)


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ((404, {}), "no result"),
        ((200, {"counter": {"00": 500}}), "500 shots where 10 were asked for"),
        ((200, {"counter": None, "serialised_results": "x"}), "no bitstring"),
        ((200, []), "no result"),
    ],
)
async def test_a_result_that_cannot_be_used_fails_the_slice_with_a_sentence(thing, words):
    async with rig() as (stub, driver):
        stub.object = thing
        outcome = await run(driver)
    assert (outcome.state, outcome.counts) == (OutcomeState.FAILED, {})
    assert words in outcome.message


@pytest.mark.parametrize("link", ["/relative", "file:///etc/passwd", "http://[::bad", 7])
async def test_a_link_that_is_no_address_is_no_result(link):
    async with rig() as (stub, driver):
        stub.link = link
        assert "no result" in (await run(driver)).message


async def test_results_that_do_not_answer_leave_the_slice_unknown_until_they_do():
    async with rig() as (stub, driver):
        request = a_slice()
        device_id = await driver.start(request)
        stub.fault("GET", stub.batches[0].job_id, times=3, reply=(500, ""))
        with pytest.raises(Unreachable):
            await driver.wait(device_id, request)
        assert sum((await driver.wait(device_id, request)).counts.values()) == 10


# -- spec and health
async def test_the_spec_of_an_emulator_is_a_public_one_and_takes_virtual_devices():
    async with rig(device_type="EMU_MPS") as (_stub, driver):
        spec = await driver.spec()
    assert (spec.name, spec.accepts_virtual) == ("FRESNEL", True)


async def test_a_device_type_that_the_cloud_does_not_know_is_named():
    async with rig(device_type="ORION") as (_stub, driver):
        with pytest.raises(Unreachable, match="DeviceType ORION is not among those of the cloud: EMU_MPS, FRESNEL"):
            await driver.spec()


async def test_the_spec_may_be_text_or_an_object():
    async with rig() as (stub, driver):
        stub.specs = {"FRESNEL": json.loads(SPECS)}
        assert (await driver.spec()).max_runs == 2000


@pytest.mark.parametrize(
    ("availability", "state"), [("ACTIVE", HealthState.UP), ("INACTIVE", HealthState.DOWN), (None, HealthState.DOWN)]
)
async def test_health_is_what_the_cloud_says_of_the_device(availability, state):
    async with rig() as (stub, driver):
        stub.availability = availability
        assert (await driver.health()).state is state


async def test_a_redirect_is_named_and_never_followed():
    async with stub_cloud() as elsewhere, rig() as (stub, driver):
        target = {"Location": f"{elsewhere.url}/core-fast/api/v1/devices"}
        stub.fault("GET", "/devices", reply=(307, ""), headers=target)
        assert "redirected" in (await driver.health()).message
    assert not elsewhere.requests


@pytest.mark.parametrize("key", ["project_id", "device_type", "auth_url", "credentials_file"])
def test_a_missing_key_is_named(key, tmp_path):
    with pytest.raises(Fault, match="missing"):
        cloud("http://h", **{"credentials_file": tmp_path, key: None})
