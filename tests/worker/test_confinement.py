"""What a child of the worker that a hostile sequence has taken over could still do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qpud.drivers import launch
from qpud.drivers.workers import WorkerFault, Workers
from tests.worker.test_process import children, started, until

pytestmark = pytest.mark.worker


async def one_child(workers: Workers) -> Path:
    await workers.device_spec("AnalogDevice")
    return Path(f"/proc/{children(workers.pid or 0)[0]}")


async def test_the_daemons_secrets_stay_out_of_the_workers_environment(
    worker_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QPUD_TOKEN", "qpud_secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy")
    async with started(worker_python) as workers:
        assert b"secret" not in ((await one_child(workers)) / "environ").read_bytes()


async def test_a_child_fills_no_disk_dumps_no_core_and_gains_no_rights(worker_python: Path) -> None:
    async with started(worker_python) as workers:
        child = await one_child(workers)
        limits = (child / "limits").read_text()
        for limit in ("Max file size", "Max core file size"):
            assert re.search(rf"{limit} +0 +0 ", limits), limits
        assert "NoNewPrivs:\t1" in (child / "status").read_text()


async def test_an_answer_without_end_costs_a_restart_and_not_the_worker(
    worker_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "LINE_LIMIT", 1024)  # more than the greeting, less than a device spec
    async with started(worker_python) as workers:
        with pytest.raises(WorkerFault):
            await workers.device_spec("AnalogDevice")
        monkeypatch.undo()
        await until(workers.ready.is_set)
        assert (await workers.device_spec("AnalogDevice")).name == "AnalogDevice"
