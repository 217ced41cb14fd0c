"""A secret of the daemon's own, made once and kept in its folder."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from pathlib import Path

log = logging.getLogger(__name__)

SIZE = 32


def kept_secret(path: Path) -> bytes:
    """The secret in a file that only the daemon may read; made if it is not there, or damaged.

    On a full disk it is made all the same and lasts as long as the process: what it signs expires soon anyway.
    """
    with contextlib.suppress(FileNotFoundError):
        if len(found := path.read_bytes()) == SIZE:
            return found
    made = secrets.token_bytes(SIZE)
    try:
        _write(path, made)
    except OSError as error:
        log.warning("a secret cannot be kept", extra={"path": str(path), "why": str(error)})
    return made


def _write(path: Path, secret: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(secret)
