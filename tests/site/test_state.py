"""The state folder against other users of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qpud.core.errors import Conflict, Unavailable
from qpud.site.state import LOCK, one_daemon


def test_a_state_folder_is_made_for_its_user_alone(tmp_path: Path) -> None:
    with one_daemon(tmp_path / "state"):
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_others_cannot_take_the_lock_of_a_readable_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / LOCK).touch(0o644)
    with one_daemon(tmp_path):
        assert (tmp_path / LOCK).stat().st_mode & 0o777 == 0o600


def test_a_folder_has_one_daemon(tmp_path: Path) -> None:
    with one_daemon(tmp_path), pytest.raises(Conflict, match="another qpud serves"):
        one_daemon(tmp_path)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(Conflict, match=f"has mode {mode:04o}"):
        one_daemon(tmp_path)


def test_a_link_in_the_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    (tmp_path / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(Unavailable, match="symbolic"):
        one_daemon(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder away")
def test_anothers_folder_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 4711, -1)
    with pytest.raises(Conflict, match="belongs to 4711"):
        one_daemon(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=rf"StateSaveLocation {tmp_path}/file/state cannot be used: not a directory"):
        one_daemon(tmp_path / "file" / "state")
