"""The daemon's side of the worker process: validation and emulation under another interpreter (skeleton)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from qpud.drivers.base import DeviceSpec, Program


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Pulser's word on a program: `sentence` is one sentence for the user when it cannot run, else ""."""

    ok: bool
    sentence: str
    spec_hash: str


class WorkerFault(Exception):
    """The worker could not answer (dead, out of memory, out of time); `message` is one sentence."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Workers:
    """One preloaded parent process under `python`; it forks a child for each job and children for validation.

    Args:
        python: Interpreter that has Pulser and the emulators.
        validation_memory: RLIMIT_AS of a validating child in bytes.
        validation_timeout: Seconds one validation may take before its child is killed.
    """

    def __init__(self, python: Path, *, validation_memory: int, validation_timeout: float) -> None: ...

    async def open(self) -> None:
        """Start the parent; returns at once, requests wait until it is ready. It is restarted if it dies."""

    async def close(self) -> None:
        """End the parent and every child."""

    @property
    def backlog(self) -> int:
        """Validations asked for and not yet answered."""
        raise NotImplementedError

    async def device_spec(self, device: str) -> DeviceSpec:
        """The abstract representation of a Pulser device by name, or of a file. Raises: WorkerFault."""
        raise NotImplementedError

    async def validate(self, program: Program, shots: int, spec: DeviceSpec) -> Verdict:
        """Check a program against a spec, as the resource would run it. Never raises for what the user did;
        too much memory or time is a verdict too. Raises: WorkerFault when the worker itself is broken."""
        raise NotImplementedError

    async def build(self, program: Program, spec: DeviceSpec) -> str:
        """The sequence as a QPU takes it: AHS converted, variables assigned, on the spec's device, measured."""
        raise NotImplementedError

    async def evolve(
        self,
        job_id: int,
        program: Program,
        spec: DeviceSpec,
        *,
        shots: int,
        seed: int,
        options: dict[str, Any],
    ) -> dict[str, str]:
        """Emulate once in a child of its own and draw all `shots`; the child keeps them until `release`.

        Returns provenance (backend, versions). Raises: WorkerFault (killed, memory, time).
        """
        raise NotImplementedError

    async def deal(self, job_id: int, first_shot: int, shots: int) -> dict[str, int]:
        """Counts of some of the drawn shots. Raises: WorkerFault if the child is gone (evolve again)."""
        raise NotImplementedError

    def release(self, job_id: int) -> None:
        """End the job's child; unknown ids are ignored."""
