"""The Starlette application: the one route table, mounted; middleware; errors.

socket → server.py        peer uid of a Unix socket into the scope
       → middleware.py    `//` undone, counted by route template
       → errors.py        any QpudError through one table; anything else is a 500 with a reference
       → Starlette        `/r/NAME`, `/v1`, `/api`, the route of method and path
       → answering.py     the body within MaxBodySize, the munge credential
       → native.py, qrmi.py, onprem.py …   decode, ask the service, encode
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Mount, Router
from starlette.types import ASGIApp

from qpud.api import (
    cloud,
    cloud_devices,
    cloud_jobs,
    native,
    native_admin,
    native_batches,
    onprem,
    operation,
    qrmi,
    qrmi_accounting,
)
from qpud.api.auth import Authenticator
from qpud.api.errors import COME_BACK, Refusals, jsend, plain
from qpud.api.links import Links
from qpud.api.middleware import Measured, PlainPaths
from qpud.api.parts import Parts
from qpud.api.route import Route, starlette_routes
from qpud.api.waits import Waits

if TYPE_CHECKING:
    from qpud.service import Service
    from qpud.telemetry.metrics import Metrics

NATIVE = (*native.ROUTES, *native_batches.ROUTES, *native_admin.ROUTES)
WARDEN = (*qrmi.ROUTES, *qrmi_accounting.ROUTES)
CORE_FAST = (*cloud.ROUTES, *cloud_jobs.ROUTES, *cloud_devices.ROUTES)
ACCOUNT, TOKEN = cloud_devices.ACCOUNT_ROUTES, cloud_devices.TOKEN_ROUTES
ROUTES: tuple[Route, ...] = (
    *NATIVE,
    *WARDEN,
    *onprem.ROUTES,
    *CORE_FAST,
    *ACCOUNT,
    *TOKEN,
    *operation.ROUTES,
)


class App(Starlette):
    """The ASGI application.

    Args:
        parts: What endpoints use.
        max_body_size: Gives MaxBodySize in bytes; a reload may change it.
    """

    def __init__(self, parts: Parts, max_body_size: Callable[[], int]) -> None:
        self._parts = parts
        refusals, in_jsend = Refusals(plain, ROUTES), Refusals(jsend, ROUTES)
        routes = partial(starlette_routes, parts=parts, body_limit=max_body_size)
        router = partial(Router, redirect_slashes=False)
        of_cloud = Refusals(jsend, ROUTES, COME_BACK)

        def mounted(path: str, table: Iterable[Route], refusals: Refusals) -> Mount:
            layer = Middleware(ExceptionMiddleware, refusals.expected | {Exception: refusals.bug})
            return Mount(path, router(routes(table, mount=path)), middleware=[layer])

        dialects = [
            Mount("/v1", router(routes(NATIVE, mount="/v1"))),
            mounted("/api", onprem.ROUTES, in_jsend),
            mounted("/core-fast", CORE_FAST, of_cloud),
            mounted("/account", ACCOUNT, of_cloud),
            *routes((*WARDEN, *TOKEN, *operation.ROUTES)),
        ]
        often = routes(route for route in ROUTES if route.often)
        super().__init__(routes=[*often, Mount("/r/{resource}", router([*often, *dialects])), *dialects])
        self.router.redirect_slashes = False  # PlainPaths has seen to slashes
        self._refusals = refusals

    def build_middleware_stack(self) -> ASGIApp:
        """Ours: Starlette's has a layer more, which answers bugs, then raises them again for the server to log."""
        refusals = self._refusals.expected | {Exception: self._refusals.bug}
        return PlainPaths(Measured(ExceptionMiddleware(self.router, refusals), self._parts.metrics))

    def release_waits(self) -> None:
        """Answer all held requests now: the server stops."""
        self._parts.waits.release()


def create_app(
    service: Service,
    authenticator: Authenticator,
    metrics: Metrics,
    max_body_size: Callable[[], int],
    links: Links | None = None,
) -> App:
    """Put the HTTP layer together.

    Args:
        service: The verbs.
        authenticator: Who tells who is calling.
        metrics: Where requests are counted.
        max_body_size: Gives MaxBodySize in bytes.
        links: Makes links to results; None: of a secret that ends with the process.
    """
    parts = Parts(
        service=service,
        authenticator=authenticator,
        metrics=metrics,
        waits=Waits(),
        routes=ROUTES,
        links=links or Links(secrets.token_bytes()),
    )
    metrics.routes((route.path, route.method) for route in ROUTES)
    return App(parts, max_body_size)
