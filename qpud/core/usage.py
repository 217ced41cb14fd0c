"""Usage: QPU seconds charged to a name, fading with PriorityDecayHalfLife and forgotten at PriorityUsageResetPeriod.

The names are users or accounts, as `FairShareBy` says. A record is one number and the time at which it was true, so
that adding and reading cost the same however long the history is. Slurm's own words and defaults, see slurm.conf(5).
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from datetime import UTC, datetime, timedelta

import msgspec

from qpud.core.terms import UsageReset


def of_user(name: str) -> str:
    """The record of a user."""
    return f"user {name}"


def of_member(user: str, account: str | None) -> str:
    """The record of a user inside one account."""
    return f"user {user} of account {account or ''}"


def of_account(name: str | None) -> str:
    """The record of an account; None: of those without one."""
    return f"account {name or ''}"


class HourlyUsage(msgspec.Struct, frozen=True, kw_only=True):
    """QPU seconds charged to one user and account within one hour of the ledger."""

    user_id: int
    account: str | None
    at: float
    """Their mean time, weighted by the seconds, in seconds since the epoch: as good as every row by itself."""
    qpu_seconds: float


def decay(usage: float, elapsed: float, half_life: float) -> float:
    """Fade usage by exponential decay.

    Args:
        usage: QPU seconds charged so far.
        elapsed: Seconds since usage was last brought up to date, >= 0.
        half_life: Seconds in which usage halves; 0: it never fades.

    Returns:
        QPU seconds as they count now.
    """
    return usage * 2.0 ** (-elapsed / half_life) if half_life > 0 else usage


def last_reset(period: UsageReset, now: float) -> float | None:
    """The last moment at which usage was forgotten: 00:00 UTC of a day, a Monday, the first of a month, quarter, year.

    Args:
        period: PriorityUsageResetPeriod.
        now: Seconds since the epoch, UTC.

    Returns:
        Seconds since the epoch, <= now; None if usage is never forgotten.
    """
    if period is UsageReset.NONE:
        return None
    # whole seconds: datetime rounds to microseconds, and might round up into the next day
    second = datetime.fromtimestamp(math.floor(now), UTC)
    return _first_day(period, second.replace(hour=0, minute=0, second=0)).timestamp()


def _first_day(period: UsageReset, day: datetime) -> datetime:
    match period:
        case UsageReset.WEEKLY:
            return day - timedelta(days=day.weekday())
        case UsageReset.MONTHLY:
            return day.replace(day=1)
        case UsageReset.QUARTERLY:
            return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
        case UsageReset.YEARLY:
            return day.replace(month=1, day=1)
    return day


class Usage:
    """What names used, as it counts now.

    Args:
        half_life: PriorityDecayHalfLife in seconds; 0: usage never fades.
        period: PriorityUsageResetPeriod.

    Both may be set anew when the policy is reloaded; each record then fades by the new rule since its last charge.
    """

    def __init__(self, half_life: float, period: UsageReset = UsageReset.NONE) -> None:
        self.half_life = half_life
        self.period = period
        self._records: dict[Hashable, tuple[float, float]] = {}  # name → QPU seconds, when they were so many

    def add(self, name: Hashable, seconds: float, now: float) -> None:
        """Charge QPU seconds to a name. Charges may come in any order of time: one of the past counts as faded.

        Args:
            name: A user's id or an account's name; None is the account of those without one.
            seconds: QPU seconds, >= 0.
            now: When they were used, seconds since the epoch, UTC.
        """
        usage, at = self._records.get(name, (0.0, now))
        if now >= at:  # at every slice: a sum, and one fading
            self._records[name] = (self._as_of(now, usage, at) + seconds, now)
        else:
            self._records[name] = (usage + self._as_of(at, seconds, now), at)

    def value(self, name: Hashable, now: float) -> float:
        """QPU seconds of a name as they count now; 0 for one that was never charged.

        A clock that was set back makes nothing grow: the last known value is returned.
        """
        return self._as_of(now, *self._records.get(name, (0.0, now)))

    def _as_of(self, now: float, usage: float, at: float) -> float:
        reset = last_reset(self.period, now)
        if reset is not None and at < reset:
            return 0.0
        return decay(usage, max(0.0, now - at), self.half_life)
