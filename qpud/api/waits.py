"""Held requests: `?wait=SECONDS` keeps a GET until something changes, the client leaves, or the server stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.requests import Request
from starlette.types import Receive

T = TypeVar("T")
LONGEST_WAIT_SECONDS = 300.0


class Waits:
    """All held requests of one server."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def release(self) -> None:
        """Answer every held request now with what is, and hold no more: the server stops."""
        self._stopping.set()

    async def hold(self, request: Request, seconds: float, ask: Callable[[float], Awaitable[T]]) -> T:
        """Ask with a wait of at most 300 s.

        Args:
            request: The request; `state.held_seconds` tells the time spent here.
            seconds: What the client wants.
            ask: The service's verb, called with the seconds it may wait; called again with 0 on an early release.
        """
        if not seconds > 0 or self._stopping.is_set():
            return await ask(0.0)
        began = time.perf_counter()
        try:
            return await self._race(request.receive, min(seconds, LONGEST_WAIT_SECONDS), ask)
        finally:
            request.state.held_seconds = time.perf_counter() - began

    async def _race(self, receive: Receive, seconds: float, ask: Callable[[float], Awaitable[T]]) -> T:
        asking = asyncio.ensure_future(ask(seconds))
        others = (asyncio.create_task(self._stopping.wait()), asyncio.create_task(_client_leaves(receive)))
        try:
            await asyncio.wait((asking, *others), return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else await ask(0.0)
        finally:
            for task in (asking, *others):
                task.cancel()
            await asyncio.gather(asking, *others, return_exceptions=True)


async def _client_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
