"""HTTP with a QPU's API, on-prem or in the cloud: one request, one honest answer (facts/CONTRACTS.md §4, §8).

Answers come as JSend, `{"code", "message", "data", "status"}`, sometimes with an error inside of HTTP 200. Redirects
are never followed, so credentials stay with the configured host; answers beyond MAX_BODY are not read to the end.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec

from qpud.drivers.base import Unreachable

TRIES = 3
"""How often a GET is tried."""
RETRY_SECONDS = 0.2
"""Pause before the second try; doubled for the third."""
MAX_BODY = 32 << 20
"""Bytes of an answer, decompressed; larger ones are not read to the end."""
KEEPALIVE_SECONDS = 4.0
"""Idle connections are dropped before uvicorn's 5 s do it: a POST must not meet a dying connection."""
LIMITS = httpx.Limits(max_connections=4, keepalive_expiry=KEEPALIVE_SECONDS)
TOO_MANY = 429
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""Maybe half a character, which JSON can hold and no database, socket or log takes."""
_TOKEN = re.compile(r"[!-~]+")  # visible ASCII


class Away(Unreachable):
    """No usable answer.

    Args:
        message: One sentence.
        sent: False if the request certainly never left.
        answered: True if there was an answer, but not one of the API: nothing is under way any more.
        status: The HTTP status of that answer, 0 if none is known.
    """

    def __init__(self, message: str, *, sent: bool, answered: bool = False, status: int = 0) -> None:
        super().__init__(message)
        self.sent = sent
        self.answered = answered
        self.status = status


class _TooLarge(Exception):
    """More than MAX_BODY."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of the API: `data` of a success, or the status and reason of a refusal (4xx)."""

    status: int
    data: Any = None
    reason: str = ""
    content: dict[str, Any] = {}

    @property
    def ok(self) -> bool:
        """Whether it is a success."""
        return self.status < 400

    @property
    def unknown(self) -> bool:
        """Whether the API says that it has no such object: 404, or the mock's bare 400."""
        return self.status in (400, 404)


class Exchange:
    """Sends requests of one resource and reads what comes back.

    Args:
        name: The resource, for messages.
        http: Its pooled connections; closed by `close`.
        timeout: Seconds for one whole request.
    """

    def __init__(self, name: str, http: httpx.AsyncClient, timeout: float) -> None:
        self._name = name
        self._http = http
        self._timeout = timeout

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request of the API, with a JSON body unless that is None. Raises: Away."""
        content = None if body is None else json.dumps(body).encode()
        more = {"Content-Type": "application/json"} if content is not None else {}
        request = self._http.build_request(
            method, path, params=params or None, content=content, headers={**(headers or {}), **more}
        )
        return self.read(f"{method} {path}", *await self.send(request))

    async def send(self, request: httpx.Request) -> tuple[int, str, bytes]:
        """Send; returns status, Location header and body. Raises: Away."""
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
        except _TooLarge as error:
            raise Away(f"{what}: no usable answer: {error}", sent=True, answered=True) from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Away(f"{what}: no usable answer: {_words(error)}", sent=True) from error
        return response.status_code, response.headers.get("location", ""), raw

    def read(self, what: str, status: int, where: str, raw: bytes) -> Answer:
        """The answer in what was sent back. Raises: Away if it is none of the API."""
        what = f"resource {self._name}: {what}"
        if 300 <= status < 400:
            host = where.split("?")[0][:200]
            message = f"{what} is redirected to {host}, which is not followed: check its Url"
            raise Away(message, sent=True, answered=True, status=status)
        content = _object(raw)
        if content is not None and status < 400:
            status = _inner_code(content) or status
        reason = _reason(content)
        if status >= 500 or status < 200 or status == TOO_MANY:  # 429: come back later
            late = status == 504  # a proxy gave up: the QPU may still be at it
            message = f"{what} answered {status}{': ' + reason if reason else ''}"
            raise Away(message, sent=True, answered=not late, status=status)
        if content is None:
            message = f"{what} answered {status} with {_kind(raw)} instead of JSON: check its Url"
            raise Away(message, sent=True, answered=True, status=status)
        return Answer(status=status, data=content.get("data"), reason=reason, content=content)


async def patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask TRIES times what may be asked twice: a GET. Raises: Away."""
    for attempt in range(TRIES - 1):
        try:
            return await ask()
        except Away:
            await asyncio.sleep(RETRY_SECONDS * 2**attempt)
    return await ask()


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token; none for an empty one."""
    return {"Authorization": f"Bearer {token}"} if token else {}


async def read_token(name: str, path: Path) -> str:
    """The token in a TokenFile. Raises: Away, with a sentence that does not quote it."""
    try:
        token = (await asyncio.to_thread(path.read_text)).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Away(f"resource {name}: TokenFile {path}: {error}", sent=False) from error
    if not is_token(token):  # and the header's own complaint would quote it
        raise Away(f"resource {name}: TokenFile {path} holds no token: one word", sent=False)
    return token


def is_token(token: object) -> bool:
    """Whether it may stand in a header: one word of visible ASCII."""
    return isinstance(token, str) and _TOKEN.fullmatch(token) is not None


async def _body(response: httpx.Response) -> bytes:
    raw = bytearray()
    async for part in response.aiter_bytes():
        raw += part
        if len(raw) > MAX_BODY:
            raise _TooLarge(f"more than {MAX_BODY >> 20} MiB")
    return bytes(raw)


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(raw)
        if _HALF.search(raw):
            content = json.loads(json.dumps(content, ensure_ascii=False).encode(errors="replace"))
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
