"""serve and check as far as they go without starting a daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


def test_check_prints_the_policy_that_takes_effect(qpud: Any) -> None:
    ended = qpud("check", str(REPOSITORY / "etc/qpud.conf"))
    assert ended.returncode == 0
    assert "PriorityTier = 100" in ended.stdout


def test_check_prints_every_mistake_with_its_line(qpud: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.conf").write_text("[queue a]\nPriorityTear = 3\nMaxShots = many\n")
    ended = qpud("check", "bad.conf")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "bad.conf:2" in ended.stderr
    assert "bad.conf:3" in ended.stderr


def test_check_without_that_file_is_not_found(qpud: Any) -> None:
    assert qpud("check", "nowhere.conf").returncode == 5


def test_check_says_when_the_file_may_not_be_read(qpud: Any, tmp_path: Path) -> None:
    (tmp_path / "loop.conf").symlink_to("loop.conf")
    ended = qpud("check", "loop.conf")
    assert ended.returncode == 1
    assert "loop.conf: cannot be read" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_check_warns_of_users_that_the_machine_does_not_know(qpud: Any, tmp_path: Path) -> None:
    (tmp_path / "other.conf").write_text("[qpud]\nAdminUsers = root, nobody-at-all\n")
    ended = qpud("check", "other.conf")
    assert ended.returncode == 0
    assert "# Warning: AdminUsers names nobody-at-all" in ended.stdout


def test_serve_with_a_mistaken_policy_does_not_start(qpud: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.conf").write_text("[queue a]\nPriorityTear = 3\n")
    ended = qpud("serve", "--config", "bad.conf")
    assert ended.returncode == 1
    assert "PriorityTear" in ended.stderr
