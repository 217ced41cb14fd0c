"""SQL of batches. Each function is one step of a writer's operation."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from qpud.core.batch import Batch, BatchEnd
from qpud.core.errors import Conflict
from qpud.store.rows import BATCH_COLUMNS, marks

_COLUMNS = f"{BATCH_COLUMNS}, key, body_hash"
_INSERT = f"INSERT INTO batches ({_COLUMNS}) VALUES ({marks(_COLUMNS)})"  # noqa: S608  constants


def insert(connection: sqlite3.Connection, batch: Batch, key: str | None, body_hash: bytes) -> None:
    """Store a new batch, open or closed, with the key of the request that made it."""
    fields = {name: getattr(batch, name) for name in Batch.__struct_fields__}
    fields["tags"] = json.dumps(batch.tags)
    connection.execute(_INSERT, (*fields.values(), key, body_hash))


def find_key(connection: sqlite3.Connection, user_id: int, key: str, since: float) -> tuple[str, bytes] | None:
    """The newest batch that a user's key has made since then, and the hash of what was asked."""
    row: tuple[str, bytes] | None = connection.execute(
        "SELECT id, body_hash FROM batches WHERE user_id = ? AND key = ? AND opened_at >= ?"
        " ORDER BY opened_at DESC LIMIT 1",
        (user_id, key, since),
    ).fetchone()
    return row


def require_open(connection: sqlite3.Connection, batch_id: str) -> None:
    """Let an operation fail whose batch was closed since it was asked for. Raises: Conflict."""
    row = connection.execute("SELECT close_reason FROM batches WHERE id = ?", (batch_id,)).fetchone()
    if row is None or row[0] is not None:
        raise Conflict(f"batch {batch_id} is closed ({row[0] if row else 'unknown'}) and takes no more jobs")


def close(connection: sqlite3.Connection, batch_id: str, at: float, reason: BatchEnd) -> None:
    """Store the end of a batch; a batch that was closed before keeps its time and reason."""
    connection.execute(
        "UPDATE batches SET closed_at = ?, close_reason = ? WHERE id = ? AND closed_at IS NULL", (at, reason, batch_id)
    )


def close_of_session(connection: sqlite3.Connection, session_id: str, at: float) -> None:
    """Store the end of a session's open batches."""
    connection.execute(
        "UPDATE batches SET closed_at = ?, close_reason = ? WHERE session_id = ? AND closed_at IS NULL",
        (at, BatchEnd.SESSION, session_id),
    )


def set_tags(connection: sqlite3.Connection, batch_id: str, tags: Sequence[str]) -> None:
    """Store other tags."""
    connection.execute("UPDATE batches SET tags = ? WHERE id = ?", (json.dumps(tags), batch_id))
