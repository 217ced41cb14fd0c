"""Verbs on reservations: make, list, delete."""

from __future__ import annotations

import logging

from qpud.core import reservations, verbs
from qpud.core.errors import BadRequest, NotFound
from qpud.core.identity import Identity, require_admin
from qpud.core.reservations import Reservation
from qpud.service.base import Verbs
from qpud.store import admin as sql
from qpud.store.writer import Transaction

log = logging.getLogger(__name__)

_MOST_OWNERS = 1000


class ReservationVerbs(Verbs):
    """Reservations. Everybody may list them, administrators make and delete them."""

    async def reservations(self) -> list[verbs.Reserved]:
        """All reservations that are not over, the earliest first."""
        ordered = sorted(self._context.book.reservations.values(), key=lambda one: (one.starts_at, one.name))
        return [self._with_state(one) for one in ordered]

    async def reserve(self, who: Identity, ask: verbs.Reserve) -> verbs.Reserved:
        """Reserve a resource for a window of time.

        Raises:
            Forbidden: Not an administrator on the Unix socket.
            NotFound: No such resource.
            Invalid: Its name, times or owners are not possible.
            Conflict: The name is taken, or the window overlaps another one of the resource.
        """
        require_admin(who, f"reserve {ask.resource or self.policy.default_resource}")
        now = self._context.clock()
        new = self._new_reservation(who, ask, now)

        def operation(transaction: Transaction) -> None:
            reservations.check(new, sql.reservations(transaction), now)
            sql.insert_reservation(transaction, new)
            sql.record(transaction, now, who.user, "reserve", new.name, _detail(new))

        await self._context.store.write(operation, lambda _none: self._enter_window(new))
        log.info("reserved", extra={"reservation": new.name, "resource": new.resource, "user": who.user})
        return self._with_state(new)

    async def unreserve(self, who: Identity, name: str) -> verbs.Reserved:
        """Delete a reservation, also one that is active: the resource is free at once.

        Raises:
            Forbidden: Not an administrator on the Unix socket.
            NotFound: No such reservation, or it is over.
        """
        require_admin(who, f"delete reservation {name}")
        found = self._context.book.reservations.get(name)
        if found is None:
            raise NotFound(f"reservation {name[:64]} does not exist, or is over")
        await self._end_window(found, who.user, "unreserve")
        log.info("reservation deleted", extra={"reservation": name, "user": who.user})
        return self._with_state(found)

    async def end_reservations(self) -> None:
        """Forget the reservations whose windows are over."""
        for one in reservations.ended(self._context.book.reservations.values(), self._context.clock()):
            await self._end_window(one, "qpud", "reservation ended")
            log.info("reservation ended", extra={"reservation": one.name, "resource": one.resource})

    def _new_reservation(self, who: Identity, ask: verbs.Reserve, now: float) -> Reservation:
        if len(ask.accounts) + len(ask.users) > _MOST_OWNERS:
            raise BadRequest(f"reservation {ask.name[:64]} has more than {_MOST_OWNERS} owners")
        starts_at = now if ask.starts_at is None else ask.starts_at
        return Reservation(
            name=ask.name,
            resource=self.resource_name(ask.resource),
            starts_at=starts_at,
            ends_at=starts_at + ask.duration_seconds,
            accounts=ask.accounts,
            users=ask.users,
            duty=ask.duty,
            created_by=who.user,
            created_at=now,
        )

    def _with_state(self, one: Reservation) -> verbs.Reserved:
        return verbs.Reserved(reservation=one, is_active=one.starts_at <= self._context.clock() < one.ends_at)

    async def _end_window(self, one: Reservation, user: str, action: str) -> None:
        now = self._context.clock()

        def operation(transaction: Transaction) -> None:
            if sql.delete_reservation(transaction, one.name):
                sql.record(transaction, now, user, action, one.name, _detail(one))

        await self._context.store.write(operation, lambda _none: self._leave_window(one))

    def _enter_window(self, new: Reservation) -> None:
        self._context.book.reservations[new.name] = new
        self._windows_changed(new.resource)

    def _leave_window(self, one: Reservation) -> None:
        self._context.book.reservations.pop(one.name, None)
        self._windows_changed(one.resource)

    def _windows_changed(self, resource: str) -> None:
        self._context.wake(resource)
        self._context.redate()


def _detail(one: Reservation) -> str:
    when = f"{reservations.moment(one.starts_at)} to {reservations.moment(one.ends_at)}"
    return f"{one.resource} from {when} for {one.owners}"
