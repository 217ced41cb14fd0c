"""Builders for driver tests, and ProductWorkers: a worker's stand-in for tests and benches of scheduler and drivers.

ProductWorkers lives here and not in qpud/: a daemon without a worker cannot validate anything either, and must say
so instead of serving counts that no physics stands behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qpud.core.resource import ResourcePolicy
from qpud.core.slices import Outcome
from qpud.core.terms import DriverKind
from qpud.drivers.base import DeviceSpec, Driver, Program, SliceRequest
from qpud.drivers.pasqal_cloud import PasqalCloudDriver
from qpud.drivers.pasqal_qpu import PasqalQpuDriver
from qpud.drivers.simulated import SimulatedDriver
from qpud.drivers.workers import Verdict, WorkerFault

ATOMS = 4
SPEC_TEXT = json.dumps({"version": "1", "name": "AnalogDevice", "max_runs": 2000, "is_virtual": False})


def device_spec(text: str = SPEC_TEXT) -> DeviceSpec:
    content = json.loads(text)
    return DeviceSpec(
        name=content["name"], text=text, hash=hashlib.sha256(text.encode()).hexdigest(), max_runs=content["max_runs"]
    )


PULSE = {
    "op": "pulse",
    "channel": "ising",
    "protocol": "min-delay",
    "amplitude": {"kind": "constant", "duration": 500, "value": 3.0},
    "detuning": {"kind": "constant", "duration": 500, "value": 0.0},
    "phase": 0.0,
    "post_phase_shift": 0.0,
}


def sequence(atoms: int = ATOMS) -> str:
    """The shape of a Pulser sequence: enough for what the daemon itself reads."""
    return json.dumps(
        {
            "version": "1",
            "name": "test",
            "register": [{"name": f"q{i}", "x": 6.0 * i, "y": 0.0} for i in range(atoms)],
            "channels": {"ising": "rydberg_global"},
            "variables": {},
            "operations": [PULSE],
            "measurement": "ground-rydberg",
            "device": {"name": "AnalogDevice", "is_virtual": False},
        }
    )


def program(atoms: int = ATOMS, register: str = "register-a") -> Program:
    text = sequence(atoms)
    return Program(sequence=text, sequence_hash=hashlib.sha256(text.encode()).hexdigest(), register_hash=register)


def a_slice(tag: str = "tag-1", shots: int = 10, **changes: Any) -> SliceRequest:
    """10 of 10 shots of job 1, unless told otherwise."""
    base = SliceRequest(
        tag=tag,
        job_id=1,
        batch_id="batch-1",
        program=program(),
        shots=shots,
        first_shot=0,
        job_shots=shots,
        seed=7,
    )
    return msgspec.structs.replace(base, **changes)


AnyDriver = TypeVar("AnyDriver", bound=Driver)


@asynccontextmanager
async def opened(driver: AnyDriver) -> AsyncIterator[AnyDriver]:
    """The driver, open; closed at the end."""
    await driver.open()
    try:
        yield driver
    finally:
        await driver.close()


async def run(driver: Driver, *args: Any, **changes: Any) -> Outcome:
    """The outcome of one slice, made as `a_slice`."""
    request = a_slice(*args, **changes)
    return await driver.wait(await driver.start(request), request)


def simulated_policy(**changes: Any) -> ResourcePolicy:
    """A simulated QPU of 1000 shots per second."""
    settings = {"name": "TWIN", "driver": DriverKind.SIMULATED, "shot_rate": 10.0, "speed_up": 100.0, **changes}
    return ResourcePolicy(**settings)


def simulated(workers: ProductWorkers | None = None, **changes: Any) -> SimulatedDriver:
    return SimulatedDriver(simulated_policy(**changes), workers or ProductWorkers(), time.time)


def qpu(url: str, workers: ProductWorkers | None = None, **changes: Any) -> PasqalQpuDriver:
    """A pasqal-qpu driver that polls fast."""
    settings = {"request_timeout": 0.5, "poll_min": 0.01, "poll_max": 0.2, "shot_rate": 1000.0, **changes}
    policy = ResourcePolicy(name="FRESNEL", driver=DriverKind.PASQAL_QPU, url=url, **settings)
    return PasqalQpuDriver(policy, workers or ProductWorkers(), time.time)


def cloud(url: str, workers: ProductWorkers | None = None, **changes: Any) -> PasqalCloudDriver:
    """A pasqal-cloud driver that polls fast; give it a credentials_file or a token_file."""
    settings = {"request_timeout": 0.5, "poll_min": 0.01, "poll_max": 0.2, "shot_rate": 1000.0, "project_id": "p-1"}
    settings |= {"device_type": "FRESNEL", "auth_url": f"{url}/oauth/token", **changes}
    policy = ResourcePolicy(name="FRESNEL", driver=DriverKind.PASQAL_CLOUD, url=f"{url}/core-fast", **settings)
    return PasqalCloudDriver(policy, workers or ProductWorkers(), time.time)


def private_file(path: Path, text: str) -> Path:
    """A file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


class ProductWorkers:
    """WorkersProtocol without a process: every atom is measured 1 with probability 1/2, whatever the sequence.

    Args:
        evolve_seconds: How long an emulation takes.
    """

    def __init__(self, evolve_seconds: float = 0.0) -> None:
        self.evolve_seconds = evolve_seconds
        self.fault = ""  # evolve fails with it
        self.failure = ""  # why nobody answers
        self.evolved: list[int] = []
        self.emulators: list[str] = []
        self._drawn: dict[int, list[str]] = {}

    @property
    def python(self) -> Path:
        return Path(sys.executable)

    async def open(self) -> None:
        return

    async def close(self) -> None:
        self._drawn.clear()

    @property
    def backlog(self) -> int:
        return 0

    @property
    def kept(self) -> set[int]:
        """Jobs whose draw is kept."""
        return set(self._drawn)

    async def device_spec(self, device: str) -> DeviceSpec:
        if device != "AnalogDevice":
            raise WorkerFault(f"no device {device}")
        return device_spec()

    async def validate(self, program: Program, shots: int, spec: DeviceSpec) -> Verdict:
        return Verdict(ok=True, sentence="", spec_hash=spec.hash)

    async def build(self, program: Program, spec: DeviceSpec) -> str:
        return program.sequence

    async def evolve(
        self, job_id: int, program: Program, spec: DeviceSpec, *, shots: int, seed: int, options: dict[str, Any]
    ) -> dict[str, str]:
        self.evolved.append(job_id)
        self.emulators.append(options.get("emulator", "auto"))
        await asyncio.sleep(self.evolve_seconds)
        if self.fault:
            raise WorkerFault(self.fault)
        atoms, draw = len(json.loads(program.sequence)["register"]), random.Random(seed)
        self._drawn[job_id] = [f"{draw.getrandbits(atoms):0{atoms}b}" for _ in range(shots)]
        return {"emulator": "coins"}

    async def deal(self, job_id: int, first_shot: int, shots: int) -> dict[str, int]:
        if job_id not in self._drawn:
            raise WorkerFault(f"job {job_id} is not here")
        return dict(Counter(self._drawn[job_id][first_shot : first_shot + shots]))

    def release(self, job_id: int) -> None:
        self._drawn.pop(job_id, None)

    def forget(self, job_id: int) -> None:
        """Lose the job's process, as a kill does."""
        self._drawn.pop(job_id)
