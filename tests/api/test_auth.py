"""Who is calling, over which door, with which credential."""

from __future__ import annotations

import base64

import httpx
import pytest
from fakes import SEQUENCE, Desk, a_token
from starlette.requests import HTTPConnection

from qpud.api.answering import LARGEST_FORESEEN
from qpud.core.identity import Identity, Proof
from qpud.core.terms import AuthType


async def who(desk: Desk, peer: int | None = None, **headers: str) -> Identity:
    raw = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "headers": raw, "state": {} if peer is None else {"peer_uid": peer}}
    authenticator, request = desk.app._parts.authenticator, HTTPConnection(scope)
    await authenticator.prove(request, lambda: None)
    return authenticator.authenticate(request)


async def a_desk_with_token(**options: AuthType) -> tuple[Desk, str]:
    desk = Desk(**options)
    async with desk.client(peer=1000) as client:
        return desk, await a_token(client)


@pytest.mark.parametrize(("uid", "is_admin"), [(0, True), (1002, True), (1000, False)])
async def test_root_and_admin_users_administer_on_the_unix_socket(uid: int, is_admin: bool) -> None:
    caller = await who(Desk(), peer=uid)
    assert (caller.user_id, caller.proof, caller.is_admin) == (uid, Proof.PEER, is_admin)


async def test_a_munge_credential_of_root_does_not_administer() -> None:
    caller = await who(Desk(), X_Munge_Cred="MUNGE:0:")
    assert (caller.user_id, caller.proof, caller.is_admin) == (0, Proof.MUNGE, False)


async def test_a_token_is_its_sessions_owner_even_when_root_sends_it() -> None:
    desk, token = await a_desk_with_token()
    caller = await who(desk, peer=0, Authorization=f"Bearer {token}")
    assert (caller.user_id, caller.proof, caller.is_admin) == (1000, Proof.TOKEN, False)


async def test_a_token_may_be_a_basic_password() -> None:
    desk, token = await a_desk_with_token()
    basic = base64.b64encode(f"anyone:{token}".encode()).decode()
    assert (await who(desk, Authorization=f"Basic {basic}")).user_id == 1000


async def test_a_token_may_be_the_warden_session() -> None:
    desk, token = await a_desk_with_token(auth_type=AuthType.NONE)
    assert (await who(desk, X_Warden_Session=token)).proof is Proof.TOKEN


async def test_munge_beside_a_token_gives_the_identity() -> None:
    desk, token = await a_desk_with_token()
    assert (await who(desk, X_Munge_Cred="MUNGE:1001:", X_Warden_Session=token)).user_id == 1001


async def test_munge_is_not_looked_at_unless_configured() -> None:
    desk, token = await a_desk_with_token(auth_type=AuthType.NONE)
    assert (await who(desk, X_Munge_Cred="garbage", Authorization=f"Bearer {token}")).user_id == 1000


async def asked(desk: Desk, method: str, path: str, json: object = None, **headers: str) -> httpx.Response:
    async with desk.client(**headers) as client:
        return await client.request(method, path, json=json)


