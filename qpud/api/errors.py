"""The one table from error codes to HTTP statuses, and the bodies that each dialect's clients can read.

Outside the cloud dialect a body is `{"detail": sentence, "code": code}`; released clients show it verbatim. The
on-prem dialect adds the JSend fields around it.
"""

from __future__ import annotations

import logging
import secrets

import msgspec

from qpud.api.call import Reply, answer
from qpud.core import errors

log = logging.getLogger(__name__)


class WrongMethod(errors.QpudError):
    """The path exists, but not with this method."""

    code = "method_not_allowed"

    def __init__(self, method: str, allowed: list[str]) -> None:
        super().__init__(f"{method[:20]} is not possible here, only {' and '.join(allowed)}")
        self.allowed = allowed


STATUS: dict[str, int] = {
    errors.QpudError.code: 500,
    errors.BadRequest.code: 400,
    errors.Unauthenticated.code: 401,
    errors.Forbidden.code: 403,
    errors.NotFound.code: 404,
    WrongMethod.code: 405,
    errors.Conflict.code: 409,
    errors.TooLarge.code: 413,
    errors.Invalid.code: 422,
    errors.LimitExceeded.code: 422,
    errors.TooManyRequests.code: 429,
    errors.Unavailable.code: 503,
    errors.StorageFull.code: 507,
}


class ErrorBody(msgspec.Struct, frozen=True):
    """Every refusal: one sentence for people, one word for programs."""

    detail: str
    code: str


class JsendError(msgspec.Struct, frozen=True):
    """A refusal of the on-prem dialect: JSend, with our `detail` beside it."""

    status: str
    code: str
    message: str
    detail: str
    data: dict[str, str] | None = None


def refusal(error: errors.QpudError, *, jsend: bool = False) -> Reply:
    """The answer to a QpudError."""
    status = STATUS[error.code]
    body = _jsend(status, error) if jsend else ErrorBody(error.message, error.code)
    return msgspec.structs.replace(answer(body, status), headers=_headers(error))


def _jsend(status: int, error: errors.QpudError) -> JsendError:
    kind = "fail" if status < 500 else "error"
    return JsendError(kind, str(status), error.message, error.message, {"description": error.message})


def _headers(error: errors.QpudError) -> tuple[tuple[bytes, bytes], ...]:
    if isinstance(error, WrongMethod):
        return ((b"allow", ", ".join(error.allowed).encode()),)
    if isinstance(error, errors.Unauthenticated):
        return ((b"www-authenticate", b'Bearer realm="qpud"'),)
    if isinstance(error, errors.TooManyRequests):
        return ((b"retry-after", b"1"),)
    if isinstance(error, errors.TooLarge):
        return ((b"connection", b"close"),)  # do not read the rest only to throw it away
    return ()


def internal(error: Exception, route: str, *, jsend: bool = False) -> Reply:
    """The answer to a bug: a reference for the user, everything else once in the log."""
    reference = secrets.token_hex(4)
    log.error("internal error", exc_info=error, extra={"reference": reference, "route": route})
    return refusal(errors.QpudError(f"internal error, reference {reference}"), jsend=jsend)
