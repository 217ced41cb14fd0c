"""The cloud dialect's own decisions: names, links, tokens, repeats, the form of refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from fakes import SEQUENCE, Desk, a_token

from qpud.api.links import LIFETIME_SECONDS, Links
from qpud.core.errors import Forbidden, StorageFull, TooManyRequests, Unavailable

V1, V2 = "/core-fast/api/v1", "/core-fast/api/v2"


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def ada(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    async with desk.client(peer=1000) as client:
        token = await a_token(client)
    async with desk.client(authorization=f"Bearer {token}") as client:
        yield client


def batch(**changes: Any) -> dict[str, Any]:
    return {"sequence_builder": SEQUENCE, "jobs": [{"runs": 5}], "device_type": "FRESNEL", **changes}


async def test_a_device_type_is_a_resource_in_whatever_case_or_its_alias(desk: Desk, ada: httpx.AsyncClient) -> None:
    fresnel = msgspec.structs.replace(desk.policy.resources["FRESNEL"], cloud_name="FRESNEL_CAN1")
    desk.service.policy = msgspec.structs.replace(desk.policy, resources={**desk.policy.resources, "FRESNEL": fresnel})
    for named, resource in (("fresnel_can1", "FRESNEL"), ("fresnel", "FRESNEL"), ("emu_mps", "EMU_MPS")):
        data = (await ada.post(f"{V1}/batches", json=batch(device_type=named))).json()["data"]
        assert desk.service.batches[data["id"]].resource == resource
    assert data["device_type"] == "EMU_MPS"
    specs = (await ada.get(f"{V1}/devices/specs")).json()["data"]
    assert list(specs) == ["FRESNEL_CAN1", "EMU_MPS"]


@pytest.mark.parametrize(
    ("device", "resource"), [('"emu_mps"', "EMU_MPS"), ('{"name":"FRESNEL"}', "FRESNEL"), ("null", "FRESNEL")]
)
async def test_without_a_device_type_the_sequences_device_names_it(
    desk: Desk, ada: httpx.AsyncClient, device: str, resource: str
) -> None:
    sequence = f'{{"version":"1","device":{device}}}'
    data = (await ada.post(f"{V1}/batches", json=batch(device_type=None, sequence_builder=sequence))).json()["data"]
    assert desk.service.batches[data["id"]].resource == resource


async def test_the_urls_resource_counts_where_no_device_type_is_given(desk: Desk, ada: httpx.AsyncClient) -> None:
    for named, resource in ((None, "EMU_MPS"), ("FRESNEL", "FRESNEL")):
        reply = await ada.post(f"/r/EMU_MPS{V1}/batches", json=batch(device_type=named))
        assert desk.service.batches[reply.json()["data"]["id"]].resource == resource


async def test_an_unknown_device_is_told_with_what_there_is(ada: httpx.AsyncClient) -> None:
    sequence = '{"version":"1","device":{"name":"MockDevice"}}'
    reply = await ada.post(f"{V1}/batches", json=batch(device_type=None, sequence_builder=sequence))
    assert reply.status_code == 422
    assert "MockDevice: give a device_type, one of FRESNEL, EMU_MPS" in reply.json()["data"]["description"]


@pytest.mark.parametrize(
    ("error", "status"), [(Unavailable("x"), 502), (TooManyRequests("x"), 429), (StorageFull("x"), 507)]
)
async def test_clients_come_back_or_give_up_as_they_should(
    desk: Desk, ada: httpx.AsyncClient, error: Exception, status: int
) -> None:
    desk.service.fails = error
    reply = await ada.post(f"{V1}/batches", json=batch())
    assert (reply.status_code, reply.json()["data"]) == (status, {"description": "x"})


async def test_an_equal_post_is_the_same_batch_if_nobody_was_there_to_be_answered(
    desk: Desk, ada: httpx.AsyncClient
) -> None:
    async with httpx.AsyncClient(transport=hangs_up(desk), base_url="http://qpud", headers=ada.headers) as gateway:
        lost = [
            (await gateway.post(f"{V1}{path}/batches", json=batch(**changes))).json()["data"]["id"]
            for path, changes in (("", {}), ("", {}), ("", {"project_id": "p"}), ("/third-party-access/ovh", {}))
        ]
    assert lost[0] == lost[1] and len(set(lost)) == 3
    retry, another = [(await ada.post(f"{V1}/batches", json=batch())).json()["data"]["id"] for _ in range(2)]
    assert retry == lost[0] and another not in lost


def hangs_up(desk: Desk) -> httpx.ASGITransport:
    """A gateway that closes its connection once it has sent a request; what is answered all the same, tests see."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"], sent = {}, False

        async def whole_then_gone() -> Any:
            nonlocal sent
            if sent:
                return {"type": "http.disconnect"}
            message = await receive()
            sent = not message["more_body"]
            return message

        await desk.app(scope, whole_then_gone, send)

    return httpx.ASGITransport(app=app)


