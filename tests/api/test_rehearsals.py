"""What a session rehearses, on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import SEQUENCE, Desk

from qpud.core.faults import FaultPlan
from qpud.core.rehearsal import Emulator, Rehearsal


async def opened(asked: dict[str, Any]) -> tuple[Desk, int, dict[str, Any]]:
    desk = Desk()
    async with desk.client(peer=1000) as client:
        reply = await client.post("/v1/sessions", json={"rehearsal": asked})
    return desk, reply.status_code, reply.json()


async def test_a_rehearsal_reaches_the_service_and_comes_back() -> None:
    asked = {"fault": "delay:2s, preempt:3", "seed": 5, "like": "FRESNEL", "speed_up": 20, "bond_dim": 8}
    desk, status, body = await opened(asked)
    [session] = desk.service.sessions.values()
    assert status == 201
    assert session.rehearsal == Rehearsal(
        faults=FaultPlan(preempt=3, delay=2.0),
        seed=5,
        like="FRESNEL",
        speed_up=20.0,
        emulator=Emulator.MPS,
        bond_dim=8,
    )
    told = {"fault": "preempt:3,delay:2s", "emulator": "mps"}
    assert body["rehearsal"] == {**asked, **told}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"fault": "preemt:3"}, "fault 'preemt' does not exist: did you mean preempt?"),
        ({"speed_up": 2}, "a speed-up is relative to a QPU: name it with like"),
        ({"emulator": "qutipp"}, "qutipp"),
        ({"faults": "error:1"}, "faults"),
    ],
)
async def test_a_mistake_is_refused_in_one_sentence(asked: dict[str, Any], sentence: str) -> None:
    _desk, status, body = await opened(asked)
    assert 400 <= status < 500
    assert sentence in body["detail"]


async def test_a_seed_of_a_job_reaches_the_service() -> None:
    desk = Desk()
    async with desk.client(peer=1000) as client:
        token = (await client.post("/v1/sessions", json={})).json()["token"]
        job = {"sequence": SEQUENCE, "shots": 5, "seed": 42}
        reply = await client.post("/v1/jobs", json=job, headers={"X-Warden-Session": token})
        too_large = await client.post("/v1/jobs", json={**job, "seed": 2**31}, headers={"X-Warden-Session": token})
    assert (reply.status_code, too_large.status_code) == (201, 422)
    assert [ask.seed for ask in desk.service.asks.values()] == [42]
