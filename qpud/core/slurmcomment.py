"""What the admin comment of a Slurm job says of its QPU work, and when it is worth saying anew.

    qpud qpu=FRESNEL share=3 hint=cc-heavy; QPU work ends about 14:05

The part before the semicolon is what job_submit.lua wrote, so whoever reads it goes on reading.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import msgspec

SOON_SECONDS = 120.0
"""What ends earlier is not told by its minute: it would be told again and again."""
LEAST_SHIFT_SECONDS = 60.0
LEAST_SHIFT_PART = 0.1
"""An end is told anew if it moved by more than both: a minute, and this part of the time until then."""


class Stage(enum.StrEnum):
    """How far the QPU work of a Slurm job is."""

    WAITS = "waits"  # nobody knows until when: held, drained
    SOON = "ends within 2 minutes"
    LATER = "ends about"
    DONE = "is done"


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """The QPU work of one Slurm job, all its sessions together."""

    resources: tuple[str, ...]
    share: int
    hint: str
    stage: Stage
    ends_at: float | None = None  # seconds since the epoch, UTC; with LATER only


def stage_of(is_unfinished: bool, ends_at: float | None, now: float) -> Stage:
    """The stage of work that is forecast to end then."""
    if not is_unfinished:
        return Stage.DONE
    if ends_at is None:
        return Stage.WAITS
    return Stage.SOON if ends_at - now < SOON_SECONDS else Stage.LATER


def text_of(work: Work, clock: Callable[[float], str]) -> str:
    """The comment: one line of ASCII.

    Args:
        work: What to tell.
        clock: Writes a moment as the site reads it.
    """
    hint = f" hint={work.hint}" if work.hint else ""
    when = f" {clock(work.ends_at)}" if work.stage is Stage.LATER and work.ends_at is not None else ""
    return f"qpud qpu={_listed(work.resources)} share={work.share}{hint}; QPU work {work.stage}{when}"


def is_worth_telling(told: Work | None, work: Work, now: float) -> bool:
    """Whether the comment should be written anew."""
    if told is None or msgspec.structs.replace(told, ends_at=work.ends_at) != work:
        return True
    if told.ends_at is None or work.ends_at is None:
        return False
    return abs(work.ends_at - told.ends_at) > max(LEAST_SHIFT_SECONDS, LEAST_SHIFT_PART * (work.ends_at - now))


def _listed(resources: tuple[str, ...]) -> str:
    """The names, as many as fit into a comment."""
    text = ",".join(resources)
    return text if len(text) <= 120 else f"{text[:117].rpartition(',')[0]},..."
