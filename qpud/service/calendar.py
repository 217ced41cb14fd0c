"""Wakes the scheduler when a reservation begins or ends, and forgets those that are over; nothing is polled."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from qpud.context import Context
from qpud.core.errors import QpudError
from qpud.core.reservations import next_boundary
from qpud.service.reservations import ReservationVerbs

log = logging.getLogger(__name__)

_RETRY_SECONDS = 5.0
_LONGEST_SLEEP_SECONDS = 3600.0  # wall clocks are set from time to time


class Calendar:
    """Watches the reservations.

    Args:
        context: The parts of the daemon; its `redate` is set here.
        reservations: Ends them.
    """

    def __init__(self, context: Context, reservations: ReservationVerbs) -> None:
        self._context = context
        self._reservations = reservations
        self._changed = asyncio.Event()
        context.redate = self._changed.set

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self._changed.clear()
            await self._end_those_over()
            for resource in {one.resource for one in self._context.book.reservations.values()}:
                self._context.wake(resource)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_to_next()):
                    await self._changed.wait()

    async def _end_those_over(self) -> None:
        try:
            await self._reservations.end_reservations()
        except QpudError as error:  # what is over bars nobody, whether or not it is stored
            log.warning("an ended reservation could not be removed, trying again", extra={"why": error.message})
            await asyncio.sleep(_RETRY_SECONDS)

    def _seconds_to_next(self) -> float:
        now = self._context.clock()
        boundary = next_boundary(self._context.book.reservations.values(), now)
        if boundary is None:
            return _LONGEST_SLEEP_SECONDS
        return min(max(0.001, boundary - now), _LONGEST_SLEEP_SECONDS)
