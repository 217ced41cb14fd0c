"""The ASGI application: finds the route, reads the body, turns errors into answers, and counts.

socket → server.py        peer uid of a Unix socket into the scope
       → App              this file
       → route.py         the endpoint of method and path; `//` and `/r/NAME/…` undone
       → bodies.py        the body within MaxBodySize
       → native.py, qrmi.py, onprem.py …   decode, ask the service, encode
       → errors.py        any QpudError through one table; anything else is a 500 with a reference
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from qpud.api import native, native_admin, onprem, operation, qrmi, qrmi_accounting
from qpud.api.auth import Authenticator
from qpud.api.bodies import read_body
from qpud.api.call import Call, Reply
from qpud.api.errors import internal, refusal
from qpud.api.parts import Parts
from qpud.api.route import Dialect, Route, Router
from qpud.api.waits import Waits
from qpud.core.errors import QpudError

if TYPE_CHECKING:
    from qpud.service import Service
    from qpud.telemetry.metrics import Metrics

ROUTES: tuple[Route, ...] = (
    *native.ROUTES,
    *native_admin.ROUTES,
    *qrmi.ROUTES,
    *qrmi_accounting.ROUTES,
    *onprem.ROUTES,
    *operation.ROUTES,
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
UNMATCHED = "unmatched"


class App:
    """The ASGI application.

    Args:
        parts: What endpoints use.
        max_body_size: Gives MaxBodySize in bytes; a reload may change it.
    """

    def __init__(self, parts: Parts, max_body_size: Callable[[], int]) -> None:
        self._parts = parts
        self._router = Router(parts.routes)
        self._max_body_size = max_body_size

    def release_waits(self) -> None:
        """Answer all held requests now: the server stops."""
        self._parts.waits.release()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not spoken here")
        began = time.perf_counter()
        call = Call(scope, receive)
        route, reply = await self._answer(call)
        await _send(call, reply, send)
        method = call.method if call.method in METHODS else "OTHER"
        path = UNMATCHED if route is None else route.path
        self._parts.metrics.http(path, method, reply.status, time.perf_counter() - began - call.held_seconds)

    async def _answer(self, call: Call) -> tuple[Route | None, Reply]:
        route: Route | None = None
        try:
            route = self._router.find(call)
            if call.method in WITH_BODY:
                call.body = await read_body(call, self._max_body_size())
            return route, await route.endpoint(self._parts, call)
        except QpudError as error:
            return route, refusal(error, jsend=_is_jsend(call, route))
        except Exception as error:
            return route, internal(error, call.scope["path"], jsend=_is_jsend(call, route))


def _is_jsend(call: Call, route: Route | None) -> bool:
    if route is None:
        return bool(call.scope["path"].startswith("/api/"))
    return route.dialect is Dialect.ONPREM


async def _send(call: Call, reply: Reply, send: Send) -> None:
    headers = [
        (b"content-type", reply.media_type),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if call.method == "HEAD" else reply.body})


def create_app(
    service: Service, authenticator: Authenticator, metrics: Metrics, max_body_size: Callable[[], int]
) -> App:
    """Put the HTTP layer together.

    Args:
        service: The verbs.
        authenticator: Who tells who is calling.
        metrics: Where requests are counted.
        max_body_size: Gives MaxBodySize in bytes.
    """
    parts = Parts(service=service, authenticator=authenticator, metrics=metrics, waits=Waits(), routes=ROUTES)
    metrics.routes((route.path, route.method) for route in ROUTES)
    return App(parts, max_body_size)
