"""SQL of what administrators change, and of the record of it."""

from __future__ import annotations

import json
import sqlite3

from qpud.core.reservations import Reservation
from qpud.store.rows import RESERVATION_COLUMNS, marks, reservation_from

_RESERVE = f"INSERT INTO reservations ({RESERVATION_COLUMNS}) VALUES ({marks(RESERVATION_COLUMNS)})"  # noqa: S608  constants


def set_drain(
    connection: sqlite3.Connection, resource: str, reason: str, user: str, at: float, *, is_down: bool = False
) -> None:
    """Remember a drain, or that a resource is down, across restarts; a second one replaces it and its reason."""
    connection.execute(
        "INSERT OR REPLACE INTO drains (resource, reason, user, at, is_down) VALUES (?, ?, ?, ?, ?)",
        (resource, reason, user, at, int(is_down)),
    )


def clear_drain(connection: sqlite3.Connection, resource: str) -> None:
    """Forget a drain, or that a resource is down."""
    connection.execute("DELETE FROM drains WHERE resource = ?", (resource,))


def set_degradation(
    connection: sqlite3.Connection, resource: str, units: int, reason: str, user: str, at: float
) -> None:
    """Remember across restarts how many units of a resource Slurm does not give out; a second one replaces it."""
    connection.execute(
        "INSERT OR REPLACE INTO degradations (resource, units, reason, user, at) VALUES (?, ?, ?, ?, ?)",
        (resource, units, reason, user, at),
    )


def clear_degradation(connection: sqlite3.Connection, resource: str) -> None:
    """Forget that a resource is degraded."""
    connection.execute("DELETE FROM degradations WHERE resource = ?", (resource,))


def own_mark(connection: sqlite3.Connection, kind: str, name: str, at: float) -> None:
    """Remember, before it is made, that a reservation or a partition's DOWN in Slurm is qpud's own."""
    connection.execute("INSERT OR REPLACE INTO slurm_marks (kind, name, at) VALUES (?, ?, ?)", (kind, name, at))


def disown_mark(connection: sqlite3.Connection, kind: str, name: str) -> None:
    """Forget a mark: it is gone from Slurm."""
    connection.execute("DELETE FROM slurm_marks WHERE kind = ? AND name = ?", (kind, name))


def record(connection: sqlite3.Connection, at: float, user: str, action: str, target: str, detail: str = "") -> None:
    """Put an administrator's change on record."""
    connection.execute(
        "INSERT INTO audit (at, user, action, object, detail) VALUES (?, ?, ?, ?, ?)",
        (at, user, action, target, detail),
    )


def reservations(connection: sqlite3.Connection) -> list[Reservation]:
    """All reservations, as they are within this transaction."""
    rows = connection.execute(f"SELECT {RESERVATION_COLUMNS} FROM reservations")  # noqa: S608  constants
    return [reservation_from(row) for row in rows]


def insert_reservation(connection: sqlite3.Connection, new: Reservation) -> None:
    """Store a reservation; accounts and users are JSON lists."""
    owners = (json.dumps(new.accounts), json.dumps(new.users), new.duty)
    times = (new.starts_at, new.ends_at)
    connection.execute(_RESERVE, (new.name, new.resource, *times, *owners, new.created_by, new.created_at))


def delete_reservation(connection: sqlite3.Connection, name: str) -> bool:
    """Forget a reservation; False if there is none of that name any more."""
    return connection.execute("DELETE FROM reservations WHERE name = ?", (name,)).rowcount == 1
