"""A session among those that share: its queued jobs, and which of them goes next."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from qpud.core.fairshare import Contender, Group
from qpud.core.job import Job, JobState
from qpud.core.line import NOTHING, Line, Work
from qpud.core.session import Hint, Session

LONGEST_DETOUR = 64
"""Jobs of the loaded register that may overtake an older job of the same session in a row."""


class Key(NamedTuple):
    """Order within a session."""

    not_begun: bool
    submitted_at: float
    job_id: int


class Leaf(Contender):
    """A session with its queued jobs.

    Args:
        group: Where it competes.
        session_id: Its key.
        session: Gives units, hint, nodes and Slurm's priority; None for a session that has ended.
    """

    __slots__ = (
        "_by_register",
        "_detours",
        "_heap",
        "_line",
        "_queued",
        "_registers",
        "hint",
        "priority",
        "serving",
        "value",
    )

    def __init__(self, group: Group, session_id: str, session: Session | None) -> None:
        super().__init__(group, session_id, "session", float(session.share if session else 1))
        self.hint = session.hint if session else Hint.NONE
        self.value = _value(session)
        self.priority = session.slurm_priority if session else 0
        self.serving: set[int] = set()  # jobs that have the resource, or are leaving it
        self._queued: dict[int, tuple[Key, Job]] = {}
        self._heap: list[Key] = []
        self._by_register: dict[str, list[Key]] = {}
        self._detours = 0
        self._line: Line[Key] = Line()
        self._registers: Counter[str] = Counter()  # queued jobs of each

    def __len__(self) -> int:
        return len(self._queued)

    @property
    def has_work(self) -> bool:
        """Whether a job of it is queued or has the resource."""
        return bool(self._queued or self.serving)

    def put(self, job: Job) -> None:
        """Queue a job."""
        key = Key(job.state is JobState.PENDING, job.submitted_at, job.id)
        known = self._queued.get(job.id)
        self._count(key, job, known)
        self._queued[job.id] = (key, job)
        if known is None or known[0] != key:
            heapq.heappush(self._heap, key)
            heapq.heappush(self._by_register.setdefault(job.register_hash, []), key)

    def drop(self, job_id: int) -> None:
        """Take a job out."""
        known = self._queued.pop(job_id, None)
        if known is not None:
            self._line.drop(known[0])
            self._registers[known[1].register_hash] -= 1
        if not self._queued:
            self._heap.clear()
            self._by_register.clear()
            self._registers.clear()

    def take(self, job: Job) -> None:
        """The job gets the resource."""
        oldest = self._top(self._heap)
        is_detour = oldest is not None and oldest.id != job.id and job.id in self._queued
        self._detours = self._detours + 1 if is_detour else 0
        self.serving.add(job.id)
        self.drop(job.id)

    def best(self, register: str | None) -> Job | None:
        """The job to go next: one that has begun, one of the loaded register, or the oldest."""
        oldest = self._top(self._heap)
        if register is None or oldest is None or oldest.state is JobState.RUNNING or self._detours >= LONGEST_DETOUR:
            return oldest
        same = self._by_register.get(register)
        return (self._top(same) if same else None) or oldest

    def in_order(self) -> Iterator[Job]:
        """Its jobs, as they would go on equal registers."""
        for key in self._line:
            yield self._queued[key.job_id][1]

    @property
    def work(self) -> Work:
        """What is queued. Jobs of one register go in a row, so that its first one changes it."""
        return self._line.work

    def walk(self) -> Iterator[tuple[Job, Work, Work]]:
        """Its jobs in order: each with what is queued before it, and what it adds."""
        shots = changes = 0
        for job in self.in_order():
            own = self._line.work_of(job.id)
            yield job, Work(shots, changes), own
            shots += own.shots
            changes += own.changes

    def work_before(self, job_id: int) -> Work:
        """What is queued before a job; nothing if it is not queued."""
        known = self._queued.get(job_id)
        return NOTHING if known is None else self._line.before(known[0])

    def work_of(self, job_id: int) -> Work:
        """What a queued job adds."""
        return self._line.work_of(job_id)

    def _count(self, key: Key, job: Job, known: tuple[Key, Job] | None) -> None:
        if known is not None:
            changes = self._line.work_of(job.id).changes
            self._line.drop(known[0])
        else:
            changes = int(not self._registers[job.register_hash])
            self._registers[job.register_hash] += 1
        self._line.put(key, Work(job.shots_left, changes))

    def renew(self, session: Session) -> None:
        """Its session holds another number of nodes."""
        self.value = _value(session)

    def _top(self, heap: list[Key]) -> Job | None:
        while heap:
            key = heap[0]
            queued = self._queued.get(key.job_id)
            if queued is not None and queued[0] == key:
                return queued[1]
            heapq.heappop(heap)
        return None


def _value(session: Session | None) -> tuple[int, float]:
    """What waiting costs by the session's hint: class of hint, and weight of Smith's or Johnson's rule."""
    if session is None:
        return (0, 0.0)
    if session.hint is Hint.CC_HEAVY:
        return (2, float(session.nodes))
    if session.hint is Hint.QC_BALANCED:
        return (1, session.expected_classical_seconds or 1.0)
    return (0, 0.0)
