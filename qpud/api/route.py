"""The route table: what is answered, by whom, and a tree that finds it in a few dictionary look-ups."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from qpud.api.call import Call, Reply
from qpud.api.errors import WrongMethod
from qpud.core.errors import NotFound

if TYPE_CHECKING:
    from qpud.api.parts import Parts

Endpoint = Callable[["Parts", Call], Awaitable[Reply]]


class Dialect(enum.StrEnum):
    """Whose contract a route keeps; decides the form of its errors."""

    NATIVE = "native"
    QRMI = "qrmi"
    ONPREM = "onprem"
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
    example: Any = None
    public: bool = False  # answers without a credential

    @property
    def summary(self) -> str:
        """The first line of the endpoint's docstring."""
        return (self.endpoint.__doc__ or "").strip().splitlines()[0]


class _Node:
    __slots__ = ("children", "parameter", "routes")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.routes: dict[str, tuple[Route, tuple[str, ...]]] = {}

    def descend(self, segment: str) -> _Node:
        if not segment.startswith("{"):
            return self.children.setdefault(segment, _Node())
        self.parameter = self.parameter or _Node()
        return self.parameter


class Router:
    """Finds the route of a path. Doubled and trailing slashes do not matter: released clients send `//accessible`."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._root = _Node()
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node, names = self._root, []
        for segment in route.path.strip("/").split("/"):
            node = node.descend(segment)
            if segment.startswith("{"):
                names.append(segment[1:-1])
        if route.method in node.routes:
            raise ValueError(f"two routes answer {route.method} {route.path}")
        node.routes[route.method] = (route, tuple(names))

    def find(self, call: Call) -> Route:
        """The route of a call; sets its `params` and `path_resource`.

        Raises:
            NotFound: No such path.
            WrongMethod: The path exists, but not with this method.
        """
        segments = [segment for segment in call.scope["path"].split("/") if segment]
        if len(segments) > 2 and segments[0] == "r":
            call.path_resource = segments[1]
            segments = segments[2:]
        values, node = _walk(self._root, segments)
        if node is None or not node.routes:
            raise NotFound(f"there is nothing at {call.scope['path'][:200]}")
        found = node.routes.get("GET" if call.method == "HEAD" else call.method)
        if found is None:
            raise WrongMethod(call.method, sorted(node.routes))
        route, names = found
        if names:
            call.params = dict(zip(names, values, strict=True))
        return route


def _walk(root: _Node, segments: list[str]) -> tuple[list[str], _Node | None]:
    values: list[str] = []
    node: _Node | None = root
    for segment in segments:
        assert node is not None  # noqa: S101  for mypy: the loop leaves when it is
        child = node.children.get(segment)
        if child is None:
            child = node.parameter
            values.append(segment)
        if child is None:
            return values, None
        node = child
    return values, node
