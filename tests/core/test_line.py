"""The line that knows what stands before each job, against a plain sorted list."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from qpud.core import line
from qpud.core.line import Line, Work


class Key(NamedTuple):
    at: int
    job_id: int


class AgainstAList(RuleBasedStateMachine):
    """Whatever comes and goes, every answer is that of adding up."""

    def __init__(self) -> None:
        super().__init__()
        self.line: Line[Key] = Line()
        self.known: dict[int, tuple[Key, Work]] = {}

    @rule(job=st.integers(1, 40), at=st.integers(0, 9), shots=st.integers(1, 99), changes=st.integers(0, 1))
    def put(self, job: int, at: int, shots: int, changes: int) -> None:
        self.drop(job)
        self.known[job] = (Key(at, job), Work(shots, changes))
        self.line.put(*self.known[job])

    @rule(job=st.integers(1, 40))
    def drop(self, job: int) -> None:
        key, _work = self.known.pop(job, (Key(0, job), Work(0, 0)))
        self.line.drop(key)

    @invariant()
    def it_is_in_order(self) -> None:
        assert list(self.line) == sorted(key for key, _work in self.known.values())

    @invariant()
    def it_knows_what_stands_before_each(self) -> None:
        for key, _work in self.known.values():
            ahead = [work for other, work in self.known.values() if other < key]
            expected = (sum(work.shots for work in ahead), sum(work.changes for work in ahead))
            assert self.line.before(key) == expected

    @invariant()
    def it_knows_the_whole(self) -> None:
        assert self.line.shots == sum(work.shots for _key, work in self.known.values())
        assert len(self.line) == len(self.known)


def test_a_line_of_short_blocks_is_as_good_as_a_sorted_list() -> None:
    longest, line.LONGEST_BLOCK = line.LONGEST_BLOCK, 4
    try:
        sizes = settings(max_examples=25, stateful_step_count=50)
        run_state_machine_as_test(AgainstAList, settings=sizes)  # type: ignore[no-untyped-call]
    finally:
        line.LONGEST_BLOCK = longest
