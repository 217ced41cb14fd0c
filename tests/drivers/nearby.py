"""A Slurm of one machine without a queue: SlurmProtocol by plain processes, for what needs no cluster."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Collection

from qpud.core.slurm import SlurmAway, WorkerJob
from qpud.site.srun import LINE_LIMIT


class NearbySlurm:
    """Starts workers as children; tests choose what it refuses, how long jobs wait, and end them.

    Attributes:
        processes: What was started, by name.
        refuses: What srun says in place of starting anything; "" to start.
        gate: While it is clear, jobs are PENDING (Resources).
        away: Questions are not answered; `refused` is how often one was for left jobs.
    """

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        self.waiting: dict[str, int] = {}
        self.refuses = ""
        self.gate = asyncio.Event()
        self.gate.set()
        self.away = False
        self.refused = 0
        self.cancelled: list[str] = []

    @property
    def alive(self) -> list[Process]:
        return [process for process in self.processes.values() if process.returncode is None]

    def name(self, resource: str, number: int) -> str:
        return f"qpud-{resource}-{number}"

    async def start(self, name: str, options: list[str], command: list[str]) -> Process:
        if self.refuses:
            command = ["/bin/sh", "-c", 'echo "srun: error: $0" >&2; exit 1', self.refuses]
        number = self.waiting[name] = len(self.waiting) + 1
        if not self.gate.is_set():
            await self.gate.wait()
        environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": str(number), "SLURMD_NODENAME": "here"}
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, limit=LINE_LIMIT
        )
        self.processes[name] = process
        return process

    async def jobs(self, resource: str) -> list[WorkerJob]:
        if self.away:
            raise SlurmAway("Slurm does not answer")
        return [
            WorkerJob(id=number, name=name, state="PENDING", reason="Resources")
            for name, number in self.waiting.items()
            if name not in self.processes and name.startswith(f"qpud-{resource}-")
        ]

    async def cancel_left(self, resource: str, gone: Collection[str]) -> int:
        if self.away:
            self.refused += 1
            raise SlurmAway("Slurm does not answer")
        self.cancelled += sorted(gone)
        return len(gone)

    async def cancel_all(self, resource: str) -> int:
        self.cancelled.append(resource)
        return 0
