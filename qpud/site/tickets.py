"""What the Prolog lays on a node for a Slurm job: `FOLDER/token`, which only the job's user can read, and beside it
`environment`, for the TaskProlog, and `session`, for the Epilog (facts/SLURM.md §4).

The folder and the one above it stay root's and 0711: users can neither list them, nor put anything there beforehand,
nor exchange the token.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from qpud.core.errors import Forbidden

ENTERABLE = 0o711


class Owner(NamedTuple):
    """The user of a Slurm job, by numbers."""

    user_id: int
    group_id: int


def lay(folder: Path, owner: Owner, token: str, environment: Mapping[str, str], session: str | None) -> None:
    """Make the folder of a Slurm job anew.

    Args:
        folder: Its folder; the one above it is made if need be.
        owner: Who may read the token.
        token: "" leaves an empty file that the owner can fill, for a token that only he can get.
        environment: Not secret: everybody on the node may read it.
        session: Id of the session that ends with the job on this node; None if it ends elsewhere.

    Raises:
        Forbidden: Others may write where the folder is to be.
        OSError: It cannot be made.
    """
    with _private_files():
        _check_parent(folder.parent)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "environment").write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
        (folder / "environment").chmod(0o444)
        if session:
            (folder / "session").write_text(f"{session}\n")
        _lay_token(folder / "token", owner, token)
        folder.chmod(ENTERABLE)


def first_host(nodes: str) -> str:
    """The first name of Slurm's list of hosts: rack1-n03 of rack[1-2]-n[03-07,09],login."""
    opened = 0
    for at, character in enumerate(nodes):
        opened += {"[": 1, "]": -1}.get(character, 0)
        if character == "," and not opened:
            nodes = nodes[:at]
            break
    return re.sub(r"\[(\w+)[^]]*\]", r"\1", nodes)


def _lay_token(path: Path, owner: Owner, token: str) -> None:
    path.write_text(f"{token}\n" if token else "")
    path.chmod(0o400 if token else 0o600)
    os.chown(path, owner.user_id, owner.group_id)  # last: it is the user's only once it is complete


def _check_parent(parent: Path) -> None:
    for missing in reversed([above for above in (parent, *parent.parents) if not above.exists()]):
        missing.mkdir(exist_ok=True)  # another job's Prolog may be as far
        missing.chmod(ENTERABLE)
    found = parent.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise Forbidden(
            f"folder {parent} belongs to uid {found.st_uid} or others may write it: it must be root's, 0711"
        )


@contextmanager
def _private_files() -> Iterator[None]:
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
