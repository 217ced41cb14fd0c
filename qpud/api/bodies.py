"""Request bodies: read within the limit, inflate within the limit, decode with a readable complaint.

Starlette's own body limit is fixed at start, knows no Content-Encoding and answers in plain text.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from starlette.datastructures import Headers
from starlette.types import Message, Receive

from qpud.core.errors import BadRequest, Invalid, TooLarge, Unavailable

T = TypeVar("T")
MOST_ARRIVING = 64 << 20  # bytes of all unfinished bodies, or four of MaxBodySize: nobody has proved who he is yet
WINDOW = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's wbits of each Content-Encoding


class Arriving:
    """The bytes of all bodies that are not whole yet."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0


class Bodies:
    """Reads the bodies of all routes: each whole, inflated and within MaxBodySize.

    Args:
        limit: Gives MaxBodySize in bytes; a reload may change it.
        arriving: What arrives now.
    """

    def __init__(self, limit: Callable[[], int], arriving: Arriving) -> None:
        self._limit = limit
        self._arriving = arriving

    async def read(self, headers: Headers, receive: Receive) -> bytes:
        """The body. Raises: as `read_body`; Unavailable when too much arrives at once."""
        limit, arriving, mine = self._limit(), self._arriving, 0

        async def counted() -> Message:
            nonlocal mine
            message = await receive()
            size = len(message.get("body", b""))
            mine += size
            arriving.size += size
            if arriving.size > max(MOST_ARRIVING, 4 * limit):
                raise Unavailable("too many request bodies arrive at once: try again")
            return message

        try:
            return await read_body(headers, counted, limit)
        finally:
            arriving.size -= mine


async def read_body(headers: Headers, receive: Receive, limit: int) -> bytes:
    """The whole body, inflated.

    Args:
        headers: The request's.
        receive: The request's; nothing of its body has been read.
        limit: MaxBodySize in bytes, for the body as sent and as inflated.

    Raises:
        TooLarge: By Content-Length, while reading, or while inflating.
        BadRequest: An unknown Content-Encoding, damaged data, or the client stopped sending.
    """
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:19]) > limit:
        raise _too_large(f"of {int(announced[:19])} bytes", limit)
    body = await _joined(receive, limit)
    encoding = headers.get("content-encoding")
    return body if encoding is None else inflate(body, encoding.strip().lower(), limit)


async def _joined(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        chunk, more = await _chunk(receive)
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise _too_large("as sent", limit)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _chunk(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise BadRequest("the connection was closed in the middle of the body")
    return message.get("body", b""), message.get("more_body", False)


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a Content-Encoding, never producing more than `limit` bytes.

    Raises:
        TooLarge: The inflated body exceeds the limit: a "gzip bomb" stops here.
        BadRequest: Not gzip or deflate, or damaged or cut short.
    """
    if encoding in ("identity", ""):
        return body
    if encoding not in WINDOW:
        raise BadRequest(f"Content-Encoding {encoding[:30]!r} is unknown: send gzip, deflate or identity")
    inflater = zlib.decompressobj(WINDOW[encoding])
    try:
        inflated = inflater.decompress(body, limit + 1)
    except zlib.error:
        raise BadRequest(f"the body is not valid {encoding}") from None
    if len(inflated) > limit:
        raise _too_large("once inflated", limit)
    if not inflater.eof or inflater.unused_data:
        raise BadRequest(f"the {encoding} body is cut short or has a tail")
    return inflated


def _too_large(how: str, limit: int) -> TooLarge:
    return TooLarge(f"the body {how} exceeds MaxBodySize {limit} bytes")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a JSON body.

    Raises:
        BadRequest: Not JSON (NaN is not), not UTF-8, or nested too deeply to read.
        Invalid: JSON, but not of the expected form.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Invalid(f"the body is not valid: {_readable(error)}") from None
    except msgspec.DecodeError as error:
        raise BadRequest(_malformed(body, error)) from None
    except UnicodeDecodeError:
        raise BadRequest("the body is not UTF-8") from None
    except RecursionError:  # msgspec counts its depth and unwinds cleanly; no type of ours is recursive
        raise BadRequest("the body is nested too deeply") from None


def _readable(error: Exception) -> str:
    said, _, where = str(error).replace("`", "").partition(" - at ")
    field = where.removeprefix("$").removeprefix(".")
    said = said[:1].lower() + said[1:]
    return f"{said}, in {field}" if field else said


def _malformed(body: bytes, error: Exception) -> str:
    if not body.strip():
        return "the body is empty, JSON is expected"
    return f"the body is not JSON: {str(error).removeprefix('JSON is malformed: ')}"


def optional(decoder: msgspec.json.Decoder[T], body: bytes, default: T) -> T:
    """Decode a body that may be left out. Raises: as `decode`."""
    return decode(decoder, body) if body else default


def decoder_of(shape: Any) -> msgspec.json.Decoder[Any]:
    """A decoder for one wire type, to be made once."""
    return msgspec.json.Decoder(shape)
