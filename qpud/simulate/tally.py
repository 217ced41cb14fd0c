"""What a simulation counts while it runs; `measure.py` makes figures of it.

Entitlement is kept as virtual time (Parekh and Gallager 1993): while a slice of a tier is in flight, the tier's clock
runs at 1 ÷ (sum of the weights of those who have work in it), and whoever has work is entitled to his weight × what
the clock advanced. So a slice costs the same with ten contenders as with ten thousand.
"""

from __future__ import annotations

import msgspec

from qpud.core.session import Session


class JobTally(msgspec.Struct, gc=False):
    """One job: seconds on the trace's clock, QPU seconds of its kept shots and their set-up."""

    queue: str
    submitted_at: float
    started_at: float | None = None
    ended_at: float | None = None
    qpu_seconds: float = 0.0


class SessionTally:
    """One session. It waits while it has unfinished jobs and none of them has a slice in flight."""

    __slots__ = ("ended_at", "flying", "opened_at", "qpu_seconds", "session", "unfinished", "waited", "waiting_since")

    def __init__(self, session: Session, now: float) -> None:
        self.session = session
        self.opened_at = now
        self.ended_at: float | None = None
        self.qpu_seconds = 0.0
        self.unfinished = 0
        self.flying = 0
        self.waited = 0.0
        self.waiting_since: float | None = None

    def settle(self, now: float) -> None:
        """Begin or end to wait, after `unfinished` or `flying` changed."""
        if self.unfinished and not self.flying:
            if self.waiting_since is None:
                self.waiting_since = now
        elif self.waiting_since is not None:
            self.waited += now - self.waiting_since
            self.waiting_since = None

    def close(self, now: float) -> None:
        """The session ends, or the simulation does."""
        if self.waiting_since is not None:
            self.waited += now - self.waiting_since
            self.waiting_since = None
        self.ended_at = now


class ResourceTally:
    """One resource. Seconds in flight contain set-up and what was wasted."""

    __slots__ = ("busy_seconds", "preemptions", "setup_seconds", "shots", "slices", "wasted_shots")

    def __init__(self) -> None:
        self.slices = 0
        self.shots = 0
        self.busy_seconds = 0.0
        self.setup_seconds = 0.0
        self.wasted_shots = 0
        self.preemptions = 0


class TierClock:
    """The virtual time of one tier of one resource."""

    __slots__ = ("_at", "is_running", "time", "weight")

    def __init__(self) -> None:
        self.time = 0.0
        self.weight = 0.0  # of those who have work
        self.is_running = False
        self._at = 0.0

    def advance(self, now: float) -> None:
        """Bring the clock up to now."""
        if self.is_running and self.weight:
            self.time += (now - self._at) / self.weight
        self._at = now


class Contender:
    """Who shares one tier of one resource, by the name that FairShareBy asks for. Seconds are QPU seconds."""

    __slots__ = ("_since", "_weight", "clock", "entitled_seconds", "name", "served_seconds", "unfinished")

    def __init__(self, name: str, weight: float, clock: TierClock) -> None:
        self.name = name
        self.unfinished = 0
        self.entitled_seconds = 0.0
        self.served_seconds = 0.0
        self._weight = weight
        self.clock = clock
        self._since = 0.0

    def submit(self, now: float) -> None:
        """One more job."""
        self.unfinished += 1
        if self.unfinished == 1:
            self.clock.advance(now)
            self.clock.weight += self._weight
            self._since = self.clock.time

    def end(self, now: float) -> None:
        """One job less."""
        if self.unfinished == 1:
            self.claim(now)
            self.clock.weight -= self._weight
        self.unfinished -= 1

    def claim(self, now: float) -> None:
        """Take down what the clock gave while there was work."""
        self.clock.advance(now)
        if self.unfinished:
            self.entitled_seconds += self._weight * (self.clock.time - self._since)
            self._since = self.clock.time


class Flown(msgspec.Struct, gc=False):
    """One slice, for the plot."""

    resource: str
    queue: str
    started_at: float
    ended_at: float
    setup_seconds: float


class Tally:
    """Everything that one simulation counted."""

    def __init__(self, resources: list[str], queues: list[str], began_at: float) -> None:
        self.began_at = began_at
        self.ended_at = began_at
        self.jobs: list[JobTally] = []
        self.sessions: list[SessionTally] = []
        self.resources = {name: ResourceTally() for name in resources}
        self.queues = queues
        self.contenders: dict[tuple[str, int, str], Contender] = {}
        self.clocks: dict[tuple[str, int], TierClock] = {}
        self.flown: list[Flown] = []

    def contender(self, resource: str, tier: int, name: str, weight: float) -> Contender:
        """The contender of that name, made at its first job."""
        found = self.contenders.get((resource, tier, name))
        if found is None:
            found = Contender(name, weight, self.clock(resource, tier))
            self.contenders[resource, tier, name] = found
        return found

    def clock(self, resource: str, tier: int) -> TierClock:
        """The clock of one tier of one resource."""
        return self.clocks.setdefault((resource, tier), TierClock())

    def close(self, now: float) -> None:
        """The simulation ends: sessions that have not ended and entitlements are taken down as they are."""
        self.ended_at = now
        for session in self.sessions:
            if session.ended_at is None:
                session.close(now)
        for contender in self.contenders.values():
            contender.claim(now)
