"""The seeds of jobs: their own, by the number of the job where the session has one, else random."""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Callable
from functools import partial

from qpud.core.rehearsal import LARGEST_SEED
from qpud.core.session import Session
from qpud.core.verbs import JobRequest


class Seeds:
    """Gives each job its seed."""

    def __init__(self) -> None:
        self._random = random.Random(secrets.randbits(128))  # noqa: S311  seeds of emulations, not secrets

    def of(self, session: Session, ask: JobRequest) -> int | None:
        """The seed of a job; None if it follows from the job's number, which is known when it is stored."""
        if isinstance(ask.seed, int):
            return ask.seed
        return self._random.getrandbits(31) if seed_by_number(session) is None else None


def seed_by_number(session: Session) -> Callable[[int], int] | None:
    """What gives the n-th job of a session its seed, n from 0; None in a session without a seed."""
    seed = None if session.rehearsal is None else session.rehearsal.seed
    return None if seed is None else partial(session_seed, seed)


def session_seed(seed: int, number: int) -> int:
    """The seed of a session's job: the n-th job of each session with this seed has the same one."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4], "big") & LARGEST_SEED
