"""What every endpoint may use: the service, the caller's identity, held requests, and the metrics page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request

from qpud.api.auth import Authenticator
from qpud.api.bodies import Arriving
from qpud.api.links import Links
from qpud.api.waits import Waits
from qpud.core.errors import NotFound
from qpud.core.identity import Identity

if TYPE_CHECKING:
    from qpud.api.route import Route
    from qpud.service import Service
    from qpud.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of the HTTP layer, put together in `app.py`."""

    service: Service
    authenticator: Authenticator
    metrics: Metrics
    waits: Waits
    routes: Sequence[Route]
    links: Links
    clock: Callable[[], float] = time.time
    arriving: Arriving = field(default_factory=Arriving)

    def caller(self, request: Request) -> Identity:
        """Who is calling. Raises: Unauthenticated."""
        return self.authenticator.authenticate(request)

    def session_ref(self, request: Request) -> str | None:
        """The session that the request names, or None."""
        return self.authenticator.session_ref(request.headers)

    def user_name(self, user_id: int) -> str:
        """The name of a uid, or the uid as text."""
        return self.authenticator.user_name(user_id)

    def user_id(self, user: str | int | None) -> int | None:
        """The uid of a user given by name or uid; None stays None.

        Raises:
            NotFound: The system knows no such user.
        """
        if user is None or isinstance(user, int):
            return user
        found = self.authenticator.user_id(user)
        if found is None:
            raise NotFound(f"user {user[:40]!r} does not exist on this system")
        return found

    def user_ids(self, users: Iterable[str]) -> tuple[int, ...]:
        """The uids of users. Raises: NotFound for one that the system does not know."""
        found = (self.user_id(user) for user in users)
        return tuple(user for user in found if user is not None)
