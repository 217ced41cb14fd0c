"""The cloud dialect's devices, projects and tokens."""

from __future__ import annotations

import asyncio
from functools import partial
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from qpud.api.bodies import decode, decoder_of
from qpud.api.cloud import V1
from qpud.api.cloud_names import NO_ACCOUNT, device_type, named_resources, project_id, resource_of
from qpud.api.cloud_wire import DeviceLine, DeviceQuery, DeviceSpecs, Envelope, Project, TokenReply
from qpud.api.parts import Parts
from qpud.api.query import read_query
from qpud.api.reply import Json
from qpud.api.route import Dialect, Route
from qpud.core import verbs
from qpud.core.errors import BadRequest, Unauthenticated, Unavailable

LONGEST_TOKEN_SECONDS = 86_400
MOST_FIELDS = 50
_SECRETS = ("password", "client_secret", "refresh_token")
_json_form = decoder_of(dict[str, str | None])


class OAuthError(msgspec.Struct, frozen=True):
    """A refusal as RFC 6749 wants it."""

    error: str
    error_description: str


async def devices(parts: Parts, request: Request) -> Response:
    """Whether devices take work now."""
    asked, policy = read_query(request, DeviceQuery).device_type, parts.service.policy
    names = list(policy.resources)
    if asked is not None:
        names = named_resources(policy, asked) or [parts.service.resource_name(asked)]
    return Json(Envelope(data=[await _device(parts, name) for name in names]))


async def _device(parts: Parts, name: str) -> DeviceLine:
    is_up, _message = await parts.service.accessible(name)
    words = ("UP", "ACTIVE") if is_up else ("DOWN", "INACTIVE")
    return DeviceLine(device_type(parts.service.policy, name), *words)


async def public_specs(parts: Parts, _request: Request) -> Response:
    """The specs of all devices, to anybody."""
    return Json(Envelope(data=await _all_specs(parts)))


async def all_specs(parts: Parts, request: Request) -> Response:
    """The specs of all devices, as JSON texts by device type."""
    parts.caller(request)
    session = parts.session_ref(request)
    return Json(Envelope(data={one.device_type: one.specs for one in await _all_specs(parts, session)}))


async def one_spec(parts: Parts, request: Request) -> Response:
    """The spec of one device."""
    parts.caller(request)
    name = await resource_of(parts, request, request.path_params["device"], None)
    spec = await parts.service.spec(name, parts.session_ref(request))  # waits for a first one; its absence is told
    return Json(Envelope(data=DeviceSpecs(device_type(parts.service.policy, name), spec.text)))


async def _all_specs(parts: Parts, session: str | None = None) -> list[DeviceSpecs]:
    """Those that are known, or come soon as just after a start; a device that is down keeps nobody waiting."""
    views = await parts.service.resources()
    asked = [_spec(parts, view.name, session) for view in views if view.spec_hash or view.state == "up"]
    return [found for found in await asyncio.gather(*asked) if found is not None]


async def _spec(parts: Parts, name: str, session: str | None) -> DeviceSpecs | None:
    try:
        spec = await parts.service.spec(name, session)
    except Unavailable:
        return None
    return DeviceSpecs(device_type(parts.service.policy, name), spec.text)


async def projects(parts: Parts, request: Request) -> Response:
    """The accounts of the caller's open sessions, that of his token first."""
    who = parts.caller(request)
    sessions = await parts.service.list_sessions(who, verbs.SessionFilter(user_id=who.user_id, active=True))
    sessions.sort(key=lambda session: session.id != who.session_id)
    accounts = dict.fromkeys(session.account or NO_ACCOUNT for session in sessions)
    return Json(Envelope(data=[Project(project_id(account), account) for account in accounts]))


async def token(parts: Parts, request: Request) -> Response:
    """Exchange a session token for itself: as password, client secret or refresh token, with the time it still has."""
    found = next((value for value in map(_form(await request.body()).get, _SECRETS) if value), None)
    if found is None:
        words = f"none of {', '.join(_SECRETS)} is there: send a session token as one of them"
        return Json(OAuthError("invalid_request", words), 400)
    try:
        who = parts.service.identify_token(found)
    except Unauthenticated as refusal:
        return Json(OAuthError("invalid_grant", refusal.message), 401)
    session = await parts.service.get_session(who, found)
    left = min(LONGEST_TOKEN_SECONDS, session.expires_at - parts.clock())
    return Json(TokenReply(access_token=found, expires_in=max(1, int(left))), headers={"cache-control": "no-store"})


def _form(body: bytes) -> dict[str, str | None]:
    if body.lstrip().startswith(b"{"):
        found: dict[str, str | None] = decode(_json_form, body)
        return found
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=MOST_FIELDS))
    except ValueError:
        raise BadRequest(f"the body is no form of at most {MOST_FIELDS} fields") from None


route = partial(Route, dialect=Dialect.CLOUD)

ROUTES = (
    route(
        method="GET",
        path=f"{V1}/devices",
        endpoint=devices,
        query=DeviceQuery,
        reply=Envelope[list[DeviceLine]],
        public=True,
    ),
    route(
        method="GET",
        path=f"{V1}/devices/public-specs",
        endpoint=public_specs,
        reply=Envelope[list[DeviceSpecs]],
        public=True,
    ),
    route(method="GET", path=f"{V1}/devices/specs", endpoint=all_specs, reply=Envelope[dict[str, str]]),
    route(method="GET", path=f"{V1}/devices/specs/{{device}}", endpoint=one_spec, reply=Envelope[DeviceSpecs]),
)

ACCOUNT_ROUTES = (
    route(method="GET", path="/account/api/v1/projects", endpoint=projects, reply=Envelope[list[Project]]),
)

TOKEN_ROUTES = (route(method="POST", path="/oauth/token", endpoint=token, reply=TokenReply, public=True),)