async def test_shots_may_come_from_the_backend_configuration(desk: Desk, ada: httpx.AsyncClient) -> None:
    config = '{"observables":[{"observable":"bitstrings"}],"default_num_shots":40}'
    reply = await ada.post(f"{V1}/batches", json=batch(jobs=[{}], backend_configuration=config))
    assert reply.json()["data"]["jobs"][0]["runs"] == 40
    assert (await ada.post(f"{V1}/batches", json=batch(jobs=[{}]))).status_code == 422


async def test_results_are_for_whoever_has_the_link(desk: Desk, ada: httpx.AsyncClient) -> None:
    one = (await ada.post(f"{V1}/batches", json=batch())).json()["data"]["job_ids"][0]
    assert (await ada.get(f"{V1}/jobs/{one}/results_link")).json()["data"]["results_link"] is None
    desk.service.finish(1, {"01": 5})
    forwarded = {"X-Forwarded-Proto": "https", "Host": "apis.pasqal.cloud"}
    assert (
        (await ada.get(f"{V1}/jobs/{one}/results_link", headers=forwarded))
        .json()["data"]["results_link"]
        .startswith(f"https://apis.pasqal.cloud/core-fast/results/{one}?")
    )
    link = (await ada.get(f"{V1}/jobs/{one}/results_link")).json()["data"]["results_link"]
    async with desk.client() as nobody:
        assert (await nobody.get(link)).json() == {"counter": {"01": 5}}
        for wrong in (link.replace("user=1000", "user=1001"), link[:-1] + ("0" if link[-1] != "0" else "1")):
            assert (await nobody.get(wrong)).status_code == 403


def test_a_link_expires() -> None:
    links, other = Links(b"secret"), Links(b"another")
    uid, user, expires = "u", "1000", str(int(LIFETIME_SECONDS))
    proof = links._proof(uid, user, expires)
    assert links.owner(uid, user, expires, proof, LIFETIME_SECONDS - 1) == 1000
    with pytest.raises(Forbidden, match="expired"):
        links.owner(uid, user, expires, proof, LIFETIME_SECONDS)
    with pytest.raises(Forbidden, match="not made here"):
        other.owner(uid, user, expires, proof, 0.0)


@pytest.mark.parametrize("field", ["password", "client_secret", "refresh_token"])
@pytest.mark.parametrize("form", ["data", "json"])
async def test_a_session_token_is_exchanged_for_itself(desk: Desk, field: str, form: str) -> None:
    async with desk.client(peer=1000) as client:
        token = await a_token(client)
    async with desk.client() as nobody:
        reply = await nobody.post("/oauth/token", **{form: {"grant_type": "any", field: token}})  # type: ignore[arg-type]
        assert (reply.status_code, reply.json()["access_token"]) == (200, token)
        assert 1 <= reply.json()["expires_in"] <= 86_400
        wrong = await nobody.post("/oauth/token", **{form: {"grant_type": "any", field: "x"}})  # type: ignore[arg-type]
        assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_grant")
        assert (await nobody.post("/oauth/token")).status_code == 400


@pytest.mark.parametrize("query", ["queue_priority=HIGH", "limit=1000", "user_id=1000&user_id=1001", "user_id=nobody"])
async def test_a_filter_that_is_not_possible_is_refused(ada: httpx.AsyncClient, query: str) -> None:
    assert (await ada.get(f"{V1}/batches?{query}")).status_code >= 400


@pytest.mark.parametrize("query", ["min_runs=99999999999999999999", "max_runs=-1"])
async def test_a_number_that_no_database_holds_is_refused(ada: httpx.AsyncClient, query: str) -> None:
    assert (await ada.get(f"{V2}/jobs?{query}")).status_code == 400


@pytest.mark.parametrize("given", ["OPENQASM: no counts", "[" * 100_000 + "]" * 100_000], ids=["text", "deep"])
async def test_what_a_payload_gave_is_a_json_text_if_it_is_no_json(
    desk: Desk, ada: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    data = (await ada.post(f"{V1}/batches", json=batch())).json()["data"]
    desk.service.finish(1, {"01": 5})
    results_text = desk.service.results_text

    async def as_it_came(who: Any, ref: str) -> Any:
        return (await results_text(who, ref))[0], given

    monkeypatch.setattr(desk.service, "results_text", as_it_came)
    one = data["job_ids"][0]
    link = (await ada.get(f"{V1}/jobs/{one}/results_link")).json()["data"]["results_link"]
    assert (await ada.get(link)).json() == given
    assert (await ada.get(f"{V1}/batches/{data['id']}/full_results")).json()["data"] == {one: given}
    assert (await ada.get(f"{V1}/cudaq/job/{data['id']}")).json()["data"]["result"] is None


async def test_jobs_that_are_purged_while_they_are_selected_are_not_submitted_again(
    desk: Desk, ada: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (await ada.post(f"{V1}/batches", json=batch())).json()["data"]

    async def gone(_hashes: list[str]) -> dict[str, str]:
        return {}

    monkeypatch.setattr(desk.service, "sequence_texts", gone)
    reply = await ada.post(f"{V1}/batches/{data['id']}/rebatch")
    assert reply.status_code == 404
    assert "does not exist" in reply.text
