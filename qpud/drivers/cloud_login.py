"""Who we are in the cloud: a token fetched with the credentials of a file, kept until shortly before it expires.

The file holds `name = value` lines, as `~/.pasqal/config` does: username and password, or client_id and client_secret;
client_id, realm, audience and grant_type where they are not those of Pasqal's cloud in France. Nobody but the daemon
may read it. What it holds is never quoted, nor is a token.
"""

from __future__ import annotations

import asyncio
import base64
import configparser
import json
import math
import time
from pathlib import Path
from typing import Any

import httpx

from qpud.core.resource import ResourcePolicy
from qpud.drivers.base import Clock
from qpud.drivers.exchange import LIMITS, Answer, Away, Exchange, is_token, read_token
from qpud.drivers.private import private_text

EARLY_SECONDS = 60.0
"""So long before its end a token is replaced, as the SDK does."""
REFUSED_SECONDS = 60.0
"""So long refused credentials are not sent again: identity providers lock accounts."""
MOST_SECONDS = 30 * 86400.0
"""Longest life of a token that is believed."""
PASSWORD = {
    "grant_type": "http://auth0.com/oauth/grant-type/password-realm",
    "realm": "pcs-users",
    "client_id": "PeZvo7Atx7IVv3iel59asJSb4Ig7vuSB",  # public: the SDK's own, for users who log in by password
    "audience": "https://apis.pasqal.cloud/account/api/v1",
}
CLIENT = {"grant_type": "client_credentials", "audience": PASSWORD["audience"]}
_PAIRS = ((("username", "password"), PASSWORD), (("client_id", "client_secret"), CLIENT))


class Login:
    """The token of one resource.

    Args:
        policy: Its AuthUrl and CredentialsFile, or its TokenFile.
        clock: Wall time, for the expiry that a token itself states.
    """

    def __init__(self, policy: ResourcePolicy, clock: Clock) -> None:
        self._name = policy.name
        self._url = policy.auth_url
        self._credentials = policy.credentials_file
        self._token_file = policy.token_file
        self._clock = clock
        self._http = httpx.AsyncClient(timeout=policy.request_timeout, follow_redirects=False, limits=LIMITS)
        self._exchange = Exchange(policy.name, self._http, policy.request_timeout)
        self._token = ""
        self._until = 0.0
        self._renew_from = 0.0
        self._refusal: tuple[float, Away] | None = None
        self._fetching = asyncio.Lock()

    async def close(self) -> None:
        """Close the connections."""
        await self._exchange.close()

    async def token(self) -> str:
        """A token that is still good. Raises: Away, never sent."""
        async with self._fetching:
            if not self._token or time.monotonic() >= self._until:
                await self._fetch()
            return self._token

    async def renew(self, refused: str) -> bool:
        """The API refused this token: get another one; returns whether there is one. Raises: Away.

        Not more often than every REFUSED_SECONDS: if the API refuses fresh tokens too, one more does not help.
        """
        async with self._fetching:
            if self._token == refused and time.monotonic() >= self._renew_from:
                self._renew_from = time.monotonic() + (REFUSED_SECONDS if self._token_file is None else 0.0)
                await self._fetch()
            return self._token != refused

    async def _fetch(self) -> None:
        if self._token_file is not None:
            self._token, self._until = await read_token(self._name, self._token_file), math.inf
            return
        if self._refusal is not None and time.monotonic() < self._refusal[0]:
            raise self._refusal[1]
        form = await asyncio.to_thread(_form, self._name, self._credentials)
        answer = await self._post(form)
        if not answer.ok:
            words = answer.content.get("error_description") or answer.content.get("error") or answer.reason
            away = self._away(
                f"AuthUrl refuses the credentials of CredentialsFile: {answer.status} {str(words)[:200]}"
            )
            self._refusal = (time.monotonic() + REFUSED_SECONDS, away)
            raise away
        self._take(answer.content)

    async def _post(self, form: dict[str, str]) -> Answer:
        request = self._http.build_request("POST", str(self._url), data=form)
        try:
            return self._exchange.read("POST of the login", *await self._exchange.send(request))
        except Away as away:  # whatever was to follow was never sent
            raise Away(away.message, sent=False) from None

    def _take(self, content: dict[str, Any]) -> None:
        token = content.get("access_token")
        if not isinstance(token, str) or not is_token(token):
            raise self._away("AuthUrl answers without an access_token")
        self._refusal = None
        life = _number(content.get("expires_in")) or _life(token, self._clock())
        self._token = token
        early = EARLY_SECONDS if life > 2 * EARLY_SECONDS else life / 2
        self._until = time.monotonic() + min(life, MOST_SECONDS) - early

    def _away(self, words: str) -> Away:
        return Away(f"resource {self._name}: {words}", sent=False)


def _form(name: str, path: Path | None) -> dict[str, str]:
    """What is posted to AuthUrl. Raises: Away, with a sentence that quotes nothing of the file."""
    found = _entries(name, path)
    for needed, defaults in _PAIRS:
        if all(found.get(one) for one in needed):
            known = {*defaults, *needed}
            return {**defaults, **{key: value for key, value in found.items() if key in known}}
    message = "holds neither username and password nor client_id and client_secret"
    raise Away(f"resource {name}: CredentialsFile {path} {message}", sent=False)


def _entries(name: str, path: Path | None) -> dict[str, str]:
    what = f"resource {name}: CredentialsFile {path}"
    parser = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#",), default_section="")
    try:
        parser.read_string("[credentials]\n" + private_text(path or Path()))
    except OSError as error:
        raise Away(f"{what}: {error.strerror or error}", sent=False) from error
    except (configparser.Error, ValueError):  # their words would quote a line
        raise Away(f"{what} cannot be read: it needs lines such as username = …", sent=False) from None
    return dict(parser["credentials"])


def _number(value: Any) -> float:
    """A life in seconds; 0 if none is told that can be one."""
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):  # an integer of 400 digits is no float
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _life(token: str, now: float) -> float:
    """Seconds until the `exp` of a JWT; MOST_SECONDS for other tokens, which a 401 ends."""
    try:
        part = token.split(".")[1]
        ends = _number(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["exp"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return MOST_SECONDS
    return max(1.0, ends - now) if ends else MOST_SECONDS
