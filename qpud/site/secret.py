"""A secret of the daemon's own, made once and kept in its folder."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

SIZE = 32


def kept_secret(path: Path) -> bytes:
    """The secret in a file that only the daemon may read; made if it is not there, or damaged."""
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        found = b""
    if len(found) == SIZE:
        return found
    made = secrets.token_bytes(SIZE)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(made)
    return made
