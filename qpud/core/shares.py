"""Who is entitled to what of a resource and who had it, for people: `Order.shares` with names, fit to be shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from qpud.core.order import SessionOf, ShareRow
from qpud.core.session import Session

MOST_SHARES = 1000
"""Lines of one resource; of more, only those with work are shown, and no more of them."""

MaySee = Callable[[Session | None], bool]


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One contender of a tier of a resource. Seconds are QPU-seconds, parts go from 0 to 1."""

    resource: str
    tier: int
    kind: str  # account, user or session
    account: str | None
    user: str | None  # None for an account, and for a session that has ended
    session: str | None  # None for accounts, users, and others' sessions
    weight: float
    entitled: float  # part of the resource that is due now, among those of the tier with work
    served: float  # part of all that the tier was served
    served_seconds: float  # since the daemon started
    owed_seconds: float  # negative: had too much
    usage_seconds: float | None  # decayed; None for sessions, which have none
    is_active: bool  # has work


def shares(resource: str, rows: Sequence[ShareRow], session_of: SessionOf, may_see: MaySee) -> list[Share]:
    """Name the contenders of a resource.

    Args:
        resource: Its name.
        rows: As `Order.shares` gives them: members follow the user or account that they belong to.
        session_of: The open session of an id.
        may_see: Whether the caller may see the id of a session; None is one that has ended.
    """
    served = _served(rows)
    above, found = _Names(None, None), []
    for row in rows:
        if row.kind != "session":
            above = _named_by(row, above)
        session = session_of(row.name) if row.kind == "session" else None
        names = _Names(session.account, session.user) if session else above
        shown = row.name if row.kind == "session" and may_see(session) else None
        found.append(_share(resource, row, names, shown, served[row.tier]))
    return _bounded(found)


class _Names(NamedTuple):
    account: str | None
    user: str | None


def _named_by(row: ShareRow, above: _Names) -> _Names:
    return _Names(row.name or None, None) if row.kind == "account" else _Names(above.account, row.name or None)


def _served(rows: Sequence[ShareRow]) -> dict[int, float]:
    """QPU-seconds that each tier was served: the sum over those at its top, which are of one kind."""
    served: dict[int, float] = {}
    for row in rows:
        at_top = row.served_seconds if row.kind == rows[0].kind else 0.0
        served[row.tier] = served.get(row.tier, 0.0) + at_top
    return served


def _share(resource: str, row: ShareRow, names: _Names, session: str | None, served: float) -> Share:
    return Share(
        resource=resource,
        tier=row.tier,
        kind=row.kind,
        account=names.account,
        user=names.user,
        session=session,
        weight=row.weight,
        entitled=row.entitled,
        served=row.served_seconds / served if served else 0.0,
        served_seconds=row.served_seconds,
        owed_seconds=row.lag_seconds,
        usage_seconds=None if row.kind == "session" else row.usage_seconds,
        is_active=row.is_active,
    )


def _bounded(found: list[Share]) -> list[Share]:
    if len(found) <= MOST_SHARES:
        return found
    return [one for one in found if one.is_active][:MOST_SHARES]
