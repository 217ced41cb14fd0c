"""Reservations: windows of time in which a resource belongs to accounts, users or a QA duty, as in Slurm.

While one is active only its owners' jobs start. Before one begins, a slice of others is made so short that it ends in
time, and does not start if not even one shot fits. Owners' jobs may run at any time. Windows of one resource never
overlap, so at most one is active.

A duty is work that administrators do for the resource's sake: calibration, quality assurance. A session does the duty
`qa` if it was opened with the account `duty:qa`, which only administrators may do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

import msgspec

from qpud.core.errors import Conflict, Invalid
from qpud.core.session import Session

DUTY_PREFIX = "duty:"
"""How the account of a session begins that does a duty."""
LONGEST_SECONDS = 366 * 86_400.0
"""A reservation lasts at most a year."""

_LAST_MOMENT = 253_402_300_799.0  # the end of year 9999
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """One window, from `starts_at` up to but without `ends_at`: seconds since the epoch, UTC."""

    name: str
    resource: str
    starts_at: float
    ends_at: float
    accounts: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    duty: str = ""
    created_by: str = ""
    created_at: float = 0.0

    @property
    def owners(self) -> str:
        """Who owns it, in words."""
        parts = (
            ("account" if len(self.accounts) == 1 else "accounts", ", ".join(self.accounts)),
            ("user" if len(self.users) == 1 else "users", ", ".join(self.users)),
            ("duty", self.duty),
        )
        return "; ".join(f"{what} {who}" for what, who in parts if who)


def owns(reservation: Reservation, session: Session | None) -> bool:
    """Whether a session's jobs may run in the window: by its user, its account or its duty; None owns nothing."""
    if session is None:
        return False
    account = session.account or ""
    if reservation.duty and account == f"{DUTY_PREFIX}{reservation.duty}":
        return True
    return session.user in reservation.users or (account != "" and account in reservation.accounts)


def active(reservations: Iterable[Reservation], resource: str, now: float) -> Reservation | None:
    """The reservation that holds a resource now, or None."""
    return next((one for one in reservations if one.resource == resource and one.starts_at <= now < one.ends_at), None)


def upcoming(reservations: Iterable[Reservation], resource: str, now: float) -> list[Reservation]:
    """The reservations of a resource that begin after now, the earliest first."""
    later = (one for one in reservations if one.resource == resource and one.starts_at > now)
    return sorted(later, key=lambda one: one.starts_at)


def next_boundary(reservations: Iterable[Reservation], now: float) -> float | None:
    """When the next window begins or ends, in seconds since the epoch; None if there is none to come."""
    edges = (edge for one in reservations for edge in (one.starts_at, one.ends_at) if edge > now)
    return min(edges, default=None)


def ended(reservations: Iterable[Reservation], now: float) -> list[Reservation]:
    """The reservations whose windows are over."""
    return [one for one in reservations if one.ends_at <= now]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What reservations leave to a session on a resource now.

    Attributes:
        seconds: Wall seconds until its slices must have ended; 0 if it may not start, None if nothing limits it.
        by: The reservation that limits it, None if none does.
    """

    seconds: float | None = None
    by: Reservation | None = None


OPEN = Window()


class Outlook:
    """What reservations leave of one resource from now on, to anybody.

    Args:
        reservations: All of the daemon.
        resource: The resource.
        now: Seconds since the epoch.
    """

    def __init__(self, reservations: Collection[Reservation], resource: str, now: float) -> None:
        self._now = now
        self._holder = active(reservations, resource, now)
        self._upcoming = upcoming(reservations, resource, now)

    def window(self, session: Session | None) -> Window:
        """How long a session may use the resource; None: a session that has ended, which owns nothing."""
        if self._holder is not None and not owns(self._holder, session):
            return Window(seconds=0.0, by=self._holder)
        coming = next((one for one in self._upcoming if not owns(one, session)), None)
        return OPEN if coming is None else Window(seconds=coming.starts_at - self._now, by=coming)


def check(new: Reservation, others: Iterable[Reservation], now: float) -> None:
    """Accept a new reservation.

    Raises:
        Invalid: Its name, times or owners are not possible.
        Conflict: The name is taken, or the window overlaps another one of the resource.
    """
    if not _NAME.fullmatch(new.name):
        letters = "1 … 64 letters, digits, '_', '.' and '-'"
        raise Invalid(f"{new.name[:64]!r} is no name of a reservation, which has {letters}")
    owners = [*new.accounts, *new.users, *([new.duty] if new.duty else [])]
    if not owners:
        raise Invalid(f"reservation {new.name} needs an owner: accounts, users or a duty")
    if not all(owner.strip() and owner.isprintable() for owner in owners):
        raise Invalid(f"reservation {new.name} has an owner whose name is empty or unprintable")
    if not 1 <= new.ends_at - new.starts_at <= LONGEST_SECONDS:
        lasts = new.ends_at - new.starts_at
        raise Invalid(f"a reservation of {lasts:g} s is outside 1 … {LONGEST_SECONDS:.0f} s")
    if new.ends_at <= now:
        raise Invalid(f"reservation {new.name} would end at {moment(new.ends_at)}, which is past")
    for other in others:
        _check_apart(new, other)


def _check_apart(new: Reservation, other: Reservation) -> None:
    if new.name == other.name:
        raise Conflict(f"reservation {new.name} exists already: delete it first, or choose another name")
    if new.resource == other.resource and new.starts_at < other.ends_at and other.starts_at < new.ends_at:
        when = f"from {moment(other.starts_at)} to {moment(other.ends_at)}"
        raise Conflict(f"reservation {new.name} overlaps reservation {other.name}, which has {new.resource} {when}")


def moment(at: float) -> str:
    """Seconds since the epoch for a sentence, in UTC, to the second; within the years that a date can have."""
    return datetime.fromtimestamp(min(max(at, 0.0), _LAST_MOMENT), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
