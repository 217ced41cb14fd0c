"""What the URL says beside its path: the selected resource, and the query string as a struct."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request

from qpud.core.errors import BadRequest

T = TypeVar("T")
MAX_QUERY_FIELDS = 200


def fields(request: Request) -> QueryParams:
    """The query string's fields.

    Raises:
        BadRequest: More than 200; counted first, since Starlette would decode any number.
    """
    if request.scope["query_string"].count(b"&") >= MAX_QUERY_FIELDS:
        raise BadRequest(f"the query string has more than {MAX_QUERY_FIELDS} fields")
    return request.query_params


def selected_resource(request: Request) -> str | None:
    """The resource that `/r/NAME/…` or else `?resource=NAME` selects, or None for the default one.

    Raises:
        BadRequest: More than 200 fields in the query string.
    """
    named: str | None = request.path_params.get("resource")
    if named is not None or not request.scope["query_string"]:
        return named
    return fields(request).get("resource")


def read_query(request: Request, shape: type[T]) -> T:
    """Read the query string into a struct: repeated or comma-separated fields where it wants lists.

    Raises:
        BadRequest: A field is unknown to a strict struct, or has a wrong value; more than 200 fields.
    """
    found = _shaped(fields(request), shape) if request.scope["query_string"] else {}  # spares a poll 25 µs
    try:
        return msgspec.convert(found, shape, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the query string is not valid: {str(error).replace('$.', '')}") from None


def _shaped(found: QueryParams, shape: type[Any]) -> dict[str, Any]:
    lists = {field.encode_name for field in msgspec.structs.fields(shape) if isinstance(field.default, tuple)}
    return {name: _split(found.getlist(name)) if name in lists else value for name, value in found.items()}


def _split(values: list[str]) -> list[str]:
    return [part for value in values for part in value.split(",") if part]
