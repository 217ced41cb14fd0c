"""The OpenAPI document, made from the route table and the wire types; nothing in it is written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from qpud import __version__
from qpud.api.errors import ErrorBody, JsendError
from qpud.api.native import LONGEST_KEY
from qpud.api.route import Dialect, Route

REF = "#/components/schemas/{name}"
SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "a session's token"},
    "password": {"type": "http", "scheme": "basic", "description": "any user name, a session's token as password"},
    "munge": {"type": "apiKey", "in": "header", "name": "X-Munge-Cred"},
    "session": {"type": "apiKey", "in": "header", "name": "X-Warden-Session"},
}

KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "of the client's choice: a request sent again with it arrives once, another one with it is a 409",
    "schema": {"type": "string", "maxLength": LONGEST_KEY},
}


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a route table."""
    types = _types(routes)
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    schema_of = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "qpud", "version": __version__},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": SECURITY},
    }


def _types(routes: Sequence[Route]) -> list[Any]:
    found = [kind for route in routes for kind in (route.body, route.reply) if kind is not None]
    fields = [field.type for route in routes for field in _query_fields(route)]
    unique = {repr(kind): kind for kind in (*found, *fields, ErrorBody, JsendError)}
    return list(unique.values())


def _query_fields(route: Route) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(route.query) if route.query is not None else ()


def _operation(route: Route, schema_of: dict[str, Any]) -> dict[str, Any]:
    failure = JsendError if route.dialect in (Dialect.ONPREM, Dialect.CLOUD) else ErrorBody
    operation = {
        "operationId": f"{route.method.lower()}_{_identifier(route.path)}",
        "tags": [str(route.dialect)],
        "summary": route.summary,
        "parameters": [
            *map(_path_parameter, _names(route.path)),
            *_query_parameters(route, schema_of),
            *([KEY] if route.keyed else []),
        ],
        "responses": {
            str(route.status): {"description": "Success", **_headers(route), **_content(route.reply, schema_of)},
            "default": {"description": "A refusal", **_content(failure, schema_of)},
        },
        "security": [] if route.public else [{name: []} for name in ("token", "password", "munge")],
    }
    if route.body is not None:
        operation["requestBody"] = _content(route.body, schema_of, route.example)
    return operation


def _headers(route: Route) -> dict[str, Any]:
    found = {name: {"description": text, "schema": {"type": "string"}} for name, text in route.headers.items()}
    return {"headers": found} if found else {}


def _identifier(path: str) -> str:
    words = "".join(letter if letter.isalnum() else " " for letter in path).split()
    return "_".join(words)


def _names(path: str) -> list[str]:
    return [segment[1:-1] for segment in path.split("/") if segment.startswith("{")]


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameters(route: Route, schema_of: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": field.encode_name, "in": "query", "schema": schema_of[repr(field.type)]}
        for field in _query_fields(route)
    ]


def _content(kind: Any, schema_of: dict[str, Any], example: Any = None) -> dict[str, Any]:
    media = "text/plain" if kind is str else "application/json"
    content: dict[str, Any] = {"schema": schema_of[repr(kind)]}
    if example is not None:
        content["example"] = msgspec.json.decode(msgspec.json.encode(example))
    return {"content": {media: content}}
