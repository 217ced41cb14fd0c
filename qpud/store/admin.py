"""SQL of what administrators change, and of the record of it."""

from __future__ import annotations

import sqlite3


def set_drain(connection: sqlite3.Connection, resource: str, reason: str, user: str, at: float) -> None:
    """Remember a drain across restarts; a second one replaces the reason."""
    connection.execute(
        "INSERT OR REPLACE INTO drains (resource, reason, user, at) VALUES (?, ?, ?, ?)", (resource, reason, user, at)
    )


def clear_drain(connection: sqlite3.Connection, resource: str) -> None:
    """Forget a drain."""
    connection.execute("DELETE FROM drains WHERE resource = ?", (resource,))


def record(connection: sqlite3.Connection, at: float, user: str, action: str, target: str, detail: str = "") -> None:
    """Put an administrator's change on record."""
    connection.execute(
        "INSERT INTO audit (at, user, action, object, detail) VALUES (?, ?, ?, ?, ?)",
        (at, user, action, target, detail),
    )
