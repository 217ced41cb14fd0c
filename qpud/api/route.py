"""The route table: what is answered and by whom; OpenAPI and Starlette's routes are both made from it."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute

from qpud.api.answering import Answering, WholeRequest
from qpud.api.bodies import Bodies

if TYPE_CHECKING:
    from qpud.api.parts import Parts

Endpoint = Callable[["Parts", WholeRequest], Awaitable[Response]]
Foresee = Callable[["Parts", WholeRequest], Any]
WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Dialect(enum.StrEnum):
    """Whose contract a route keeps; decides the form of its errors."""

    NATIVE = "native"
    QRMI = "qrmi"
    ONPREM = "onprem"
    CLOUD = "cloud"
    OPERATION = "operation"  # health, metrics, the OpenAPI document


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. The wire types make the OpenAPI document; `example` is a body that decodes."""

    method: str
    path: str  # segments in braces are parameters
    endpoint: Endpoint
    dialect: Dialect
    body: Any = None
    query: Any = None
    reply: Any = None
    status: int = 200
    headers: dict[str, str] = {}  # of the answer, beside HTTP's own: name → what it says
    example: Any = None
    keyed: bool = False  # heeds Idempotency-Key
    public: bool = False  # answers without a credential
    foresee: Foresee | None = None  # what of the endpoint's work needs no identity: done while munged is asked
    often: bool = False  # asked all day: tried first, since Starlette tries its routes in order

    @property
    def summary(self) -> str:
        """The first line of the endpoint's docstring."""
        return (self.endpoint.__doc__ or "").strip().splitlines()[0]


def starlette_routes(
    table: Iterable[Route], parts: Parts, body_limit: Callable[[], int], mount: str = ""
) -> list[BaseRoute]:
    """Starlette's routes of a table, each named by its whole path: the template under which it is counted.

    Args:
        table: Lines whose paths begin with `mount`.
        parts: What endpoints use.
        body_limit: Gives MaxBodySize in bytes.
        mount: The path under which the routes will be mounted.
    """
    bodies = Bodies(body_limit, parts.arriving)
    return [
        StarletteRoute(
            route.path.removeprefix(mount),
            Answering(route.endpoint, parts, bodies if route.method in WITH_BODY else None, route.foresee),
            methods=[route.method],
            name=route.path,
        )
        for route in table
    ]
