"""Ends sessions that are idle or too old, at the moment they are due; nothing is polled."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from qpud.context import Context
from qpud.core.errors import QpudError
from qpud.core.session import Session, expiry, idle_deadline
from qpud.service.sessions import SessionVerbs

log = logging.getLogger(__name__)

_RETRY_SECONDS = 5.0
_LONGEST_SLEEP_SECONDS = 3600.0  # wall clocks are set from time to time


class Reaper:
    """Watches the open sessions.

    Args:
        context: The parts of the daemon; its `touch` is set here.
        sessions: Closes them.
    """

    def __init__(self, context: Context, sessions: SessionVerbs) -> None:
        self._context = context
        self._sessions = sessions
        self._changed = asyncio.Event()
        context.touch = self._changed.set

    async def run(self) -> None:
        """Reap until cancelled."""
        while True:
            self._changed.clear()
            for session in list(self._context.book.sessions.values()):
                await self._reap(session)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_to_next()):
                    await self._changed.wait()

    async def _reap(self, session: Session) -> None:
        context = self._context
        busy = context.book.has_unfinished(session.id)
        reason = expiry(session, busy, context.policy.daemon.session_idle_timeout, context.clock())
        if reason is None:
            return
        try:
            await self._sessions.end_session(session, reason)
        except QpudError as error:
            log.warning(
                "a session could not be ended, trying again", extra={"session": session.id, "why": error.message}
            )
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            log.info("session expired", extra={"session": session.id, "user": session.user, "reason": reason})

    def _seconds_to_next(self) -> float:
        context = self._context
        idle = context.policy.daemon.session_idle_timeout
        # a busy session becomes idle at the earliest one timeout from now
        deadlines = [
            min(session.expires_at, context.clock() + idle)
            if context.book.has_unfinished(session.id)
            else min(session.expires_at, idle_deadline(session, idle))
            for session in context.book.sessions.values()
        ]
        earliest = min(deadlines, default=context.clock() + _LONGEST_SLEEP_SECONDS)
        return min(max(0.05, earliest - context.clock()), _LONGEST_SLEEP_SECONDS)
