"""The operation that stores accepted jobs: those that arrive together take no more statements than one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

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

    @classmethod
    def join(cls, transaction: Transaction, operations: Sequence[Self]) -> None:
        """Store them all.

        Raises:
            Forbidden: A session has ended since it was asked for.
        """
        texts = {key: text for one in operations for key, text in one.texts.items()}
        sql.insert_sequences(transaction, list(texts.items()))
        news = [new for one in operations for new in one.news]
        if sql.insert(transaction, news) != len(news):
            for one in operations:
                sessions.require_open(transaction, one.session_id)
