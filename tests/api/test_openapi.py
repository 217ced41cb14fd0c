"""The OpenAPI document follows from the route table and the wire types."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import pytest
from fakes import Desk

from qpud.api.app import ROUTES
from qpud.api.openapi import document
from qpud.api.route import Route


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return document(ROUTES)


def test_every_route_appears(found: dict[str, Any]) -> None:
    listed = {(method.upper(), path) for path, methods in found["paths"].items() for method in methods}
    assert listed == {(route.method, route.path) for route in ROUTES}


def test_no_two_routes_answer_the_same_question() -> None:
    asked = [(route.method, route.path) for route in ROUTES]
    assert len(set(asked)) == len(asked)


def test_every_operation_has_its_own_name(found: dict[str, Any]) -> None:
    names = [operation["operationId"] for methods in found["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.body is not None], ids=lambda route: route.path)
def test_every_body_has_an_example_that_decodes(route: Route, found: dict[str, Any]) -> None:
    body = found["paths"][route.path][route.method.lower()]["requestBody"]["content"]["application/json"]
    assert msgspec.json.decode(msgspec.json.encode(body["example"]), type=route.body) == route.example


def test_every_reference_is_defined(found: dict[str, Any]) -> None:
    text = msgspec.json.encode(found).decode()
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= set(found["components"]["schemas"])


def test_the_document_names_the_idempotency_key_wherever_it_is_heeded(found: dict[str, Any]) -> None:
    heeding = {route.path for route in ROUTES if "idempotency_key(" in inspect.getsource(route.endpoint)}
    named = {
        path
        for path, methods in found["paths"].items()
        if any(one["name"] == "Idempotency-Key" for each in methods.values() for one in each["parameters"])
    }
    assert named == heeding
    assert "/v1/jobs" in named


async def test_public_routes_and_no_others_answer_without_a_credential() -> None:
    async with Desk().client() as client:
        for route in ROUTES:
            reply = await client.request(route.method, route.path.replace("{", "").replace("}", ""))
            assert (reply.status_code == 401) != route.public, route


async def test_the_document_is_served() -> None:
    async with Desk().client() as client:
        assert (await client.get("/openapi.json")).json()["openapi"] == "3.1.0"
