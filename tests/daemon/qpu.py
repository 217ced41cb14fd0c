"""A QPU that outlives daemons: what a crash leaves at the resource, and what ran there, is on record here.

Shot i of a job is measured as the number i in binary: a shot that ran twice or was lost shows in the counts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from qpud.core.slices import Outcome, OutcomeState
from qpud.drivers.base import DeviceSpec, Health, HealthState, Refused, SliceRequest, Unreachable
from tests.drivers.builders import device_spec

ATOMS = 12
SPEC = device_spec()


def bits(shot: int) -> str:
    return f"{shot:0{ATOMS}b}"


class Qpu:
    """Slices in flight and ended, by tag.

    Args:
        seconds: How long a slice takes; None: until the test says `finish`.
        rate: Shots per second, for the length of slices.
        cuts: Whether a cancel ends a slice that would end by itself: with its first shot, every third time with
            none, and with 3 s of QPU time for shots that are not handed over.
    """

    def __init__(self, seconds: float | None = None, rate: float = 10.0, *, cuts: bool = False) -> None:
        self.seconds = seconds
        self.cuts = cuts
        self.rate = rate
        self.requests: list[SliceRequest] = []
        self.ran: Counter[tuple[int, int]] = Counter()  # (job, shot) → how often it was measured
        self.canceled: list[str] = []
        self.released: list[int] = []
        self.outcomes: dict[str, asyncio.Future[Outcome]] = {}
        self.running: str | None = None
        self.now: Callable[[], float] = lambda: 2.0
        self.away = False
        self.lose_replies = 0
        self.refusals: list[Refused] = []
        self.health = Health(state=HealthState.UP)
        self.spec: DeviceSpec | None = SPEC
        self.changed = asyncio.Event()

    def answer(self) -> None:
        if self.away:
            raise Unreachable("the QPU does not answer")

    def launch(self, request: SliceRequest) -> str:
        if self.refusals:
            raise self.refusals.pop(0)
        if self.running is not None:
            raise Refused(f"busy with {self.running}", transient=True)
        assert request.tag not in self.outcomes, f"slice {request.tag} came twice"
        self.requests.append(request)
        self.outcomes[request.tag] = asyncio.get_running_loop().create_future()
        self.running = request.tag
        self.changed.set()
        if self.seconds is not None:
            asyncio.get_running_loop().call_later(self.seconds, self._finish_in_time, request.tag)
        return request.tag

    def finish(
        self,
        shots: int | None = None,
        *,
        state: OutcomeState = OutcomeState.DONE,
        counts: dict[str, int] | None = None,
        message: str = "",
        transient: bool = False,
        more_seconds: float = 0.0,
    ) -> None:
        """End the slice that runs, with all shots and 0.1 s for each unless told otherwise."""
        request = self.requests[-1]
        assert self.running == request.tag, "nothing runs"
        made = range(request.first_shot, request.first_shot + (request.shots if shots is None else shots))
        self.ran.update((request.job_id, shot) for shot in made)
        self.running = None
        self.outcomes[request.tag].set_result(
            Outcome(
                state=state,
                counts={bits(shot): 1 for shot in made} if counts is None else counts,
                started_at=self.now() - 1.0,
                ended_at=self.now(),
                qpu_seconds=0.1 * len(made) + more_seconds,
                message=message,
                transient=transient,
                provenance={"driver": "test"},
            )
        )

    def _finish_in_time(self, tag: str) -> None:
        if self.running == tag:
            self.finish()


class QpuDriver:
    """The driver of one daemon's life; the QPU stays."""

    def __init__(self, name: str, qpu: Qpu) -> None:
        self.name = name
        self.qpu = qpu

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def spec(self) -> DeviceSpec:
        if self.qpu.spec is None:
            raise Unreachable("no spec yet")
        return self.qpu.spec

    async def health(self) -> Health:
        return self.qpu.health

    def shots_for(self, seconds: float) -> int:
        return max(1, int(seconds * self.qpu.rate))

    async def start(self, request: SliceRequest) -> str:
        await asyncio.sleep(0)
        self.qpu.answer()
        device_id = self.qpu.launch(request)
        await asyncio.sleep(0)
        if self.qpu.lose_replies:
            self.qpu.lose_replies -= 1
            raise Unreachable("the reply was lost")
        return device_id

    async def wait(self, device_id: str, request: SliceRequest) -> Outcome:
        self.qpu.answer()
        outcome = await asyncio.shield(self.qpu.outcomes[device_id])
        self.qpu.answer()
        return outcome

    async def find(self, request: SliceRequest) -> str | None:
        await asyncio.sleep(0)
        self.qpu.answer()
        return request.tag if request.tag in self.qpu.outcomes else None

    async def cancel(self, device_id: str) -> None:
        self.qpu.answer()
        self.qpu.canceled.append(device_id)
        if self.qpu.running == device_id and self.qpu.seconds is None:
            self.qpu.finish(1, state=OutcomeState.CANCELED, message="cancelled after 1 shot")
        elif self.qpu.running == device_id and self.qpu.cuts:
            shots = 0 if len(self.qpu.canceled) % 3 == 0 else 1
            self.qpu.finish(shots, state=OutcomeState.CANCELED, message="cut", more_seconds=3.0)

    def release(self, job_id: int) -> None:
        self.qpu.released.append(job_id)
