"""Files with secrets."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def private_text(path: Path) -> str:
    """The text of a file that only its owner may read.

    Raises:
        OSError: It cannot be read, or others may read it.
        UnicodeDecodeError: It is no text.
    """
    with path.open() as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise PermissionError(0, "other users may read it: chmod 600")
        return file.read()
