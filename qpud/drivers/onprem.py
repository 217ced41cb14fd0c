"""The on-prem Pasqal QPU API as an HTTP client (facts/CONTRACTS.md §8).

GETs are repeated, nothing else is: a repeated POST /jobs would cancel the job of the first one.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from qpud.drivers.base import Fault
from qpud.drivers.exchange import LIMITS, Answer, Exchange, bearer, patiently, read_token


def job_path(uid: str, verb: str = "") -> str:
    """The path of a job, e.g. `/jobs/17/cancel`."""
    return f"/jobs/{quote(uid, safe='')}{verb}"


class OnPremClient:
    """One pooled connection to one QPU.

    Args:
        name: The resource, for messages.
        url: `http://[user:password@]host:port[/prefix]`, with or without `/api/v1` at its end.
        token_file: Holds the Bearer token; read again after a 401.
        timeout: Seconds for one whole request.
    """

    def __init__(self, name: str, url: str, token_file: Path | None, timeout: float) -> None:
        self._name = name
        self._token_file = token_file
        self._token = ""
        self._exchange = Exchange(name, _http(name, url, timeout, bearer=token_file is not None), timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._exchange.close()

    async def get(self, path: str, **params: str) -> Answer:
        """GET, tried several times. Raises: Away."""
        return await patiently(partial(self.ask, "GET", path, params=params))

    async def ask(self, method: str, path: str, *, params: dict[str, str] | None = None, body: Any = None) -> Answer:
        """One request; after a 401 once more with the token as it is in the file now. Raises: Away."""
        await self._read_token(again=False)
        answer = await self._once(method, path, params, body)
        if answer.status != 401 or not await self._read_token(again=True):
            return answer
        return await self._once(method, path, params, body)

    async def _read_token(self, *, again: bool) -> bool:
        """Read the token file if that was not done, or `again`; returns whether the token is a new one."""
        if self._token_file is None or (self._token and not again):
            return False
        token = await read_token(self._name, self._token_file)
        new, self._token = token != self._token, token
        return new

    async def _once(self, method: str, path: str, params: dict[str, str] | None, body: Any) -> Answer:
        return await self._exchange.ask(method, path, params=params, body=body, headers=bearer(self._token))


def _http(name: str, url: str, timeout: float, *, bearer: bool) -> httpx.AsyncClient:
    """The pooled client. The environment's proxies and ~/.netrc are ignored: the QPU is on the site's own network."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise Fault(f"resource {name}: Url cannot be read: {error}") from error
    auth = httpx.BasicAuth(parsed.username, parsed.password) if parsed.userinfo and not bearer else None
    path = parsed.path.rstrip("/")
    if not path.endswith(("/api/v1", "/api/latest")):
        path += "/v1" if path.endswith("/api") else "/api/v1"
    return httpx.AsyncClient(
        base_url=parsed.copy_with(userinfo=b"", path=path, query=None),  # passwords out of logs and messages
        auth=auth,
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
        limits=LIMITS,
    )
