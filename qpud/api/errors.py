"""The one table from error codes to HTTP statuses, and the bodies that each dialect's clients can read.

A body is `{"detail": sentence, "code": code}`; released clients show it verbatim. The on-prem and the cloud dialect
add the JSend fields around it. Each form is a set of handlers for Starlette's ExceptionMiddleware.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from qpud.api.reply import Json
from qpud.core import errors

if TYPE_CHECKING:
    from qpud.api.route import Route

log = logging.getLogger(__name__)
WRONG_METHOD = 405


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
    WrongMethod.code: WRONG_METHOD,
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


COME_BACK: dict[str, int] = STATUS | {errors.Unavailable.code: 502}
"""The cloud dialect's: its released clients give up at 503, and try again after 502."""

Form = Callable[[int, errors.QpudError], msgspec.Struct]


def plain(_status: int, error: errors.QpudError) -> ErrorBody:
    """The body of a refusal everywhere but in the on-prem dialect."""
    return ErrorBody(error.message, error.code)


def jsend(status: int, error: errors.QpudError) -> JsendError:
    """The body of a refusal in the on-prem dialect."""
    kind = "fail" if status < 500 else "error"
    return JsendError(kind, str(status), error.message, error.message, {"description": error.message})


class Refusals:
    """Starlette's exception handlers for one form of body.

    Args:
        form: `plain` or `jsend`.
        table: The route table, to name the right methods beside a wrong one.
        statuses: By error code.
    """

    def __init__(self, form: Form, table: Iterable[Route], statuses: Mapping[str, int] = STATUS) -> None:
        self._statuses = statuses
        self._form = form
        self._table = tuple(table)

    @property
    def expected(self) -> dict[Any, ExceptionHandler]:
        """What is told to the client as it is: our errors, and Starlette's 404 and 405."""
        return {errors.QpudError: self.refused, HTTPException: self.unrouted}

    async def refused(self, _request: Request, error: Exception) -> Response:
        """The answer to a QpudError."""
        assert isinstance(error, errors.QpudError)  # noqa: S101  Starlette's handlers take any Exception
        status = self._statuses[error.code]
        return Json(self._form(status, error), status, headers=_headers(error))

    async def unrouted(self, request: Request, error: Exception) -> Response:
        """The answer to Starlette's 404 and 405."""
        assert isinstance(error, HTTPException)  # noqa: S101  as above
        if error.status_code != WRONG_METHOD:
            return await self.refused(request, errors.NotFound(f"there is nothing at {request.scope['path'][:200]}"))
        template = request.scope["route"].name
        allowed = sorted(route.method for route in self._table if route.path == template)
        return await self.refused(request, WrongMethod(request.method, allowed))

    async def bug(self, request: Request, error: Exception) -> Response:
        """The answer to anything else: a reference for the user, everything else once in the log."""
        reference = secrets.token_hex(4)
        log.error("internal error", exc_info=error, extra={"reference": reference, "route": request.scope["path"]})
        return await self.refused(request, errors.QpudError(f"internal error, reference {reference}"))


def _headers(error: errors.QpudError) -> dict[str, str] | None:
    if isinstance(error, WrongMethod):
        return {"allow": ", ".join(error.allowed)}
    if isinstance(error, errors.Unauthenticated):
        return {"www-authenticate": 'Bearer realm="qpud"'}
    if isinstance(error, errors.TooManyRequests):
        return {"retry-after": "1"}
    if isinstance(error, errors.TooLarge):
        return {"connection": "close"}  # do not read the rest only to throw it away
    return None
