"""The daemon's own secret."""

from __future__ import annotations

from pathlib import Path

from qpud.site.secret import kept_secret


def test_the_secret_is_kept_and_only_the_daemons(tmp_path: Path) -> None:
    path = tmp_path / "links.secret"
    first = kept_secret(path)
    assert kept_secret(path) == first and path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"cut")
    assert kept_secret(path) not in (first, b"cut")


def test_without_room_it_is_made_all_the_same(tmp_path: Path) -> None:
    assert len(kept_secret(tmp_path / "no" / "folder" / "links.secret")) == 32
