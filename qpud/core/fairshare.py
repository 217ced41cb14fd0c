"""Fair queueing: contenders have a resource in proportion to their weights, each within one slice of what is its due.

Start-time fair queueing (Goyal, Vin & Cheng 1996) needs no slice's length before its end, but may serve a heavy
contender late by one slice of each light one. So a contender is served only while it is not ahead of its due, and
the one whose due is nearest goes first, as in earliest eligible virtual deadline first (Stoica & Abdel-Wahab 1995).

A group has a virtual time, which runs by seconds charged ÷ the sum of the weights of those that have work. A
contender has a start tag: the virtual time at which what it was charged would have been its due. Its lag, what it is
owed in seconds, is (virtual time - start tag) × weight. Who comes back from idleness starts at the virtual time:
what was not asked for is lost, what was taken too much is not forgotten.

Groups nest: an account is a contender, and the group of its users; a user is a contender, and the group of his
sessions.
"""

from __future__ import annotations

from collections.abc import Iterator

from qpud.core.line import NOTHING, Work

_TOLERANCE = 1e-9  # of sums of floats, relative to the tag


class Contender:
    """One that shares: a session, or a user or account on behalf of its sessions.

    Attributes:
        key: Its name in its group.
        kind: session, user or account.
        weight: Units, > 0.
        start: Start tag, in QPU-seconds per unit.
        served: QPU-seconds charged so far.
        owed: QPU-seconds that it was owed when it last ran out of work.
        members: Those that share what it gets; None for a session.
    """

    __slots__ = ("group", "is_active", "key", "kind", "members", "owed", "served", "start", "weight")

    def __init__(self, group: Group, key: str, kind: str, weight: float) -> None:
        self.group = group
        self.key = key
        self.kind = kind
        self.weight = weight
        self.start = group.virtual
        self.served = 0.0
        self.owed = 0.0
        self.is_active = False
        self.members: Group | None = None

    @property
    def work(self) -> Work:
        """What is queued of it; of a user or account that is its members' affair."""
        return NOTHING

    @property
    def lag_seconds(self) -> float:
        """QPU-seconds that it is owed; negative: that it has had too much."""
        return (self.group.virtual - self.start) * self.weight

    def deadline(self, quantum: float) -> float:
        """Virtual time at which `quantum` QPU-seconds from its start tag on are due."""
        return self.start + quantum / self.weight


class Group:
    """Contenders of one level that share between them.

    Attributes:
        owner: The contender whose members they are; None at the top.
        virtual: Virtual time, in QPU-seconds per unit.
        total: Sum of the weights of those that have work.
        active: Those that have work.
    """

    __slots__ = ("active", "contenders", "owner", "total", "virtual")

    def __init__(self, owner: Contender | None = None) -> None:
        self.owner = owner
        self.virtual = 0.0
        self.total = 0.0
        self.active: dict[str, Contender] = {}
        self.contenders: dict[str, Contender] = {}

    def add(self, contender: Contender) -> None:
        """Make a contender known; it has no work yet."""
        self.contenders[contender.key] = contender

    def remove(self, contender: Contender) -> None:
        """Forget a contender without work for good.

        What it had too much is owed to those who have work: else a stream of newcomers with a slice each would take
        it from whoever stays.
        """
        del self.contenders[contender.key]
        if self.active:
            self.virtual -= min(0.0, contender.lag_seconds) / self.total

    def allowed(self, quantum: float) -> list[Contender]:
        """Who may have the next slice so that nobody falls more than a slice behind its due.

        Args:
            quantum: Longest slice in QPU-seconds, set-up included.

        Returns:
            By due time: of those that are not ahead of their due the first, and each before which all others, also
            those that are ahead now, can wait for one slice more.
        """
        if len(self.active) == 1:
            return list(self.active.values())
        by_due = sorted(self.active.values(), key=lambda one: one.start + quantum / one.weight)
        latest = self._latest_start()
        step = quantum / self.total
        done = self.virtual + step
        found: list[Contender] = []
        for one in by_due:
            if one.start <= latest:
                found.append(one)
            done += step
            if found and done > one.deadline(quantum) * (1 + _TOLERANCE):
                break
        return found

    def _latest_start(self) -> float:
        """Who started later is ahead. If all are, because one that was behind has left, time jumps to the first."""
        first = min(one.start for one in self.active.values())
        self.virtual = max(self.virtual, first)
        return self.virtual + _TOLERANCE * max(1.0, abs(self.virtual))

    def reweigh(self, contender: Contender, weight: float) -> None:
        """Change a weight; its lag stays what it was in units of virtual time."""
        if contender.is_active:
            self.total += weight - contender.weight
        contender.weight = weight


def activate(contender: Contender | None) -> None:
    """Give a contender work, and those it stands for: from now on it is owed its part.

    It comes back with what it had taken too much, as far as that has not been made up for meanwhile, and with what it
    was owed when it left: whoever submits one job after the other is away at each boundary. Where nobody else has
    work, nobody owes anything.
    """
    while contender is not None and not contender.is_active:
        group = contender.group
        lag = min(contender.lag_seconds, contender.owed) if group.active else 0.0
        contender.is_active = True
        if group.active:
            group.virtual -= lag / group.total
        contender.start = group.virtual - lag / contender.weight
        group.total += contender.weight
        group.active[contender.key] = contender
        contender = group.owner


def retire(contender: Contender | None) -> None:
    """Take a contender without work out of the reckoning, and those it stood for if nobody else has work there.

    Virtual time steps by what it leaves behind, so that those who stay are owed, all together, nothing: nobody can
    make up for what has gone (Stoica & Abdel-Wahab 1995, equation 18).
    """
    while contender is not None and contender.is_active and not (contender.members and contender.members.active):
        group, lag = contender.group, contender.lag_seconds
        contender.is_active = False
        contender.owed = max(0.0, lag)
        del group.active[contender.key]
        group.total = group.total - contender.weight if group.active else 0.0
        if group.active:
            group.virtual += lag / group.total
            contender.start = group.virtual - lag / contender.weight
        contender = group.owner


def sessions_in(group: Group) -> Iterator[str]:
    """The sessions with work in a group and those below it."""
    for one in group.active.values():
        if one.members is None:
            yield one.key
        else:
            yield from sessions_in(one.members)


def part_of(contender: Contender) -> float:
    """The part of the resource, 0 to 1, that is due to a contender with work."""
    part = 1.0
    current: Contender | None = contender
    while current is not None:
        part *= current.weight / (current.group.total or current.weight)
        current = current.group.owner
    return part


def charge(contender: Contender | None, seconds: float) -> None:
    """Charge QPU-seconds to an active contender and to those it stands for."""
    while contender is not None:
        group = contender.group
        if group.total > 0:
            group.virtual += seconds / group.total
        contender.start += seconds / contender.weight
        contender.served += seconds
        contender = group.owner
