"""A queue that knows how much work stands before each of its jobs.

The jobs in order, in blocks of bounded length with the sums of their work (a sorted list of lists): to put, to drop
and to ask what stands before a job takes O(√n). The whole is known at once, and so is what stands before the last one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from operator import itemgetter
from typing import Generic, NamedTuple, TypeVar

from qpud.core.queue import Ranked

K = TypeVar("K", bound=Ranked)

_first = itemgetter(0)

LONGEST_BLOCK = 128
"""Jobs of a block before it is split: that of 100 000 jobs neither the blocks nor the jobs of one are many."""


class Work(NamedTuple):
    """Work that waits: shots, and changes of the register before them."""

    shots: int
    changes: int


NOTHING = Work(0, 0)


class Line(Generic[K]):
    """Jobs in order, with their work.

    Attributes:
        shots: Of all jobs.
        changes: Of the register, of all jobs.
    """

    __slots__ = ("_blocks", "_changes", "_latest", "_shots", "_work", "changes", "shots")

    def __init__(self) -> None:
        self.shots = 0
        self.changes = 0
        self._latest = NOTHING
        self._blocks: list[list[K]] = []
        self._shots: list[int] = []
        self._changes: list[int] = []
        self._work: dict[int, Work] = {}  # by job

    def __len__(self) -> int:
        return len(self._work)

    def __iter__(self) -> Iterator[K]:
        for block in self._blocks:
            yield from block

    @property
    def work(self) -> Work:
        """Of all jobs."""
        return Work(self.shots, self.changes)

    def first(self) -> K | None:
        """The key of the first job."""
        return self._blocks[0][0] if self._blocks else None

    def work_of(self, job_id: int) -> Work:
        """What a job adds; nothing if it is not in the line."""
        return self._work.get(job_id, NOTHING)

    def put(self, key: K, work: Work) -> None:
        """Take a job in; it is not in the line yet."""
        self._latest = self._latest if work == self._latest else work  # most are alike: one object for all
        self._work[key.job_id] = self._latest
        blocks = self._blocks
        if blocks and key < blocks[-1][-1]:
            number = self._block_of(key)
            insort(blocks[number], key)
        else:  # newcomers are most often the last
            if not blocks or len(blocks[-1]) >= LONGEST_BLOCK:
                self._open()
            number = -1
            blocks[-1].append(key)
        self._add(number, work[0], work[1])
        if len(blocks[number]) > LONGEST_BLOCK:
            self._split(number)

    def drop(self, key: K) -> None:
        """Take a job out; unknown ones are ignored."""
        work = self._work.pop(key.job_id, None)
        if work is None:
            return
        number = self._block_of(key)
        block = self._blocks[number]
        del block[bisect_left(block, key)]
        self._add(number, -work.shots, -work.changes)
        if not block:
            del self._blocks[number], self._shots[number], self._changes[number]

    def clear(self) -> None:
        """Take all jobs out."""
        self.shots = self.changes = 0
        for one in (self._blocks, self._shots, self._changes, self._work):
            one.clear()

    def before(self, key: K) -> Work:
        """The work of those before a job; of all if it is not in the line."""
        own = self._work.get(key.job_id)
        if own is None:
            return self.work
        if self._blocks[-1][-1] == key:
            return Work(self.shots - own.shots, self.changes - own.changes)
        number = self._block_of(key)
        block = self._blocks[number]
        ahead = [self._work[one.job_id] for one in block[: bisect_left(block, key)]]
        return Work(
            sum(self._shots[:number]) + sum([one[0] for one in ahead]),
            sum(self._changes[:number]) + sum([one[1] for one in ahead]),
        )

    # -- blocks
    def _block_of(self, key: K) -> int:
        """The block that holds a key, or would."""
        return max(0, bisect_right(self._blocks, key, key=_first) - 1)

    def _open(self) -> None:
        self._blocks.append([])
        self._shots.append(0)
        self._changes.append(0)

    def _add(self, number: int, shots: int, changes: int) -> None:
        self._shots[number] += shots
        self._changes[number] += changes
        self.shots += shots
        self.changes += changes

    def _split(self, number: int) -> None:
        block = self._blocks[number]
        half = len(block) // 2
        self._blocks[number : number + 1] = [block[:half], block[half:]]
        work = [self.work_of(key.job_id) for key in block[:half]]
        shots, changes = sum([one.shots for one in work]), sum([one.changes for one in work])
        self._shots[number : number + 1] = [shots, self._shots[number] - shots]
        self._changes[number : number + 1] = [changes, self._changes[number] - changes]
