"""Slices: the shots of one job handed to the resource in one go; the grain of preemption, one row each.

state     meaning                                            after a crash
INTENT    committed before the driver is called              ask the driver by tag: known → adopt, unknown → run it
RUNNING   the resource has it under `device_id`              adopt it by id or tag
DONE      counts merged and charged, once                    -
FAILED    the resource refused or lost it; nothing counted   -
CANCELED  stopped; the shots obtained are counted            -
UNKNOWN   in flight, and the resource does not answer        wait, say so, start nothing else there
"""

from __future__ import annotations

import enum

import msgspec


class SliceState(enum.StrEnum):
    """What a slice is."""

    INTENT = "INTENT"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    UNKNOWN = "UNKNOWN"


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """Some shots of one job on the resource. Times are float seconds since the epoch, UTC."""

    id: int
    job_id: int
    number: int  # 0, 1, 2 … within the job
    resource: str
    tag: str  # unique; sent to the QPU as context, found again after a crash
    shots: int  # asked for
    first_shot: int  # index of its first shot within the job: the emulators deal shots from one draw
    seed: int
    state: SliceState = SliceState.INTENT
    device_id: str | None = None
    intended_at: float
    started_at: float | None = None
    ended_at: float | None = None


class OutcomeState(enum.StrEnum):
    """How a slice ended at the resource."""

    DONE = "DONE"
    CANCELED = "CANCELED"
    FAILED = "FAILED"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver reports of an ended slice.

    `sum(counts.values())` is the number of shots obtained; it may be less than asked (lost shots: the scheduler
    asks for the rest in a further slice) and is partial or empty when CANCELED or FAILED. More than asked is a
    fault of the driver. Of an opaque program, whose result is no counts, `result` is the text as it came and
    `result_shots` the shots that it stands for; `counts` is empty then.
    """

    state: OutcomeState
    counts: dict[str, int]
    started_at: float  # wall, when the resource began (set-up included)
    ended_at: float
    qpu_seconds: float  # to charge, set-up included; QPU time, i.e. wall × SpeedUp on a simulated QPU
    setup_seconds: float = 0.0  # the part of qpu_seconds spent on the register change
    message: str = ""  # one sentence for the user when not DONE
    transient: bool = False  # FAILED: worth another try (a flooded or restarting resource)
    provenance: dict[str, str] = {}  # driver, emulator, versions
    result: str | None = None
    result_shots: int = 0

    @property
    def shots(self) -> int:
        """Shots obtained."""
        return self.result_shots if self.result is not None else sum(self.counts.values())


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What a slice costs its session, and what of it was wasted by preemption and is charged to nobody."""

    shots: int
    qpu_seconds: float
    setup_seconds: float
    wasted_shots: int = 0
    wasted_seconds: float = 0.0


def merge_counts(into: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    """Add counts bitstring by bitstring; exact, order-free. Returns a new dict."""
    merged = dict(into)
    for bits, number in more.items():
        merged[bits] = merged.get(bits, 0) + number
    return merged
