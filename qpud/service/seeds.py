"""The seeds of jobs: their own, by the number of the job where the session has one, else random."""

from __future__ import annotations

import hashlib
import random
import secrets

from qpud.context import Context
from qpud.core.rehearsal import LARGEST_SEED
from qpud.core.session import Session
from qpud.core.verbs import JobRequest
from qpud.store import queries


class Seeds:
    """Gives each job its seed.

    Args:
        context: The parts of the daemon.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._random = random.Random(secrets.randbits(128))  # noqa: S311  seeds of emulations, not secrets
        self._numbers: dict[str, int] = {}  # jobs so far of the sessions that have a seed

    def of(self, session: Session, ask: JobRequest) -> int:
        """The seed of a session's next job."""
        if isinstance(ask.seed, int):
            return ask.seed
        if session.rehearsal is None or session.rehearsal.seed is None:
            return self._random.getrandbits(31)
        number = self._numbers.get(session.id, 0)
        self._numbers[session.id] = number + 1
        return session_seed(session.rehearsal.seed, number)

    async def count(self, session: Session) -> None:
        """Know how many jobs a session with a seed had, also before a restart: before `of`."""
        if session.rehearsal is None or session.rehearsal.seed is None or session.id in self._numbers:
            return
        open_ones = self._context.book.sessions
        self._numbers = {known: number for known, number in self._numbers.items() if known in open_ones}
        number = await queries.number_of_jobs(self._context.store, session.id)
        self._numbers.setdefault(session.id, number)


def session_seed(seed: int, number: int) -> int:
    """The seed of a session's job: the n-th job of each session with this seed has the same one."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4], "big") & LARGEST_SEED
