"""What looks after the daemon: health, metrics and the OpenAPI document. No credential is asked."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from qpud.api import wire
from qpud.api.openapi import document
from qpud.api.parts import Parts
from qpud.api.reply import Json
from qpud.api.route import Dialect, Route

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


async def healthz(parts: Parts, _request: Request) -> Response:
    """Whether the scheduler is alive: 503 when its loop no longer turns."""
    health = parts.service.health()
    return Json(wire.HealthView(**msgspec.structs.asdict(health)), 200 if health.alive else 503)


async def readyz(parts: Parts, _request: Request) -> Response:
    """Whether submissions are accepted: 503 when nothing can be committed."""
    health = parts.service.health()
    return Json(wire.HealthView(**msgspec.structs.asdict(health)), 200 if health.alive and health.ready else 503)


async def metrics(parts: Parts, _request: Request) -> Response:
    """All series in Prometheus' text format."""
    return Response(parts.metrics.render(), media_type=EXPOSITION)


async def openapi(parts: Parts, _request: Request) -> Response:
    """This API as an OpenAPI 3.1 document."""
    return Json(document(parts.routes))


route = partial(Route, dialect=Dialect.OPERATION, method="GET", public=True)

ROUTES = (
    route(path="/healthz", endpoint=healthz, reply=wire.HealthView),
    route(path="/readyz", endpoint=readyz, reply=wire.HealthView),
    route(path="/metrics", endpoint=metrics, reply=str),
    route(path="/openapi.json", endpoint=openapi, reply=dict[str, Any]),
)
