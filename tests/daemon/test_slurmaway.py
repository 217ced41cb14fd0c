"""slurmctld is away all night: the journal says so once, whatever words Slurm finds for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from qpud.core.slurm import SlurmAway
from tests.daemon.builders import a_policy, a_site


class Away:
    """A SlurmControl whose Slurm is away, each time in other words."""

    def __init__(self) -> None:
        self.asked = 0

    async def reservations(self) -> Any:
        self.asked += 1
        raise SlurmAway(f"Slurm does not answer (in {self.asked} s)")


async def test_a_slurm_that_is_away_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy = a_policy()
    qpu = msgspec.structs.replace(policy.resources["TWIN"], slurm_licenses=("qpu:10",))
    policy = msgspec.structs.replace(policy, resources={"TWIN": qpu})
    async with a_site(tmp_path, policy=policy) as site:
        away: Any = Away()
        for _ in range(4):
            await site.show._compare_or_log(away)
        assert site.context.slurm_troubles["resources"] == "Slurm does not answer (in 4 s)"
    assert caplog.messages.count("Slurm does not show how the resources are") == 1
