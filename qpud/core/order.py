"""The order of the pending jobs of one resource: what every scheduler is to the rest.

SchedulerType  order                                                                         jobs run
share          fairorder.py: tiers, then fair shares, set-up, hints, age                     in slices
priority       keyorder.py: tiers, then first come first served                              whole
fifo           keyorder.py: first come first served                                          whole
exclusive      keyorder.py: first come first served, and a session keeps the resource        whole
module:Class   keyorder.py: the site's own sort key                                          as the class says
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from qpud.core.fairshare import Contender, Group
from qpud.core.job import Job
from qpud.core.line import Work
from qpud.core.session import Session

SessionOf = Callable[[str], Session | None]
Admits = Callable[[Job], bool]


class Newcomers(enum.Enum):
    """Whom a job that comes later may overtake: what a forecast has to reckon with."""

    NOBODY = enum.auto()
    LOWER_TIERS = enum.auto()
    ANYBODY = enum.auto()  # a site's own key: nobody knows
    OTHER_SESSIONS = enum.auto()  # a session keeps the resource until it ends, however much it still submits


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What is known at a slice boundary."""

    now: float  # seconds since the epoch
    current: Job | None = None  # had the last slice and could go on
    register: str | None = None  # loaded, if another one would cost set-up time
    quanta: dict[int, float] = {}  # tier → its longest ordinary slice in QPU-seconds, set-up included
    admits: Admits | None = None  # what else must hold for a job to start: reservations, limits


class ShareRow(msgspec.Struct, frozen=True, kw_only=True):
    """One contender as `qpud shares` shows it; times in QPU-seconds."""

    tier: int
    name: str
    kind: str  # account, user or session
    parent: str  # name of the account or user above; "" at the top
    weight: float
    entitled: float  # part of the resource, 0 to 1, among those of its tier that have work; 0 without work
    served_seconds: float  # charged since the daemon started
    lag_seconds: float  # owed; negative: had too much
    usage_seconds: float  # decayed, of users and accounts
    is_active: bool


class Order(Protocol):
    """The pending jobs of one resource, and who of them goes next."""

    runs_whole: bool  # a job that has begun keeps the resource to its last shot
    newcomers: Newcomers

    def __len__(self) -> int:
        """How many jobs are queued."""

    def __contains__(self, job_id: int) -> bool:
        """Whether a job is queued."""

    def put(self, job: Job) -> None:
        """Queue a job, or take in its new version."""

    def drop(self, job_id: int) -> None:
        """Take a job out; unknown ids are ignored."""

    def take(self, job: Job) -> None:
        """Give the resource to a job: it is not queued, but still has work, until `quit`."""

    def quit(self, job_id: int) -> None:
        """A job that was taken has left the resource for good; unknown ids are ignored."""

    def forget(self, session_id: str) -> None:
        """The session has ended."""

    def renew(self, session: Session) -> None:
        """The session holds another number of nodes: its jobs are ordered by it from now on."""

    def choose(self, ask: Ask) -> Job | None:
        """Who gets the next slice: the current job or a queued one; None if nobody may."""

    def charge(self, job: Job, seconds: float, now: float) -> None:
        """Charge QPU-seconds to a job that was taken."""

    def tier_of(self, job: Job) -> int:
        """The tier in which the job stands now."""

    def best_tier(self, ask: Ask) -> int | None:
        """The highest tier of a queued job that may start; None if there is none."""

    def has_others(self, job: Job) -> bool:
        """Whether another contender of the job's tier has work."""

    def is_ahead(self, job: Job) -> bool:
        """Whether a queued job waits because its session has had its share for now."""

    def head(self) -> int | None:
        """The queued job that would be next if nothing had the resource."""

    def in_order(self, limit: int) -> list[int]:
        """The best `limit` queued jobs, about as they will go."""

    def shares(self, now: float) -> list[ShareRow]:
        """Entitled and served parts; empty where nothing is shared."""

    def work_before(self, job: Job) -> Work:
        """What is queued before a job: in its session where the resource is shared, else in the whole queue."""

    def work_of(self, job: Job) -> Work:
        """What a queued job adds to it."""

    def contender_of(self, job: Job) -> Contender | None:
        """Who competes for a job that is queued or has the resource; None where nothing is shared."""

    def walk(self) -> Iterator[tuple[Job, Work, Work]]:
        """The queued jobs, each with its `work_before` and `work_of`: those that share one by one, in their order."""

    def tiers(self) -> list[tuple[int, Group]]:
        """Those that share in each tier, highest first; empty where nothing is shared."""


class Rule(Protocol):
    """A site's own order: a sort key. Named in the policy file as `SchedulerType = module:Class`."""

    runs_whole: bool

    def key(self, job: Job, session: Session | None, tier: int) -> tuple[Any, ...]:
        """The sort key of a job; smaller goes first. Called when the job is queued, and again after each slice."""
