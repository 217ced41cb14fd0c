"""What the drivers of a QPU elsewhere share: it cannot call us, so that it is polled, near the end that is expected.

`RemoteDriver` is their one base: it keeps the device spec, the built sequences and the measured rate, and polls a
slice until it has ended. How to submit, ask, find and cancel is each driver's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec

from qpud.core.resource import ResourcePolicy
from qpud.core.slices import Outcome
from qpud.drivers.base import (
    Clock,
    DeviceSpec,
    Health,
    HealthState,
    Refused,
    SliceRequest,
    Undecided,
    Unreachable,
    WorkersProtocol,
)
from qpud.drivers.exchange import Answer
from qpud.drivers.onprem_job import Phase
from qpud.drivers.onprem_outcome import Observed, gone
from qpud.drivers.pace import Pace, Rhythm
from qpud.drivers.spec import Built, KeptSpec

HEALTH_SECONDS = 5.0
"""Longest time that `health` takes."""
REMEMBERED = 64
"""Slices that are kept in mind."""
THE_PROGRAMS_FAULT = frozenset({400, 413, 422})
"""Refusals that the same slice would meet again."""


class Submitted(msgspec.Struct):
    """A slice that was handed over: when, by the wall and by the monotonic clock; its id there, once that is known.

    `adopted`: an earlier daemon did that, and when is not known.
    """

    wall: float
    at: float
    id: str | None = None
    adopted: bool = False


class Reported(Protocol):
    """What a QPU elsewhere tells of a slice: its own word, and what that means."""

    @property
    def status(self) -> str:
        """Its word."""

    @property
    def phase(self) -> Phase:
        """The meaning."""


Job = TypeVar("Job", bound=Reported)


class RemoteDriver:
    """A QPU elsewhere, that is polled.

    Args:
        policy: Its section: ShotRate (first guess), PollMin, PollMax.
        workers: Builds sequences for the device.
        clock: Wall time.
        fetch_spec: Asks the QPU for its device spec; raises Unreachable.
        noun: What a slice is called there.
    """

    def __init__(
        self,
        policy: ResourcePolicy,
        workers: WorkersProtocol,
        clock: Clock,
        fetch_spec: Callable[[], Awaitable[DeviceSpec]],
        *,
        noun: str = "job",
    ) -> None:
        self.name = policy.name
        self.polls = 0
        """Polls of slices since the start of the daemon."""
        self._policy = policy
        self._clock = clock
        self._noun = noun
        self._pace = Pace(policy.shot_rate, policy.poll_min, policy.poll_max)
        self._spec = KeptSpec(policy.name, fetch_spec)
        self._built = Built(policy.name, workers)
        self._open = False
        self._nudge = asyncio.Event()

    @property
    def shot_rate(self) -> float:
        """Shots per second: measured, or ShotRate before the first slice."""
        return self._pace.shot_rate

    async def open(self) -> None:
        """Nothing is asked of the QPU yet."""
        self._open = True

    async def close(self) -> None:
        """End the waits; what is at the QPU goes on."""
        self._open = False
        self._nudge.set()

    async def spec(self) -> DeviceSpec:
        """The device spec, at most SPEC_SECONDS old while the QPU answers. Raises: Unreachable."""
        return await self._spec.get()

    def shots_for(self, seconds: float) -> int:
        """Shots in `seconds` by the measured rate, at least 1."""
        return self._pace.shots_for(seconds)

    def release(self, job_id: int) -> None:
        """Drop the built sequence."""
        self._built.release(job_id)

    def _check_takes_slices(self) -> None:
        if not self._open:
            raise Refused(f"resource {self.name} is closed", transient=True)

    def _check_open(self) -> None:
        if not self._open:
            raise Unreachable(f"resource {self.name} is closed")

    def _observed(self, device_id: str, request: SliceRequest, submitted: Submitted | None) -> Observed:
        """What is known of a slice before its first poll."""
        ours = submitted is not None and submitted.id == device_id and not submitted.adopted
        return Observed(
            request=request,
            clock=self._clock,
            started_at=submitted.wall if submitted is not None and ours else None,
            since=submitted.at if submitted is not None else time.monotonic(),
            driver=str(self._policy.driver),
        )

    async def _until_ended(
        self,
        device_id: str,
        seen: Observed,
        look: Callable[[str, Observed], Awaitable[Job | None]],
        finish: Callable[[Job, Observed], Awaitable[Outcome | None]],
    ) -> Outcome:
        """Poll a slice until it has ended, or is not known there twice in a row.

        Args:
            device_id: Its id there.
            seen: What is known of it; kept up to date.
            look: Asks for it; None if it is not known there.
            finish: The outcome of what has ended; None if it has to be asked once more.

        Raises:
            Unreachable: No answer, or none that can be understood; the driver is closed.
        """
        rhythm = Rhythm(self._pace, seen.request.shots)
        if seen.is_ours:
            await self._rest(rhythm, seen)
        else:
            rhythm.hurry()  # it may have ended long ago
        while True:
            job = await self._poll(device_id, seen, look)
            if job is None and seen.misses > 1:
                return gone(self.name, device_id, seen)
            if job is not None and job.phase is not Phase.ACTIVE:
                if (outcome := await finish(job, seen)) is not None:
                    return outcome
                rhythm.hurry()
            await self._rest(rhythm, seen)

    async def _poll(
        self, device_id: str, seen: Observed, look: Callable[[str, Observed], Awaitable[Job | None]]
    ) -> Job | None:
        what = f"{self._noun} {device_id}"
        if not self._open:
            raise Unreachable(f"resource {self.name} is closed; {what} goes on there")
        self.polls += 1
        seen.polls += 1
        job = await look(device_id, seen)
        seen.misses = seen.misses + 1 if job is None else 0
        if job is not None and job.phase is Phase.UNKNOWN:
            words = "look there, and cancel the job here if it must not wait"
            raise Undecided(f"resource {self.name} reports the unknown status {job.status} of {what}: {words}")
        return job

    async def _rest(self, rhythm: Rhythm, seen: Observed) -> None:
        """Pause until the next poll; a cancel cuts it short."""
        try:
            async with asyncio.timeout(rhythm.next(seen.elapsed)):
                await self._nudge.wait()
        except TimeoutError:
            return
        self._nudge.clear()
        rhythm.hurry()


def forget_oldest(kept: dict[str, Any]) -> None:
    """Keep the REMEMBERED newest."""
    while len(kept) > REMEMBERED:
        del kept[next(iter(kept))]


async def health_of(name: str, asking: Awaitable[Answer], trouble: Callable[[Answer], str]) -> Health:
    """The word of a QPU that tells its health over HTTP.

    Args:
        name: The resource.
        asking: The answer to come.
        trouble: Why it takes no work, by that answer; "" if it does.
    """
    try:
        async with asyncio.timeout(HEALTH_SECONDS):
            words = trouble(await asking)
    except TimeoutError:
        message = f"resource {name} did not answer within {HEALTH_SECONDS:g} s"
        return Health(state=HealthState.UNREACHABLE, message=message)
    except Unreachable as fault:
        return Health(state=HealthState.UNREACHABLE, message=fault.message)
    return Health(state=HealthState.DOWN if words else HealthState.UP, message=words)


def refusal_of(name: str, status: int, words: str) -> Refused:
    """A slice that was answered with an HTTP status of refusal: some the same slice would meet again."""
    return Refused(f"resource {name} refused the slice: {words}", transient=status not in THE_PROGRAMS_FAULT)


def check_credentials(name: str, status: int, words: str) -> None:
    """Our credentials were taken. Raises: Unreachable."""
    if status in (401, 403):
        raise Unreachable(f"resource {name}: {words}")
