"""SQL of sessions and their tokens. Each function is one step of a writer's operation."""

from __future__ import annotations

import sqlite3

from qpud.core.errors import Forbidden
from qpud.core.session import Session
from qpud.store.rows import SESSION_COLUMNS, marks, session_row


def insert(connection: sqlite3.Connection, session: Session) -> None:
    """Store a new session."""
    connection.execute(
        f"INSERT INTO sessions ({SESSION_COLUMNS}) VALUES ({marks(SESSION_COLUMNS)})",  # noqa: S608  constants
        session_row(session),
    )


def insert_token(connection: sqlite3.Connection, token_hash: bytes, session_id: str) -> None:
    """Store the sha256 of one more token of a session; tokens themselves are never stored."""
    connection.execute("INSERT INTO tokens (hash, session_id) VALUES (?, ?)", (token_hash, session_id))


def require_open(connection: sqlite3.Connection, session_id: str) -> None:
    """Let an operation fail whose session has ended since it was asked for.

    Raises:
        Forbidden: The session has ended.
    """
    row = connection.execute("SELECT closed_at, close_reason FROM sessions WHERE id = ?", (session_id,)).fetchone()
    if row is None or row[0] is not None:
        raise Forbidden(f"session {session_id} has ended ({row[1] if row else 'unknown'})")


def close(connection: sqlite3.Connection, session: Session) -> bool:
    """Store the end of a session; False if it had ended before."""
    cursor = connection.execute(
        "UPDATE sessions SET closed_at = ?, close_reason = ?, last_used_at = ? WHERE id = ? AND closed_at IS NULL",
        (session.closed_at, session.close_reason, session.last_used_at, session.id),
    )
    return cursor.rowcount == 1


def set_lease(connection: sqlite3.Connection, session: Session) -> None:
    """Store what an open session follows its Slurm job in: when it expires, which run it belongs to, its nodes."""
    connection.execute(
        "UPDATE sessions SET expires_at = ?, slurm_started_at = ?, nodes = ? WHERE id = ? AND closed_at IS NULL",
        (session.expires_at, session.slurm_started_at, session.nodes, session.id),
    )


def delete_tokens(connection: sqlite3.Connection, session_id: str) -> None:
    """Make every token of a session worthless."""
    connection.execute("DELETE FROM tokens WHERE session_id = ?", (session_id,))
