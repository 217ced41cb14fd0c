"""What Slurm should show of the QPUs, and the steps from what it does show.

A mark is a licence reservation, or a partition that is DOWN. The daemon compares at each change and once a minute. A
mark is qpud's own only if qpud made it; one that an administrator made is left as it is, whatever its name.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from qpud.core.policy import Policy
from qpud.core.resource import ResourcePolicy
from qpud.core.session import SHARE_UNITS

WORSE_AFTER_SECONDS = 5.0
"""A resource that does not answer, or is down by its own word, shows in Slurm after this long without a break."""
BETTER_AFTER_SECONDS = 15.0
"""One that answers again has done so for this long before Slurm lets jobs start."""


class Kind(enum.StrEnum):
    """What a mark is."""

    RESERVATION = "reservation"
    PARTITION = "partition"


class Mark(NamedTuple):
    """Something that qpud has set in Slurm: a reservation by its name, or a partition that is DOWN."""

    kind: Kind
    name: str


class Verb(enum.StrEnum):
    """What a step does."""

    RESERVE = "reserve"
    CHANGE = "change"
    UNRESERVE = "unreserve"
    CLOSE = "close"  # partition DOWN
    OPEN = "open"  # partition UP
    FORGET = "forget"  # it is gone already
    LEAVE = "leave"  # in the way, and somebody else's


class Step(NamedTuple):
    """One action; `value` is the licences of a reservation."""

    verb: Verb
    mark: Mark
    value: str = ""


class Steadiness:
    """Whether a resource is well, told late: a flapping one changes Slurm once in 20 s at most."""

    def __init__(self) -> None:
        self.is_well: bool | None = None  # as told; None until it is known
        self._last: bool | None = None
        self._since = 0.0

    def observe(self, is_well: bool, now: float) -> None:
        """Take in how it is.

        Args:
            is_well: What the daemon sees.
            now: Monotonic seconds.
        """
        if is_well != self._last:
            self._last, self._since = is_well, now
        if (is_well and self.is_well is None) or now >= self._due_at():
            self.is_well = is_well

    def seconds_to_change(self, now: float) -> float | None:
        """When to look again, if it stays as it is; None if there is nothing to wait for."""
        return None if self._last is None or self._last == self.is_well else max(0.0, self._due_at() - now)

    def _due_at(self) -> float:
        return self._since + (BETTER_AFTER_SECONDS if self._last else WORSE_AFTER_SECONDS)


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """How one resource is, for Slurm."""

    is_out: bool | None
    """Drained, down, or does not answer; None: not known yet, whatever Slurm shows stays."""
    units_out: int = 0
    """Of 10, while it is degraded."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The marks that Slurm should show, and those that stay because nothing is known yet."""

    reservations: dict[str, str]
    partitions: frozenset[str]
    undecided: frozenset[Mark]


def reservation_of(resource: str) -> str:
    """The name of a resource's reservation."""
    return f"qpud_{resource}"


def concerns_slurm(policy: Policy) -> bool:
    """Whether any resource is to show in Slurm."""
    return any(one.slurm_licenses or one.slurm_partitions for one in policy.resources.values())


def wanted(policy: Policy, conditions: Mapping[str, Condition]) -> Wanted:
    """What Slurm should show.

    Args:
        policy: SlurmLicenses and SlurmPartitions of each resource. A partition is DOWN while all that list it are out.
        conditions: Of each resource.
    """
    reserved = {name: _licenses_out(one, conditions[name]) for name, one in policy.resources.items()}
    lists: dict[str, list[bool | None]] = {}
    for name, one in policy.resources.items():
        for partition in one.slurm_partitions:
            lists.setdefault(partition, []).append(conditions[name].is_out)
    undecided = [Mark(Kind.RESERVATION, reservation_of(name)) for name, text in reserved.items() if text is None]
    undecided += [Mark(Kind.PARTITION, name) for name, outs in lists.items() if None in outs and False not in outs]
    return Wanted(
        reservations={reservation_of(name): text for name, text in reserved.items() if text},
        partitions=frozenset(name for name, outs in lists.items() if all(outs)),
        undecided=frozenset(undecided),
    )


def _licenses_out(resource: ResourcePolicy, condition: Condition) -> str | None:
    if not resource.slurm_licenses:
        return ""
    if condition.is_out is None:
        return None
    units = SHARE_UNITS if condition.is_out else condition.units_out
    counts = [
        (name, -(-int(number) * units // SHARE_UNITS)) for name, number in _counts(",".join(resource.slurm_licenses))
    ]
    return ",".join(f"{name}:{number}" for name, number in counts if number)


def steps(
    want: Wanted, reservations: Mapping[str, str], partitions: Mapping[str, str], own: Iterable[Mark]
) -> list[Step]:
    """From what Slurm shows to what it should show.

    Args:
        want: What it should show.
        reservations: Licences of each reservation in Slurm, by name.
        partitions: State of each partition in Slurm, by name.
        own: The marks that qpud made, or was about to make.
    """
    own = frozenset(own)
    steps = [_reserve(name, text, reservations, own) for name, text in want.reservations.items()]
    steps += [_close(name, partitions) for name in sorted(want.partitions)]
    steps += [_give_back(mark, reservations, partitions) for mark in sorted(own) if _is_over(mark, want)]
    return [step for step in steps if step is not None]


def _reserve(name: str, licenses: str, there: Mapping[str, str], own: frozenset[Mark]) -> Step | None:
    mark = Mark(Kind.RESERVATION, name)
    if name not in there:
        return Step(Verb.RESERVE, mark, licenses)
    if mark not in own:
        return Step(Verb.LEAVE, mark)
    return None if sorted(_counts(there[name])) == sorted(_counts(licenses)) else Step(Verb.CHANGE, mark, licenses)


def _close(name: str, there: Mapping[str, str]) -> Step | None:
    """A partition that is not UP is closed already: by qpud, or by an administrator whose affair it stays."""
    mark = Mark(Kind.PARTITION, name)
    if name not in there:
        return Step(Verb.LEAVE, mark)
    return Step(Verb.CLOSE, mark) if there[name] == "UP" else None


def _give_back(mark: Mark, reservations: Mapping[str, str], partitions: Mapping[str, str]) -> Step:
    if mark.kind is Kind.RESERVATION:
        return Step(Verb.UNRESERVE if mark.name in reservations else Verb.FORGET, mark)
    return Step(Verb.OPEN if partitions.get(mark.name) == "DOWN" else Verb.FORGET, mark)


def _is_over(mark: Mark, want: Wanted) -> bool:
    names = want.reservations if mark.kind is Kind.RESERVATION else want.partitions
    return mark.name not in names and mark not in want.undecided


def _counts(licenses: str) -> list[tuple[str, str]]:
    """`qpu:10,laser:2` as pairs; a licence without number counts once, as in Slurm."""
    found = [part.rpartition(":") for part in licenses.split(",") if part]
    return [(name, number) if name else (number, "1") for name, _colon, number in found]
