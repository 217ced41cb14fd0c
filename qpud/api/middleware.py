"""What happens to every request before Starlette routes it: pure ASGI, each class one thing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from qpud.telemetry.metrics import Metrics

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"


class PlainPaths:
    """Makes doubled and trailing slashes not matter: released clients send `//accessible`.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under its plain path."""
        path = scope.get("path", "")
        if "//" in path or path.endswith("/"):
            scope = {**scope, "path": "/" + "/".join(segment for segment in path.split("/") if segment)}
        await self._app(scope, receive, send)


class Measured:
    """Counts and times requests by the template of their route.

    Args:
        app: What answers; its route's name is the template.
        metrics: Where requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer and count; time spent in `?wait=` is no part of our latency."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = time.perf_counter()
        status = 0

        async def noting_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        scope.setdefault("state", {})
        await self._app(scope, receive, noting_status)
        spent = time.perf_counter() - began - scope.get("state", {}).get("held_seconds", 0.0)
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        self._metrics.http(_template(scope), method, status, spent)


def _template(scope: Scope) -> str:
    route = scope.get("route")  # a Mount where nothing in it matched; a Route also where the method did not
    matched = isinstance(route, Route) and scope["method"] in (route.methods or ())
    return route.name if matched else UNMATCHED  # type: ignore[union-attr]
