"""One slice at the simulated QPU: its times, and the future of its outcome."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from qpud.core.resource import ResourcePolicy
from qpud.core.slices import Outcome, OutcomeState
from qpud.drivers.base import SliceRequest
from qpud.drivers.faults import Faults

LATE = 0.05
"""Seconds after its nominal end from which a slice's own end is moved, and its provenance says so."""
EARLY = 0.002
"""Seconds before its end from which each turn of the loop looks at the time: timers alone are up to 2 ms late."""


class SimulatedSlice:
    """One slice, from its start to its outcome.

    Args:
        device_id: The simulated QPU's id for it.
        request: What was asked.
        faults: What is wrong with the QPU meanwhile.
        setup: QPU seconds of the register change, 0 without one.
        policy: ShotRate and SpeedUp.
        now: Wall time of its start.
    """

    prepared: asyncio.Task[dict[str, int]]

    def __init__(
        self, device_id: str, request: SliceRequest, faults: Faults, setup: float, policy: ResourcePolicy, now: float
    ) -> None:
        self.device_id = device_id
        self.request = request
        self.faults = faults
        self.setup = setup
        self.rate = policy.shot_rate
        self.speed_up = policy.speed_up
        self.started_at = now
        self.provenance: dict[str, str] = {"driver": "simulated"}
        self.dealt = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.over = asyncio.Event()
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._began = time.monotonic()
        self._stop: int | None = None  # shots after which a cancelled slice ends
        self._timer: asyncio.Handle | None = None

    def arm(self) -> None:
        """Set the timer to the absolute end of the slice, or stop it while the QPU hangs.

        Asked of the monotonic clock each time: uvloop's own time is cached and rounded to milliseconds.
        """
        if self._timer is not None:
            self._timer.cancel()
        if self.over.is_set() or (self.faults.hang and self._stop is None):
            return
        remaining = self._end() - time.monotonic()
        loop = asyncio.get_running_loop()
        if remaining <= 0:
            self.over.set()
        elif remaining <= EARLY:
            self._timer = loop.call_soon(self.arm)
        else:
            self._timer = loop.call_later(remaining - EARLY, self.arm)

    def cut(self) -> None:
        """End after the shot in progress; at once during set-up, or if the QPU hangs."""
        if self.over.is_set() or self._stop is not None:
            return
        made = ((time.monotonic() - self._began) * self.speed_up - self.setup) * self.rate
        self._stop = 0 if self.faults.hang else max(0, min(self.request.shots, math.ceil(made)))
        self.arm()

    def shots_obtained(self) -> int:
        """Shots made when the slice is over."""
        return self.request.shots if self._stop is None else self._stop

    def ended(self, counts: dict[str, int], now: float) -> Outcome:
        """The outcome, with the simulated QPU's own exact times."""
        qpu_seconds = self._qpu_seconds()
        ended_at = self.started_at + qpu_seconds / self.speed_up
        late = time.monotonic() - self._end()
        if late > LATE:  # it hung, or the emulation was slower than the QPU
            ended_at = max(now, ended_at)
            self.provenance = {**self.provenance, "late_seconds": f"{late:.3f}"}
        full = self.shots_obtained() == self.request.shots
        return Outcome(
            state=OutcomeState.DONE if full else OutcomeState.CANCELED,
            counts=counts,
            started_at=self.started_at,
            ended_at=ended_at,
            qpu_seconds=qpu_seconds,
            setup_seconds=min(self.setup, qpu_seconds),
            message="" if full else f"cancelled after {self.shots_obtained()} of {self.request.shots} shots",
            provenance=self.provenance,
        )

    def failed(self, message: str, now: float, *, transient: bool = False) -> Outcome:
        """The outcome when no counts can be had; nothing is charged for it."""
        return Outcome(
            state=OutcomeState.FAILED,
            counts={},
            started_at=self.started_at,
            ended_at=max(now, self.started_at),
            qpu_seconds=0.0,
            message=message,
            transient=transient,
            provenance=self.provenance,
        )

    def settle(self, outcome: Outcome) -> None:
        """Tell the waiters."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def abandon(self, outcome: Outcome) -> None:
        """End it now, whatever it was doing."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self.tasks:
            task.cancel()
        self.settle(outcome)

    def _qpu_seconds(self) -> float:
        """QPU time of the slice, nominal: lateness of the host is not the user's."""
        if self._stop == 0:
            return min(self.setup, (time.monotonic() - self._began) * self.speed_up)
        return self.setup + self.shots_obtained() / self.rate

    def _end(self) -> float:
        """Monotonic time at which the slice is over."""
        if self._stop == 0:
            return self._began
        return self._began + (self.setup + self.shots_obtained() / self.rate) / self.speed_up
