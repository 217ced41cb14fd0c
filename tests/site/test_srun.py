"""The names by which a daemon finds its workers' Slurm jobs; what Slurm does with them is in tests/daemon."""

from __future__ import annotations

from pathlib import Path

from qpud.site.srun import Srun


def test_two_starts_of_a_daemon_within_a_second_share_no_name(tmp_path: Path) -> None:
    first, second = (Srun(None, tmp_path) for _ in range(2))
    assert first.name("EMU", 1) != second.name("EMU", 1)
    assert first.name("EMU", 1) == first.name("EMU", 1)
    family = {srun.name("EMU", 1).split("@")[0] for srun in (first, second)}
    assert len(family) == 1
