"""Faults on demand of the simulated QPU: for tests of the scheduler, and to train operators and users."""

from __future__ import annotations

import enum
from typing import cast

import msgspec


class Garbage(enum.StrEnum):
    """Ways in which counts can be wrong; the scheduler must survive each."""

    WRONG_LENGTH = "wrong-length"  # bitstrings one atom too long
    TOO_MANY = "too-many"  # twice the shots asked for
    NOT_INTEGERS = "not-integers"  # 0.5 more of each bitstring


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the simulated QPU; `Faults()` is a healthy one.

    `times` bounds how many slices are touched, counted when they start (None: every slice until changed).
    """

    down: bool = False  # health says DOWN, slices are refused for now
    away: bool = False  # nothing answers any more; the slice in flight goes on unseen
    refuse: str = ""  # the reason of the refusal
    refuse_transient: bool = True
    hang: bool = False  # slices never end until this is cleared or they are cancelled
    lose_shots: float = 0.0  # below 1: the fraction of the shots asked for; else: their number
    garbage: Garbage | None = None
    lose_reply: bool = False  # the slice starts, the answer to `start` is lost; `find` knows it
    lose_wait: bool = False  # `wait` gets no answer, `find` does
    times: int | None = None

    def lost_of(self, shots: int) -> int:
        """How many of `shots` are lost, between 0 and `shots`."""
        lost = self.lose_shots * shots if self.lose_shots < 1 else self.lose_shots
        return max(0, min(shots, round(lost)))

    def spoil(self, counts: dict[str, int]) -> dict[str, int]:
        """The counts as this fault reports them."""
        if self.garbage is Garbage.WRONG_LENGTH:
            return {bits + "0": number for bits, number in counts.items()}
        if self.garbage is Garbage.TOO_MANY:
            return {bits: 2 * number for bits, number in counts.items()}
        if self.garbage is Garbage.NOT_INTEGERS:
            return cast("dict[str, int]", {bits: number + 0.5 for bits, number in counts.items()})
        return counts
