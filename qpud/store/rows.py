"""Rows to values and back: one column list for each table, in the order of the value's fields."""

from __future__ import annotations

import functools
import itertools
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from qpud.core.batch import Batch, BatchEnd
from qpud.core.job import Job, JobState, Reason
from qpud.core.rehearsal import Rehearsal
from qpud.core.reservations import Reservation
from qpud.core.session import CloseReason, Hint, Session
from qpud.core.slices import Slice, SliceState

Row = Sequence[Any]

BATCH_COLUMNS = ", ".join(Batch.__struct_fields__)
SESSION_COLUMNS = ", ".join(Session.__struct_fields__)
JOB_COLUMNS = ", ".join(Job.__struct_fields__)
SLICE_COLUMNS = ", ".join(Slice.__struct_fields__)
RESERVATION_COLUMNS = ", ".join(Reservation.__struct_fields__)

_MOST_AT_ONCE = 32  # rows; SQLite takes 32 766 values in one statement


def marks(columns: str) -> str:
    """As many question marks as there are columns."""
    return ", ".join("?" * (columns.count(",") + 1))


def insert_rows(connection: sqlite3.Connection, statement: str, rows: Sequence[Row]) -> int:
    """Insert rows, many with one statement: after each one a thread waits for its turn to run Python again.

    Args:
        connection: In a transaction.
        statement: An INSERT with `{rows}` where the rows stand behind VALUES.
        rows: Of one length; several.

    Returns:
        How many were inserted.
    """
    done = 0
    for at in range(0, len(rows), _MOST_AT_ONCE):
        some = rows[at : at + _MOST_AT_ONCE]
        values = list(itertools.chain.from_iterable(some))
        done += connection.executemany(_with_marks(statement, len(some), len(some[0])), (values,)).rowcount
    return done


@functools.cache
def _with_marks(statement: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return statement.format(rows=", ".join([row] * rows))


def session_from(row: Row) -> Session:
    """A session from SESSION_COLUMNS."""
    fields = dict(zip(Session.__struct_fields__, row, strict=True))
    fields["hint"] = Hint(fields["hint"])
    if fields["close_reason"] is not None:
        fields["close_reason"] = CloseReason(fields["close_reason"])
    if fields["rehearsal"] is not None:
        fields["rehearsal"] = msgspec.json.decode(fields["rehearsal"], type=Rehearsal)
    return Session(**fields)


def job_from(row: Row) -> Job:
    """A job from JOB_COLUMNS."""
    fields = dict(zip(Job.__struct_fields__, row, strict=True))
    fields["state"] = JobState(fields["state"])
    fields["reason"] = Reason(fields["reason"])
    return Job(**fields)


def slice_from(row: Row) -> Slice:
    """A slice from SLICE_COLUMNS."""
    fields = dict(zip(Slice.__struct_fields__, row, strict=True))
    fields["state"] = SliceState(fields["state"])
    return Slice(**fields)


def reservation_from(row: Row) -> Reservation:
    """A reservation from RESERVATION_COLUMNS; its accounts and users are JSON lists."""
    fields = dict(zip(Reservation.__struct_fields__, row, strict=True))
    lists = {field: tuple(json.loads(fields[field])) for field in ("accounts", "users")}
    return Reservation(**{**fields, **lists})


def batch_from(row: Row) -> Batch:
    """A batch from BATCH_COLUMNS; its tags are a JSON list."""
    fields = dict(zip(Batch.__struct_fields__, row, strict=True))
    fields["tags"] = tuple(json.loads(fields["tags"]))
    if fields["close_reason"] is not None:
        fields["close_reason"] = BatchEnd(fields["close_reason"])
    return Batch(**fields)


def session_row(session: Session) -> tuple[Any, ...]:
    """The fields of a session in column order; what it rehearses is a JSON text."""
    asked = session.rehearsal
    text = None if asked is None else msgspec.json.encode(asked).decode()
    return tuple({**msgspec.structs.asdict(session), "rehearsal": text}.values())


def to_row(value: Job | Slice) -> tuple[Any, ...]:
    """The fields of a value in column order; enums are strings already."""
    return msgspec.structs.astuple(value)
