"""Ends sessions that are idle or too old, and batches that are idle, at the moment they are due; nothing is polled."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from qpud.context import Context
from qpud.core.batch import Batch, BatchEnd
from qpud.core.batch import idle_deadline as batch_deadline
from qpud.core.errors import QpudError
from qpud.core.session import expiry, idle_deadline, idle_seconds
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
        self._complaint = ""  # why the last end could not be stored; "" once one could
        context.touch = self._changed.set

    async def run(self) -> None:
        """Reap until cancelled."""
        while True:
            self._changed.clear()
            for session_id in list(self._context.book.sessions):
                await self._reap(session_id)
            for batch in list(self._context.book.batches.values()):
                await self._close_if_idle(batch.id)
            await self._stop_orphans()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_to_next()):
                    await self._changed.wait()

    async def _reap(self, session_id: str) -> None:
        context = self._context
        session = context.book.sessions.get(session_id)  # as it is now: it may have been used while others ended
        if session is None:
            return
        busy = context.book.has_unfinished(session.id)
        reason = expiry(session, busy, context.policy.daemon.session_idle_timeout, context.clock())
        if reason is None:
            return
        try:
            await self._sessions.end_session(session, reason)
        except QpudError as error:
            await self._try_again(session.id, error)
        else:
            self._complaint = ""
            log.info("session expired", extra={"session": session.id, "user": session.user, "reason": reason})

    async def _close_if_idle(self, batch_id: str) -> None:
        context = self._context
        batch = context.book.batches.get(batch_id)
        if batch is None or context.book.is_batch_busy(batch) or context.clock() < self._batch_deadline(batch):
            return
        try:
            await self._sessions.end_batch(batch, BatchEnd.IDLE)
        except QpudError as error:
            await self._try_again(batch.session_id, error)
        else:
            log.info("idle batch closed", extra={"batch": batch.id, "session": batch.session_id})

    def _batch_deadline(self, batch: Batch) -> float:
        return batch_deadline(batch, self._context.policy.daemon.batch_idle_timeout)

    async def _stop_orphans(self) -> None:
        try:
            await self._sessions.stop_orphans()
        except QpudError as error:
            await self._try_again("", error)

    async def _try_again(self, session_id: str, error: QpudError) -> None:
        if error.message != self._complaint:  # the log may lie on the same full disk
            why = {"session": session_id, "why": error.message}
            log.warning("a session could not be ended, trying again", extra=why)
        self._complaint = error.message
        await asyncio.sleep(_RETRY_SECONDS)
        self._changed.set()

    def _seconds_to_next(self) -> float:
        context = self._context
        idle = context.policy.daemon.session_idle_timeout
        # a busy session becomes idle at the earliest one timeout from now
        deadlines = [
            min(session.expires_at, context.clock() + idle_seconds(session, idle))
            if context.book.has_unfinished(session.id)
            else min(session.expires_at, idle_deadline(session, idle))
            for session in context.book.sessions.values()
        ]
        now, timeout = context.clock(), context.policy.daemon.batch_idle_timeout
        for batch in context.book.batches.values():
            busy = context.book.is_batch_busy(batch)
            deadlines.append(now + timeout if busy else self._batch_deadline(batch))
        earliest = min(deadlines, default=context.clock() + _LONGEST_SLEEP_SECONDS)
        return min(max(0.05, earliest - context.clock()), _LONGEST_SLEEP_SECONDS)
