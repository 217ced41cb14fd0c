"""Forecasts as headers of a submission's answer."""

from __future__ import annotations

from datetime import datetime

import pytest
from fakes import NOW, SEQUENCE, Desk, a_token

from qpud.api.app import ROUTES
from qpud.api.forecasts import END, HEADERS, START, headers
from qpud.api.openapi import document
from qpud.core.verbs import Forecast


@pytest.mark.parametrize("path", ["/v1/jobs", "/jobs"])
async def test_a_submission_s_answer_carries_the_forecast(path: str) -> None:
    async with Desk().client(peer=1000) as client:
        named = {"X-Warden-Session": await a_token(client)}
        reply = await client.post(path, json={"sequence": SEQUENCE, "shots": 1}, headers=named)
    assert {name for name in HEADERS if name in reply.headers} == set(HEADERS)
    assert datetime.fromisoformat(reply.headers[START]).timestamp() == NOW + 60


def test_a_batch_is_foreseen_from_its_first_start_to_its_last_end() -> None:
    found = headers([Forecast(20.0, 25.0, 30.0, 35.0, ""), Forecast(10.0, 15.0, 40.0, 45.0, "")])
    assert (found[START], found[END]) == ("1970-01-01T00:00:10Z", "1970-01-01T00:00:40Z")


def test_what_nobody_knows_has_no_header() -> None:
    assert headers([Forecast(None, None, None, None, "it is held by its user"), None]) == {}


def test_the_document_names_the_headers() -> None:
    answer = document(ROUTES)["paths"]["/v1/jobs"]["post"]["responses"]["201"]
    assert set(answer["headers"]) == set(HEADERS)
