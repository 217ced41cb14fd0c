"""The loop of each resource: wait for a change, plan, act. `Scheduler` owns every task of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from qpud.context import Context
from qpud.core.slices import Slice
from qpud.scheduler.checker import Checker
from qpud.scheduler.monitor import Monitor
from qpud.scheduler.runner import Runner

__all__ = ["Scheduler"]


class Scheduler:
    """One runner, one checker and one monitor for each resource.

    Args:
        context: The parts of the daemon; its `wake` and `heartbeat` are set here.
    """

    def __init__(self, context: Context) -> None:
        self._runners = {name: Runner(context, name, driver) for name, driver in context.drivers.items()}
        self._checkers = {name: Checker(context, name) for name in context.drivers}
        self._monitors = [
            Monitor(context, name, driver, self._runners[name]) for name, driver in context.drivers.items()
        ]
        self._pulse = context.pulse
        context.wake = self.wake
        context.heartbeat = self.age

    async def run(self, in_flight: list[Slice]) -> None:
        """Run until cancelled; if one task dies, all die and the error is raised.

        Args:
            in_flight: Slices that an earlier daemon left at the resources.
        """
        async with asyncio.TaskGroup() as tasks:
            for name, runner in self._runners.items():
                left = [one for one in in_flight if one.resource == name]
                tasks.create_task(_forever(f"runner {name}", runner.run(left)))
            for name, checker in self._checkers.items():
                tasks.create_task(_forever(f"checker {name}", checker.run()))
            for monitor in self._monitors:
                tasks.create_task(_forever(f"monitor {monitor.name}", monitor.run()))

    def wake(self, resource: str) -> None:
        """Something changed for a resource."""
        if resource in self._runners:
            self._runners[resource].wake()
            self._checkers[resource].wake()

    def age(self) -> float:
        """Seconds since the slowest runner's loop last turned."""
        return max((self._pulse() - runner.turned_at for runner in self._runners.values()), default=0.0)


async def _forever(name: str, loop: Coroutine[None, None, None]) -> None:
    """Run a loop that only its owner may end: a TaskGroup takes a task that returns or cancels itself for well."""
    task = asyncio.current_task()
    try:
        await loop
    except asyncio.CancelledError:
        if task is not None and task.cancelling():
            raise
    raise RuntimeError(f"the scheduler's {name} ended by itself")
