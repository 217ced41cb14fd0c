"""What a session rehearses, on the wire of the native dialect."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from qpud.core.faults import FaultPlan, parse
from qpud.core.rehearsal import Emulator, Rehearsal, rehearsal

Seed = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Name = Annotated[str, Meta(max_length=255)]


class RehearsalAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a session asks for its tests; refused where it could harm anybody.

    `fault` is injected on emulators and simulated QPUs: "preempt:3,lose-shots:5%,delay:2s,error:0.1". With `seed` the
    n-th job of the session draws the same shots as the n-th job of any session with that seed. On emulators: `like`
    takes the place of a QPU, with its device spec, its noise and, with `speed_up`, its times; `emulator` chooses one,
    product and random being mocks without physics; `bond_dim` bounds the tensor network. `resource` is where it will
    be used, to be checked at once.
    """

    fault: Annotated[str, Meta(max_length=200)] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    like: Name | None = None
    speed_up: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    emulator: Emulator | None = None
    bond_dim: Annotated[int, Meta(ge=1, le=1024)] | None = None
    resource: Name | None = None


class RehearsalView(msgspec.Struct, frozen=True, kw_only=True):
    """What a session rehearses."""

    fault: str
    seed: int | None
    like: str
    speed_up: float | None
    emulator: str | None
    bond_dim: int | None


def asked(ask: RehearsalAsk | None) -> Rehearsal | None:
    """What a request asks of its session; None if nothing. Raises: Invalid."""
    if ask is None:
        return None
    return rehearsal(
        faults=parse(ask.fault) if ask.fault else FaultPlan(),
        seed=ask.seed,
        like=ask.like or "",
        speed_up=ask.speed_up,
        emulator=ask.emulator,
        bond_dim=ask.bond_dim,
    )


def view(found: Rehearsal) -> RehearsalView:
    """What a session rehearses."""
    return RehearsalView(
        fault=found.faults.text,
        seed=found.seed,
        like=found.like,
        speed_up=found.speed_up,
        emulator=found.emulator,
        bond_dim=found.bond_dim,
    )
