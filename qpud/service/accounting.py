"""Verbs of accounting: what closed sessions and their jobs used."""

from __future__ import annotations

import msgspec

from qpud.core import verbs
from qpud.core.errors import BadRequest
from qpud.core.identity import Identity
from qpud.service.base import Verbs
from qpud.store import accounting

LARGEST_PAGE = 100


class AccountingVerbs(Verbs):
    """Accounting. A user sees his own rows, an administrator everybody's."""

    async def account_users(self, who: Identity, which: verbs.AccountingFilter) -> tuple[list[verbs.UserSum], int]:
        """Sums per user over closed sessions, and the total number of rows."""
        return await accounting.users(self._context.store, _checked(who, which))

    async def account_sessions(
        self, who: Identity, which: verbs.AccountingFilter
    ) -> tuple[list[verbs.SessionSum], int]:
        """Closed sessions, and the total number of rows."""
        return await accounting.sessions(self._context.store, _checked(who, which))

    async def account_jobs(self, who: Identity, which: verbs.AccountingFilter) -> tuple[list[verbs.JobSum], int]:
        """Jobs of closed sessions, and the total number of rows."""
        return await accounting.jobs(self._context.store, _checked(who, which))


def _checked(who: Identity, which: verbs.AccountingFilter) -> verbs.AccountingFilter:
    if not 1 <= which.limit <= LARGEST_PAGE or which.offset < 0:
        raise BadRequest(f"limit {which.limit} is outside 1 … {LARGEST_PAGE}, or offset {which.offset} below 0")
    return which if who.is_admin else msgspec.structs.replace(which, user_ids=(who.user_id,))
