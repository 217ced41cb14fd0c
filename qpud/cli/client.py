"""HTTP to the daemon, over its Unix socket or TCP, with the standard library only: client verbs must start fast.

Proxies are never used: the credential is for the daemon alone. Redirects are not followed.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from qpud.cli.credential import munge_credential
from qpud.cli.exits import Exit, Stop
from qpud.cli.locate import Place

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0  # on top of ?wait=

Connect = Callable[[], http.client.HTTPConnection]


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Open the socket instead of a TCP connection."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_SECONDS)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.close()
            raise


class Refusal(Stop):
    """The daemon answered with an error.

    Args:
        status: The HTTP status.
        code: qpud's own word for it, as in `core/errors.py`.
        message: The daemon's sentence.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        exits = {401: Exit.NOT_ALLOWED, 403: Exit.NOT_ALLOWED, 404: Exit.NOT_FOUND}
        super().__init__(message, exits.get(status, Exit.FAILED))
        self.status = status
        self.reason_code = code


class Lost(Stop):
    """The connection broke after the request may have reached the daemon."""

    def __init__(self, place: Place, why: OSError | http.client.HTTPException) -> None:
        detail = str(why) or type(why).__name__
        super().__init__(f"the connection to the daemon at {place} was lost: {detail}", Exit.NO_DAEMON)


class Client:
    """One caller's way to one daemon; keeps its connection between calls.

    Args:
        where: The addresses to try; the first that answers is kept.
        token: A session token, sent as Bearer over TCP; on the Unix socket the peer credential says more.
    """

    def __init__(self, where: Sequence[Place], token: str | None = None) -> None:
        self._where = where
        self._token = token
        self._munge = False
        self._open: tuple[Place, http.client.HTTPConnection] | None = None

    @property
    def token(self) -> str | None:
        """The session token given, or None."""
        return self._token

    @property
    def place(self) -> Place:
        """The address that answers. Raises: Stop (NO_DAEMON)."""
        return self._connected()[0]

    def get(self, path: str, query: Mapping[str, Any] | None = None, wait: float = 0.0) -> Any:
        """GET and decode; `wait` seconds are asked for as ?wait= and granted on top of the usual timeout."""
        asked = dict(query or {}) | ({"wait": f"{wait:g}"} if wait else {})
        return self.call("GET", path, query=asked, wait=wait)

    def post(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """POST a JSON body (or none) and decode the answer."""
        return self.call("POST", path, body=body, headers=headers)

    def delete(self, path: str) -> Any:
        """DELETE and decode the answer."""
        return self.call("DELETE", path)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        wait: float = 0.0,
    ) -> Any:
        """Send one request.

        Returns:
            The decoded JSON answer.

        Raises:
            Stop: No daemon answers at any of the addresses (NO_DAEMON).
            Lost: The connection broke; the daemon may or may not have acted.
            Refusal: It answered with an error.
        """
        try:
            return self._call(method, path, query, body, headers, wait)
        except Refusal as refusal:
            if refusal.status != 401 or not self._may_try_munge():
                raise
            self._munge = True
            return self._call(method, path, query, body, headers, wait)

    def _may_try_munge(self) -> bool:
        """A credential is made only for a daemon that asks for one; a 401 did nothing, so asking again is safe."""
        return self.place.socket is None and not self._token and not self._munge and munge_credential() is not None

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str] | None,
        wait: float,
    ) -> Any:
        place, connection = self._connected()
        if connection.sock is not None:
            connection.sock.settimeout(ANSWER_SECONDS + wait)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # a body too large is refused before all is read
                target, sent = _target(place, path, query), self._headers(place, body, headers)
                connection.request(method, target, _encode(body), sent)
            answer = connection.getresponse()
            raw = answer.read()
        except (OSError, http.client.HTTPException) as why:
            self.close()
            raise Lost(place, why) from why
        if answer.will_close:
            self.close()
        return _decode(place, answer.status, raw)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._open:
            self._open[1].close()
        self._open = None

    def _headers(self, place: Place, body: Any, extra: Mapping[str, str] | None) -> dict[str, str]:
        headers = {"Accept": "application/json", **(extra or {})}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token and place.socket is None:
            headers["Authorization"] = f"Bearer {self._token}"
        if self._munge:
            headers["X-Munge-Cred"] = munge_credential() or ""
        return headers

    def _connected(self) -> tuple[Place, http.client.HTTPConnection]:
        if self._open is None:
            self._open = _first_that_answers(self._where)
        return self._open


def segment(name: str) -> str:
    """Quote a name for use as one part of a path."""
    return quote(name, safe="")


def _first_that_answers(where: Sequence[Place]) -> tuple[Place, http.client.HTTPConnection]:
    failures = []
    for place in where:
        connection = _connection(place)
        try:
            connection.connect()
        except OSError as why:
            connection.close()
            failures.append((place, why))
        else:
            return place, connection
    raise Stop(_nobody(failures), Exit.NO_DAEMON)


def _connection(place: Place) -> http.client.HTTPConnection:
    if place.socket is not None:
        return _UnixConnection(str(place.socket))
    parts = urlsplit(place.url or "")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=CONNECT_SECONDS)


def _nobody(failures: Sequence[tuple[Place, OSError]]) -> str:
    looked = "\n".join(f"  {place}: {why.strerror or why}" for place, why in failures)
    is_shut = any(place.socket is not None and isinstance(why, PermissionError) for place, why in failures)
    first = (
        "Ask the administrator to let you in (SocketGroup, SocketMode)"
        if is_shut
        else "Start one with `qpud serve --dev`"
    )
    return (
        f"no qpud daemon answers; looked at\n{looked}\n"
        f"{first}, or name one with --socket PATH or --url URL (QPUD_SOCKET, QPUD_URL)."
    )


def _target(place: Place, path: str, query: Mapping[str, Any] | None) -> str:
    prefix = urlsplit(place.url).path.rstrip("/") if place.url else ""
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return prefix + path + (f"?{urlencode(given, doseq=True)}" if given else "")


def _encode(body: Any) -> bytes | None:
    return None if body is None else json.dumps(body).encode()


def _decode(place: Place, status: int, raw: bytes) -> Any:
    try:
        data = json.loads(raw)
    except ValueError:
        raise Stop(f"{place} answered {status} without JSON: this is not a qpud daemon", Exit.NO_DAEMON) from None
    if status < 300:
        return data
    said = data if isinstance(data, dict) else {}
    detail = said.get("detail") or f"the daemon answered {status}"
    raise Refusal(status, str(said.get("code", "")), str(detail))