REFUSED = {
    "nothing": ({}, "Missing MUNGE credential"),
    "garbage": ({"X_Munge_Cred": "garbage"}, "the munge credential is not valid"),
    "unknown token": ({"Authorization": "Bearer qpud_no"}, "the session token is unknown"),
    "unknown scheme": ({"Authorization": "Digest x"}, "the Authorization scheme 'Digest' is unknown"),
    "broken basic": ({"Authorization": "Basic ==="}, "the Basic credential is not base64"),
    "bytes": ({"X_Munge_Cred": "MUNGE:\xff:"}, "the munge credential is not valid"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_credential_that_proves_nothing_is_401_with_the_reason(name: str) -> None:
    headers, reason = REFUSED[name]
    async with Desk().client() as client:
        raw = {key.replace("_", "-"): value.encode("latin-1") for key, value in headers.items()}
        reply = await client.get("/jobs", headers=raw)
    assert reply.status_code == 401
    assert reply.json()["detail"].startswith(reason)


async def test_munge_where_it_does_not_count_is_401_saying_so() -> None:
    reply = await asked(Desk(auth_type=AuthType.NONE), "GET", "/jobs", X_Munge_Cred="MUNGE:1000:")
    assert (reply.status_code, "AuthType=none" in reply.json()["detail"]) == (401, True)


async def test_a_job_without_a_session_is_refused_in_wardens_words() -> None:
    reply = await asked(Desk(), "POST", "/jobs", {"sequence": SEQUENCE, "shots": 1}, X_Munge_Cred="MUNGE:1000:")
    assert (reply.status_code, reply.json()["detail"]) == (403, "Missing 'X-Warden-Session' header.")


async def test_anothers_session_is_refused_in_wardens_words() -> None:
    desk, token = await a_desk_with_token()
    headers = {"X_Munge_Cred": "MUNGE:1001:", "X_Warden_Session": token}
    reply = await asked(desk, "POST", "/jobs", {"sequence": SEQUENCE, "shots": 1}, **headers)
    assert (reply.status_code, reply.json()["detail"]) == (403, "Invalid session.")


async def test_root_by_munge_cannot_submit_with_anothers_session() -> None:
    desk, token = await a_desk_with_token()
    headers = {"X_Munge_Cred": "MUNGE:0:", "X_Warden_Session": token}
    reply = await asked(desk, "POST", "/jobs", {"sequence": SEQUENCE, "shots": 1}, **headers)
    assert (reply.status_code, reply.json()["detail"]) == (403, "Invalid session.")


async def test_a_closed_session_is_refused_in_wardens_words() -> None:
    desk, _token = await a_desk_with_token()
    (session,) = desk.service.sessions
    headers = {"X_Munge_Cred": "MUNGE:1000:", "X_Warden_Session": session}
    await asked(desk, "DELETE", "/sessions", **headers)
    reply = await asked(desk, "POST", "/jobs", {"sequence": SEQUENCE, "shots": 1}, **headers)
    assert (reply.status_code, reply.json()["detail"]) == (403, "Session has been revoked.")


async def test_a_token_alone_names_the_session_for_the_warden_dialect() -> None:
    desk, token = await a_desk_with_token()
    reply = await asked(desk, "POST", "/jobs", {"sequence": SEQUENCE, "shots": 1}, Authorization=f"Bearer {token}")
    assert reply.status_code == 201


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/resources/FRESNEL/drain", {"reason": "x"}),
        ("/v1/resources/FRESNEL/down", {"reason": "x"}),
        ("/v1/resources/FRESNEL/degrade", {"units": 1, "reason": "x"}),
        ("/v1/jobs/1/queue", {"queue": "production"}),
        ("/v1/reservations", {"name": "w", "duration_seconds": 60, "users": ["root"]}),
        ("/v1/reconfigure", {}),
        ("/accessible", {"is_accessible": False}),
    ],
)
async def test_administration_is_refused_to_roots_munge_credential(path: str, body: dict[str, object]) -> None:
    reply = await asked(Desk(), "POST", path, body, X_Munge_Cred="MUNGE:0:")
    assert reply.status_code == 403


async def test_a_refused_sequence_keeps_its_credential_out_of_the_answer() -> None:
    desk, token = await a_desk_with_token()
    reply = await asked(desk, "POST", "/jobs", {"sequence": 3, "shots": 1}, Authorization=f"Bearer {token}")
    assert token not in reply.text


@pytest.mark.parametrize("path", ["/jobs", "/v1/jobs"])
@pytest.mark.parametrize("body", [{"sequence": 5}, {"sequence": SEQUENCE, "shots": 0}, []])
async def test_a_bad_body_is_told_to_nobody_who_proves_nothing(path: str, body: object) -> None:
    reply = await asked(Desk(), "POST", path, body, X_Munge_Cred="MUNGE:forged:")
    assert reply.status_code == 401


@pytest.mark.parametrize("path", ["/jobs", "/v1/jobs"])
async def test_a_bad_body_is_told_to_who_proved_himself(path: str) -> None:
    desk, token = await a_desk_with_token()
    headers = {"X_Munge_Cred": "MUNGE:1000:", "X_Warden_Session": token}
    reply = await asked(desk, "POST", path, {"sequence": 5, "shots": 1}, **headers)
    assert reply.status_code == 422


@pytest.mark.parametrize("path", ["/jobs", "/v1/jobs"])
async def test_a_sequence_is_looked_at_while_munged_is_asked_and_not_for_a_token(path: str) -> None:
    desk, token = await a_desk_with_token()
    body = {"sequence": SEQUENCE, "shots": 1}
    await asked(desk, "POST", path, body, Authorization=f"Bearer {token}")
    assert desk.service.foreseen == []
    await asked(desk, "POST", path, body, X_Munge_Cred="MUNGE:1000:", X_Warden_Session=token)
    assert desk.service.foreseen == [SEQUENCE]


async def test_a_large_body_is_looked_at_only_for_who_proved_himself() -> None:
    desk, token = await a_desk_with_token()
    body = {"sequence": SEQUENCE + " " * LARGEST_FORESEEN, "shots": 1}
    reply = await asked(desk, "POST", "/jobs", body, X_Munge_Cred="MUNGE:1000:", X_Warden_Session=token)
    assert (reply.status_code, desk.service.foreseen) == (201, [])
