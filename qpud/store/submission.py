"""The operation that stores accepted jobs: those that arrive together take no more statements than one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec

from qpud.store import jobs as sql
from qpud.store import sessions
from qpud.store.jobs import NewJob
from qpud.store.writer import Joint, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission(Joint):
    """Jobs of one session, and the sequences that may not be stored yet: text by hash."""

    session_id: str
    texts: Mapping[str, str]
    news: Sequence[NewJob]
    seed_by_number: Callable[[int], int] | None = None
    """The seed of the session's n-th job, n from 0, for jobs without one: what is not stored takes no number."""

    @classmethod
    def join(cls, transaction: Transaction, operations: Sequence[Self]) -> None:
        """Store them all.

        Raises:
            Forbidden: A session has ended since it was asked for.
        """
        texts = {key: text for one in operations for key, text in one.texts.items()}
        sql.insert_sequences(transaction, list(texts.items()))
        news = _with_seeds(transaction, operations)
        if sql.insert(transaction, news) != len(news):
            for one in operations:
                sessions.require_open(transaction, one.session_id)


def _with_seeds(transaction: Transaction, operations: Sequence[Submission]) -> list[NewJob]:
    news: list[NewJob] = []
    numbers: dict[str, int] = {}  # jobs of the sessions whose jobs are counted, with those of earlier operations
    for one in operations:
        if one.seed_by_number is None:
            news += one.news
            continue
        if one.session_id not in numbers:
            numbers[one.session_id] = sql.number_of(transaction, one.session_id)
        for number, new in enumerate(one.news, numbers[one.session_id]):
            seed = one.seed_by_number(number) if new.seed is None else new.seed
            news.append(msgspec.structs.replace(new, seed=seed))
        numbers[one.session_id] += len(one.news)
    return news
