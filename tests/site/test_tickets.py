"""What the Prolog lays for a Slurm job."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from qpud.core.errors import Forbidden
from qpud.site.tickets import Owner, first_host, lay

ME = Owner(os.getuid(), os.getgid())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_token_is_its_owners_and_the_folders_can_only_be_entered(tmp_path: Path) -> None:
    job = tmp_path / "qpud-jobs" / "node" / "7"
    lay(job, ME, "qpud_t", {"A": "b"}, "s-1")
    modes = {path.name: mode(path) for path in (job, *job.iterdir(), job.parent, job.parent.parent)}
    readable = {"token": 0o400, "session": 0o600, "environment": 0o444}
    assert modes == {"7": 0o711, "node": 0o711, "qpud-jobs": 0o711, **readable}
    assert (job / "token").read_text() == "qpud_t\n"
    assert (job / "environment").read_text() == "A=b\n"


def test_laying_again_replaces_what_an_earlier_run_left(tmp_path: Path) -> None:
    job = tmp_path / "jobs" / "7"
    lay(job, ME, "qpud_1", {}, "s-1")
    lay(job, ME, "qpud_2", {}, None)
    assert (job / "token").read_text() == "qpud_2\n"
    assert not (job / "session").exists()


def test_a_token_that_only_the_owner_can_get_leaves_a_file_for_him_to_fill(tmp_path: Path) -> None:
    job = tmp_path / "jobs" / "7"
    lay(job, ME, "", {}, "s-1")
    assert (mode(job / "token"), (job / "token").read_text()) == (0o600, "")


def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(Forbidden, match="others may write it"):
        lay(tmp_path / "7", ME, "qpud_t", {}, None)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("qn1", "qn1"),
        ("qn[1-2]", "qn1"),
        ("qn[07,09],login", "qn07"),
        ("login,qn[1-2]", "login"),
        ("rack[1-2]-n[03-07,09]", "rack1-n03"),
        ("", ""),
    ],
)
def test_the_first_host_of_slurms_lists(nodes: str, first: str) -> None:
    assert first_host(nodes) == first
