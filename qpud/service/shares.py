"""The verb of shares: who is entitled to what, and who had it, live."""

from __future__ import annotations

from qpud.core.identity import Identity
from qpud.core.session import Session
from qpud.core.shares import Share, shares
from qpud.service.base import Verbs


class ShareVerbs(Verbs):
    """Shares. Everybody sees all parts; the ids of others' sessions are for administrators."""

    async def shares(self, who: Identity, resource: str | None) -> list[Share]:
        """Contenders of one resource (None: all), by tier, highest first; none where nothing is shared.

        Raises:
            NotFound: No such resource; names the nearest one.
        """
        book, now = self._context.book, self._context.clock()

        def may_see(session: Session | None) -> bool:
            return who.is_admin if session is None else who.may_see(session.user_id)

        names = list(self.policy.resources) if resource is None else [self.resource_name(resource)]
        return [
            share
            for name in names
            for share in shares(name, book.pending[name].shares(now), book.sessions.get, may_see)
        ]
