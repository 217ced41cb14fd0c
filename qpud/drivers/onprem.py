"""The on-prem Pasqal QPU API as an HTTP client (facts/CONTRACTS.md §8): one request, one honest answer.

Answers come as JSend, `{"code", "message", "data", "status"}`, sometimes with an error inside of HTTP 200. GETs are
repeated, nothing else is: a repeated POST /jobs would cancel the job of the first one. Redirects are never followed,
so credentials stay with the configured host.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from qpud.drivers.base import Fault, Unreachable

TRIES = 3
"""How often a GET is tried."""
RETRY_SECONDS = 0.2
"""Pause before the second try; doubled for the third."""
MAX_BODY = 32 << 20
"""Bytes of an answer, decompressed; larger ones are not read to the end."""
_TOKEN = re.compile(r"[!-~]+")  # visible ASCII
KEEPALIVE_SECONDS = 4.0
"""Idle connections are dropped before uvicorn's 5 s do it: a POST must not meet a dying connection."""


class Away(Unreachable):
    """No usable answer.

    Args:
        message: One sentence.
        sent: False if the request certainly never left.
        answered: True if there was an answer, but not one of the API: nothing is under way any more.
    """

    def __init__(self, message: str, *, sent: bool, answered: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.answered = answered


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of the API: `data` of a success, or the status and reason of a refusal (4xx)."""

    status: int
    data: Any = None
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is a success."""
        return self.status < 400

    @property
    def unknown(self) -> bool:
        """Whether the API says that it has no such object: 404, or the mock's bare 400."""
        return self.status in (400, 404)


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
        self._timeout = timeout
        self._http = _http(name, url, timeout, bearer=token_file is not None)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(self, path: str, **params: str) -> Answer:
        """GET, tried TRIES times. Raises: Away."""
        for attempt in range(TRIES - 1):
            try:
                return await self.ask("GET", path, params=params)
            except Away:
                await asyncio.sleep(RETRY_SECONDS * 2**attempt)
        return await self.ask("GET", path, params=params)

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
        try:
            token = (await asyncio.to_thread(self._token_file.read_text)).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Away(f"resource {self._name}: TokenFile {self._token_file}: {error}", sent=False) from error
        if not _TOKEN.fullmatch(token):  # and the header's own complaint would quote it
            raise Away(f"resource {self._name}: TokenFile {self._token_file} holds no token: one word", sent=False)
        new, self._token = token != self._token, token
        return new

    async def _once(self, method: str, path: str, params: dict[str, str] | None, body: Any) -> Answer:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            headers["Content-Type"] = "application/json"
        request = self._http.build_request(method, path, params=params or None, content=content, headers=headers)
        status, where, raw = await self._exchange(request)
        return self._read(f"{method} {path}", status, where, raw)

    async def _exchange(self, request: httpx.Request) -> tuple[int, str, bytes]:
        """Send; returns status, Location header and body."""
        what = f"resource {self._name}: {request.method} {request.url.path}"
        if self._http.is_closed:
            raise Away(f"{what}: the connection is closed", sent=False)
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._http.send(request, stream=True)
                try:
                    raw = await _body(response)
                finally:
                    await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Away(f"{what}: no connection: {_words(error)}", sent=False) from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise Away(f"{what}: no answer within {self._timeout:g} s", sent=True) from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Away(f"{what}: no usable answer: {_words(error)}", sent=True) from error
        return response.status_code, response.headers.get("location", ""), raw

    def _read(self, what: str, status: int, where: str, raw: bytes) -> Answer:
        what = f"resource {self._name}: {what}"
        if 300 <= status < 400:
            host = where.split("?")[0][:200]
            raise Away(
                f"{what} is redirected to {host}, which is not followed: check its Url", sent=True, answered=True
            )
        content = _object(raw)
        if content is not None and status < 400:
            status = _inner_code(content) or status
        reason = _reason(content)
        if status >= 500 or status < 200 or status == 429:  # 429: come back later
            late = status == 504  # a proxy gave up: the QPU may still be at it
            raise Away(f"{what} answered {status}{': ' + reason if reason else ''}", sent=True, answered=not late)
        if content is None:
            raise Away(
                f"{what} answered {status} with {_kind(raw)} instead of JSON: check its Url", sent=True, answered=True
            )
        return Answer(status=status, data=content.get("data"), reason=reason)


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
        limits=httpx.Limits(max_connections=4, keepalive_expiry=KEEPALIVE_SECONDS),
    )


async def _body(response: httpx.Response) -> bytes:
    raw = bytearray()
    async for part in response.aiter_bytes():
        raw += part
        if len(raw) > MAX_BODY:
            raise ValueError(f"more than {MAX_BODY >> 20} MiB")
    return bytes(raw)


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _inner_code(content: dict[str, Any]) -> int | None:
    """The code of an error wrapped in HTTP 200, as the newer mock does."""
    code = content.get("code")
    try:
        number = int(code) if isinstance(code, int | str) else 0
    except ValueError:
        return None
    return number if 400 <= number < 600 else None


def _reason(content: dict[str, Any] | None) -> str:
    """The API's own words for a refusal, one line."""
    if content is None:
        return ""
    data = content.get("data")
    inner = data if isinstance(data, dict) else {}
    words = inner.get("description") or inner.get("message") or content.get("detail") or content.get("message") or ""
    text = words if isinstance(words, str) else json.dumps(words)
    return " ".join(text.split())[:500]


def _kind(raw: bytes) -> str:
    if not raw:
        return "an empty body"
    return "an HTML page" if raw.lstrip()[:1] == b"<" else "text"


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
