"""The watch on one resource: its device spec and its health. Only the vendor's API is asked from time to time."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from qpud.context import Context
from qpud.core.errors import QpudError
from qpud.drivers.base import DeviceSpec, Driver, Fault, Health, HealthState
from qpud.drivers.workers import WorkerFault
from qpud.scheduler.runner import Runner
from qpud.store import records

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
        self._unkept: DeviceSpec | None = None  # seen, and not stored yet
        self._lacking = ""  # why there is no spec

    async def run(self) -> None:
        """Watch until cancelled."""
        health = await self._driver.health()
        if health.state is HealthState.UNREACHABLE:  # asking in vain for its device may take half a minute
            self._runner.report(health)
        while True:
            await self._refresh_spec()
            is_up = self._runner.report(await self._health())
            has_spec = self.name in self._context.specs
            await asyncio.sleep(CALM_SECONDS if has_spec and is_up else WORRIED_SECONDS)

    async def _health(self) -> Health:
        """The driver's word; a resource that never told its device spec cannot run anything either."""
        health = await self._driver.health()
        if health.state is HealthState.UP and self.name not in self._context.specs:
            return Health(state=HealthState.DOWN, message=self._lacking)
        return health

    async def _refresh_spec(self) -> None:
        try:
            spec = await self._driver.spec()
        except (Fault, WorkerFault) as fault:
            self._context.metrics.driver_error(self.name, "spec")
            self._complain(fault.message)
            return
        except Exception as error:  # a driver's bug: the other resources go on
            self._context.metrics.driver_error(self.name, "spec")
            self._complain(f"the driver of {self.name} failed ({type(error).__name__}: {error})"[:300], error)
            return
        self._lacking = ""
        known = self._context.specs.get(self.name)
        if known is None or known.hash != spec.hash:
            self._context.specs[self.name] = spec
            log.info("device spec", extra={"resource": self.name, "device": spec.name, "hash": spec.hash})
            for name in self._context.drivers:  # jobs on emulators may be checked against this spec too
                self._context.wake(name)
            self._context.reshow()  # the first one is a resource's first sign of life
            self._unkept = spec
        await self._keep_spec()

    async def _keep_spec(self) -> None:
        """Store its text: results name it by its hash only. A full disk is tried again with the next look."""
        if (spec := self._unkept) is None:
            return
        now, text = self._context.clock(), (spec.hash, spec.name, spec.text)
        with contextlib.suppress(QpudError):
            await self._context.store.write(lambda transaction: records.add_spec(transaction, text, self.name, now))
            self._unkept = None

    def _complain(self, why: str, error: Exception | None = None) -> None:
        """Once for each reason: it is asked again every two seconds, maybe all night."""
        if why != self._lacking:
            log.warning("no device spec", exc_info=error, extra={"resource": self.name, "why": why})
        self._lacking = why
