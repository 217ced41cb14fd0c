"""One line of the route table as an ASGI application: body, credential, endpoint, answer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from qpud.core.errors import QpudError

if TYPE_CHECKING:
    from qpud.api.bodies import Bodies
    from qpud.api.parts import Parts
    from qpud.api.route import Endpoint, Foresee


class WholeRequest(Request):
    """A request whose body, if its route takes one, has been read.

    Attributes:
        whole: The body, inflated.
        foreseen: What its route's `foresee` returned; None if it was not called or refused the body.
    """

    whole = b""
    foreseen: Any = None

    async def body(self) -> bytes:
        """The body."""
        return self.whole


LARGEST_FORESEEN = 16 << 10  # bytes of a body; looking at it costs no more than munged's look at the credential


class Answering:
    """Reads the body, has the munge credential decoded, asks the endpoint, sends its answer; errors pass.

    Args:
        endpoint: Gets a request of which all that has to be waited for is there.
        parts: What it uses.
        bodies: Reads the body; None where none is taken.
        foresee: Does what of the endpoint's work needs no identity, while munged is asked; None if there is none.
    """

    def __init__(
        self, endpoint: Endpoint, parts: Parts, bodies: Bodies | None, foresee: Foresee | None = None
    ) -> None:
        self._endpoint = endpoint
        self._parts = parts
        self._bodies = bodies
        self._foresee = foresee

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = WholeRequest(scope, receive)
        if self._bodies is not None:
            request.whole = await self._bodies.read(request.headers, receive)
        await self._parts.authenticator.prove(request, lambda: self._look_ahead(request))
        answer = await self._endpoint(self._parts, request)
        await answer(scope, receive, send)

    def _look_ahead(self, request: WholeRequest) -> None:
        """Nobody has proved who he is yet: a body that is refused is refused by the endpoint, which reads it again."""
        if self._foresee is not None and len(request.whole) <= LARGEST_FORESEEN:
            with contextlib.suppress(QpudError):
                request.foreseen = self._foresee(self._parts, request)
