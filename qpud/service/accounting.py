"""Verbs of accounting: what closed sessions and their jobs used, and reports of the ledger."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from qpud.core import verbs
from qpud.core.errors import BadRequest, Forbidden, NotFound
from qpud.core.identity import Identity
from qpud.core.report import MOST_ROWS, Group, Report, ReportFilter, hint
from qpud.service.base import Verbs
from qpud.store import accounting, ledger

LARGEST_PAGE = 100
MOST_NAMES = 100  # of one filter


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

    async def account_report(self, who: Identity, which: ReportFilter) -> Report:
        """What slices used, from the ledger, grouped as asked.

        Raises:
            BadRequest: A page or a filter is too large, or the time ends before it begins.
            Forbidden: An ordinary user asks for another's rows.
            NotFound: No such queue, resource or account, neither configured nor in the ledger; names the nearest.
        """
        which = _own(who, _bounded(which))
        await self._check_names(who, which)
        return await ledger.report(self._context.store, which)

    async def _check_names(self, who: Identity, which: ReportFilter) -> None:
        await self._check(which, Group.QUEUE, which.queues, set(self.policy.queues))
        await self._check(which, Group.RESOURCE, which.resources, set(self.policy.resources))
        await self._check(which, Group.ACCOUNT, which.accounts, self._accounts(who))

    def _accounts(self, who: Identity) -> set[str]:
        """The accounts that the caller may know of, besides those in his part of the ledger."""
        named = {session.account for session in self._context.book.sessions.values() if who.may_see(session.user_id)}
        configured = set(self.policy.accounts) if who.is_admin else set()
        return {account for account in named if account is not None} | configured

    async def _check(self, which: ReportFilter, group: Group, wanted: tuple[str, ...], known: set[str]) -> None:
        """Names of the past are looked up only if one is not of the present: that reads the whole ledger."""
        if known.issuperset(wanted):
            return
        known = known.union(await ledger.names(self._context.store, group, which.user_ids))
        for name in wanted:
            if name not in known:
                raise NotFound(f"{group} {name[:64]!r} is not known here: {hint(name, known)}")


def _checked(who: Identity, which: verbs.AccountingFilter) -> verbs.AccountingFilter:
    if not 1 <= which.limit <= LARGEST_PAGE or which.offset < 0:
        raise BadRequest(f"limit {which.limit} is outside 1 … {LARGEST_PAGE}, or offset {which.offset} below 0")
    return which if who.is_admin else msgspec.structs.replace(which, user_ids=(who.user_id,))


def _bounded(which: ReportFilter) -> ReportFilter:
    if not 1 <= which.limit <= MOST_ROWS or which.offset < 0:
        raise BadRequest(f"limit {which.limit} is outside 1 … {MOST_ROWS}, or offset {which.offset} below 0")
    for names in (which.user_ids, which.accounts, which.queues, which.resources, which.sessions, which.slurm_jobs):
        if len(names) > MOST_NAMES:
            raise BadRequest(f"a filter of {len(names)} names exceeds {MOST_NAMES}: ask for fewer at once")
    if which.start is not None and which.end is not None and which.start >= which.end:
        raise BadRequest(f"the report's end {_utc(which.end)} is not after its start {_utc(which.start)}")
    return which


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _own(who: Identity, which: ReportFilter) -> ReportFilter:
    """The part of the ledger that the caller may see: an ordinary user his own rows, of accounts too."""
    if who.is_admin:
        return which
    if any(user_id != who.user_id for user_id in which.user_ids):
        raise Forbidden(f"user {who.user} sees only his own usage: others' is for administrators on the Unix socket")
    return msgspec.structs.replace(which, user_ids=(who.user_id,))
