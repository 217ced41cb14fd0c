"""Deletes what ended longer ago than PurgeJobAfter, in small transactions beside the submissions.

Nothing here knows what was done before: each sweep looks for what may go, so that one that was cut short by a crash or
a full disk is simply continued by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from qpud.context import Context
from qpud.core.errors import QpudError
from qpud.core.terms import UNLIMITED_SECONDS
from qpud.service.submit import SubmitVerbs
from qpud.store import purge as sql
from qpud.store.writer import Operation

log = logging.getLogger(__name__)

T = TypeVar("T")

EVERY_SECONDS = 3600.0
"""Between two sweeps."""
RETRY_SECONDS = 300.0
"""After one that the disk did not let end."""
_LEAST_PAUSE_SECONDS = 0.02
_PAUSES = 9.0  # after each transaction, of its own time: submissions have the writer for nine tenths of the time


class Purge:
    """Watches the age of what has ended.

    Args:
        context: The parts of the daemon; its `retain` is set here.
        submissions: Remember which texts are stored.
    """

    def __init__(self, context: Context, submissions: SubmitVerbs) -> None:
        self._context = context
        self._submissions = submissions
        self._changed = asyncio.Event()
        self._is_tidy = False  # an earlier daemon may have left keys without jobs, and texts that nothing names
        context.retain = self._changed.set

    async def run(self) -> None:
        """Purge until cancelled; with PurgeJobAfter = UNLIMITED there is nothing to do."""
        while True:
            self._changed.clear()
            pause = await self._sweep_or_log() if self._is_on else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    async def sweep(self) -> dict[str, int]:
        """Delete all that may go now; a reload that changes PurgeJobAfter meanwhile counts at once.

        Returns:
            How many rows of each kind went.

        Raises:
            QpudError: The disk is full or the database locked; what went is gone for good, the rest waits.
        """
        gone = {"jobs": await self._purge_jobs()}
        for kind in (sql.BATCHES, sql.SESSIONS):  # a session outlives its batches
            gone[kind.table] = await self._purge_jobless(kind)
        if self._is_tidy:
            return gone
        for kind in (sql.KEYS, sql.RELEASES):
            gone[kind.table] = await self._purge_jobless(kind)
        gone["sequences"] = await self._purge_texts()
        self._is_tidy = True
        return gone

    # -- parts
    @property
    def _is_on(self) -> bool:
        return self._context.policy.daemon.purge_job_after < UNLIMITED_SECONDS

    @property
    def _before(self) -> float:
        """What ended then or earlier may go, seconds since the epoch."""
        return self._context.clock() - self._context.policy.daemon.purge_job_after

    async def _sweep_or_log(self) -> float:
        """Seconds until the next sweep."""
        began = self._context.pulse()
        try:
            gone = await self.sweep()
        except QpudError as failure:
            log.warning("ended jobs could not be purged, trying again", extra={"why": failure.message})
            return RETRY_SECONDS
        if any(gone.values()):
            log.info("ended jobs purged", extra={**gone, "seconds": round(self._context.pulse() - began, 1)})
        return EVERY_SECONDS

    async def _purge_jobs(self) -> int:
        gone, last = 0, 0
        while True:
            page = await sql.old_jobs(self._context.store, self._before, last)
            if page.ids:
                gone += await self._delete_jobs(page.ids)
            if page.last is None:
                return gone
            last = page.last

    async def _delete_jobs(self, ids: tuple[int, ...]) -> int:
        gone = await self._gently(partial(sql.delete_jobs, ids=ids, before=self._before))
        self._context.metrics.jobs_purged(gone)
        return gone

    async def _purge_jobless(self, kind: sql.Jobless) -> int:
        gone = 0
        while found := await sql.find_jobless(self._context.store, kind, self._before):
            gone_before = gone
            for some in _in_pieces(found):
                gone += await self._gently(partial(sql.delete_jobless, kind=kind, found=some, before=self._before))
            if len(found) < sql.MOST_FOUND or gone == gone_before:
                break
        return gone

    async def _purge_texts(self) -> int:
        await self._context.store.write(sql.watch_texts)
        try:
            return await self._purge_unnamed()
        finally:
            with contextlib.suppress(QpudError):
                await self._context.store.write(sql.unwatch_texts)

    async def _purge_unnamed(self) -> int:
        gone = 0
        while found := await sql.unnamed_texts(self._context.store):
            gone_before = gone
            for some in _in_pieces(found):
                gone += await self.delete_texts(some)
            if len(found) < sql.MOST_FOUND or gone == gone_before:
                break
        return gone

    async def delete_texts(self, hashes: Sequence[str]) -> int:
        """Delete those of these texts that no submission needs, between `watch_texts` and `unwatch_texts`.

        Whoever submits one of them either stands in the writer's queue already, and his job keeps the text, or sends
        the text along behind this: nothing may be awaited between the two lines.
        """
        self._submissions.doubt_texts(frozenset(hashes))
        return await self._gently(partial(sql.delete_texts, hashes=hashes))

    async def _gently(self, delete: Operation[int]) -> int:
        """Delete in one transaction, and leave the writer to others for a while."""
        began = self._context.pulse()
        gone = await self._context.store.write(delete)
        self._is_tidy = self._is_tidy and not gone
        await asyncio.sleep(max(_LEAST_PAUSE_SECONDS, _PAUSES * (self._context.pulse() - began)))
        return gone


def _in_pieces(found: Sequence[T]) -> list[Sequence[T]]:
    """What fits into one transaction each."""
    return [found[start : start + sql.MOST_ROWS] for start in range(0, len(found), sql.MOST_ROWS)]
