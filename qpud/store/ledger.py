"""SELECTs over the ledger: what was used, by whom."""

from __future__ import annotations

from qpud.core.usage import HourlyUsage
from qpud.store.store import Store

_HOURLY = (
    "SELECT user_id, account, sum(qpu_seconds * (at - hour)) / sum(qpu_seconds) + hour, sum(qpu_seconds)"
    " FROM (SELECT user_id, account, at, CAST(at / 3600 AS INTEGER) * 3600 AS hour, qpu_seconds FROM ledger"
    " WHERE at >= ? AND qpu_seconds > 0)"
    " GROUP BY user_id, account, hour ORDER BY hour, user_id, account"
)


async def hourly_usage(store: Store, since: float) -> list[HourlyUsage]:
    """QPU seconds charged from `since` (seconds since the epoch) on, per user, account and hour, oldest hour first."""
    return [
        HourlyUsage(user_id=row[0], account=row[1], at=row[2], qpu_seconds=row[3])
        for row in await store.rows(_HOURLY, (since,))
    ]
