"""One request and one answer, as endpoints see them: thinner than Starlette's Request and Response.

Starlette's router tries regular expressions one after another and its Request and Response cost about as much as
everything else we do for a submission, so the hot path has its own two small types and `route.py`'s tree.
"""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope

from qpud.core.errors import BadRequest

T = TypeVar("T")
JSON = b"application/json"
MAX_QUERY_FIELDS = 200

_encoder = msgspec.json.Encoder()


class Reply(msgspec.Struct, frozen=True, gc=False):
    """An answer: status, whole body, extra headers."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    media_type: bytes = JSON


def answer(value: object, status: int = 200) -> Reply:
    """Encode a wire value as JSON."""
    return Reply(status, _encoder.encode(value))


class Call:
    """One request. `params` come from the path template, `resource` from `/r/NAME/…` or `?resource=`."""

    __slots__ = ("_query", "body", "headers", "held_seconds", "method", "params", "path_resource", "receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.method: str = scope["method"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.params: dict[str, str] = {}
        self.body = b""
        self.path_resource: str | None = None
        self.held_seconds = 0.0  # spent in `?wait=`, no part of our latency
        self._query: dict[str, list[str]] | None = None

    @property
    def fields(self) -> dict[str, list[str]]:
        """The query string, decoded once.

        Raises:
            BadRequest: More than 200 fields.
        """
        if self._query is None:
            self._query = _parse_query(self.scope.get("query_string", b""))
        return self._query

    @property
    def resource(self) -> str | None:
        """The resource that the URL selects, or None for the default one."""
        if self.path_resource is not None:
            return self.path_resource
        if not self.scope.get("query_string"):
            return None
        named = self.fields.get("resource")
        return named[-1] if named else None

    def query(self, shape: type[T]) -> T:
        """Read the query string into a struct: repeated or comma-separated fields where it wants lists.

        Raises:
            BadRequest: A field is unknown to a strict struct, or has a wrong value.
        """
        try:
            return msgspec.convert(_shaped(self.fields, shape), shape, strict=False)
        except msgspec.ValidationError as error:
            raise BadRequest(f"the query string is not valid: {str(error).replace('$.', '')}") from None

    def header(self, name: bytes) -> str | None:
        """One header as text, stripped, or None when absent or empty."""
        value = self.headers.get(name)
        return value.decode("latin-1").strip() or None if value else None


def _parse_query(raw: bytes) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    if not raw:
        return fields
    try:
        pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise BadRequest(f"the query string has more than {MAX_QUERY_FIELDS} fields") from None
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def _shaped(fields: dict[str, list[str]], shape: type[Any]) -> dict[str, Any]:
    lists = {field.encode_name for field in msgspec.structs.fields(shape) if isinstance(field.default, tuple)}
    return {name: _split(values) if name in lists else values[-1] for name, values in fields.items()}


def _split(values: list[str]) -> list[str]:
    return [part for value in values for part in value.split(",") if part]
