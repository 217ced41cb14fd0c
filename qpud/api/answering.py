"""One line of the route table as an ASGI application: body, credential, endpoint, answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

if TYPE_CHECKING:
    from qpud.api.bodies import Bodies
    from qpud.api.parts import Parts
    from qpud.api.route import Endpoint


class WholeRequest(Request):
    """A request whose body, if its route takes one, has been read.

    Attributes:
        whole: The body, inflated.
    """

    whole = b""

    async def body(self) -> bytes:
        """The body."""
        return self.whole


class Answering:
    """Reads the body, has the munge credential decoded, asks the endpoint, sends its answer; errors pass.

    Args:
        endpoint: Gets a request of which all that has to be waited for is there.
        parts: What it uses.
        bodies: Reads the body; None where none is taken.
    """

    def __init__(self, endpoint: Endpoint, parts: Parts, bodies: Bodies | None) -> None:
        self._endpoint = endpoint
        self._parts = parts
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = WholeRequest(scope, receive)
        if self._bodies is not None:
            request.whole = await self._bodies.read(request.headers, receive)
        await self._parts.authenticator.prove(request)
        answer = await self._endpoint(self._parts, request)
        await answer(scope, receive, send)
