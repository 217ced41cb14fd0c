"""SELECTs over the ledger: what was used, by whom."""

from __future__ import annotations

from qpud.core.tally import DaySum
from qpud.core.usage import HourlyUsage
from qpud.store.store import Store

_HOURLY = (
    "SELECT user_id, account, sum(qpu_seconds * (at - hour)) / sum(qpu_seconds) + hour, sum(qpu_seconds)"
    " FROM (SELECT user_id, account, at, CAST(at / 3600 AS INTEGER) * 3600 AS hour, qpu_seconds FROM ledger"
    " WHERE at >= ? AND qpu_seconds > 0)"
    " GROUP BY user_id, account, hour ORDER BY hour, user_id, account"
)

_BY_DAY = (
    "SELECT l.user_id, l.queue, coalesce(l.account, s.account, ''), sum(l.qpu_seconds) FROM ledger l"
    " LEFT JOIN sessions s ON s.id = l.session_id WHERE l.at >= ? GROUP BY 1, 2, 3"
)


async def charged_since(store: Store, at: float) -> list[DaySum]:
    """QPU seconds charged from `at` (seconds since the epoch) on, per user, queue and account ("": none)."""
    rows = await store.rows(_BY_DAY, (at,))
    return [DaySum(**dict(zip(DaySum.__struct_fields__, row, strict=True))) for row in rows]


async def hourly_usage(store: Store, since: float) -> list[HourlyUsage]:
    """QPU seconds charged from `since` (seconds since the epoch) on, per user, account and hour, oldest hour first."""
    return [
        HourlyUsage(user_id=row[0], account=row[1], at=row[2], qpu_seconds=row[3])
        for row in await store.rows(_HOURLY, (since,))
    ]
