"""Plays one session of a trace: which step comes next, and when the session ends."""

from __future__ import annotations

from qpud.core.session import Session
from qpud.simulate.tally import SessionTally
from qpud.simulate.trace import SessionTrace, Step


class Player:
    """One session on its way through its steps.

    Attributes:
        line: What it plays.
        session: What the scheduler knows of it.
        tally: What is counted of it.
        pending: Jobs of its step that have not ended, submitted or not.
    """

    __slots__ = ("_next", "_rounds", "line", "pending", "session", "tally")

    def __init__(self, line: SessionTrace, session: Session, tally: SessionTally) -> None:
        self.line = line
        self.session = session
        self.tally = tally
        self.pending = 0
        self._next = 0
        self._rounds = line.repeat

    def step(self) -> Step | None:
        """The next step, None after the last one."""
        if self._next == len(self.line.steps):
            self._next = 0
            self._rounds -= 1
        if self._rounds == 0:
            return None
        self._next += 1
        return self.line.steps[self._next - 1]


def session_of(line: SessionTrace, user_id: int) -> Session:
    """A line's session as the scheduler sees it; it expires never, since it closes after its last step."""
    return Session(
        id=line.id,
        user_id=user_id,
        user=line.user,
        account=line.account,
        queue=line.queue,
        share=line.share,
        hint=line.hint,
        expected_qpu_seconds=line.expected_qpu_seconds,
        expected_classical_seconds=line.expected_classical_seconds,
        nodes=line.nodes,
        opened_at=line.at,
        last_used_at=line.at,
        expires_at=float("inf"),
    )
