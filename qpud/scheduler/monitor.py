"""The watch on one resource: its device spec and its health. Only the vendor's API is asked from time to time."""

from __future__ import annotations

import asyncio
import logging

from qpud.context import Context
from qpud.drivers.base import Driver, Fault, Health
from qpud.drivers.workers import WorkerFault
from qpud.scheduler.runner import Runner

log = logging.getLogger(__name__)

CALM_SECONDS = 60.0
WORRIED_SECONDS = 2.0


class Monitor:
    """Keeps `context.specs` and the resource's state up to date.

    Args:
        context: The parts of the daemon.
        name: The resource.
        driver: Its driver.
        runner: Told of the health.
    """

    def __init__(self, context: Context, name: str, driver: Driver, runner: Runner) -> None:
        self.name = name
        self._context = context
        self._driver = driver
        self._runner = runner

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            has_spec = await self._refresh_spec()
            is_up = self._runner.report(await self._health())
            await asyncio.sleep(CALM_SECONDS if has_spec and is_up else WORRIED_SECONDS)

    async def _health(self) -> Health:
        return await self._driver.health()

    async def _refresh_spec(self) -> bool:
        try:
            spec = await self._driver.spec()
        except (Fault, WorkerFault) as fault:
            self._context.metrics.driver_error(self.name, "spec")
            self._context.book.flights[self.name].message = fault.message
            log.warning("no device spec", extra={"resource": self.name, "why": fault.message})
            return self.name in self._context.specs
        known = self._context.specs.get(self.name)
        if known is None or known.hash != spec.hash:
            self._context.specs[self.name] = spec
            log.info("device spec", extra={"resource": self.name, "device": spec.name, "hash": spec.hash})
            self._context.wake(self.name)
        return True
