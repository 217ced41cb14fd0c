"""Processes on the cluster's nodes: `srun` as a child of the daemon, its standard streams being the far process's.

No port, no secret and no file is needed: Slurm carries the streams, and a Slurm job ends with its srun. srun ends with
the daemon: it sees the end of its input when it runs and, since it does not look at that while it waits for nodes,
the kernel tells it by a signal. Whatever is left of an earlier life is found by its name.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Collection
from pathlib import Path

from qpud.core.slurm import SlurmAway, WorkerJob
from qpud.site.slurmcommand import Commands, environment

LINE_LIMIT = 64 << 20  # counts of a million distinct bitstrings fit
ONE_TASK = ("--ntasks=1", "--nodes=1", "--mpi=none", "--chdir=/")
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# srun gets SIGTERM when we die, whichever way: it then cancels its job, even one that waits for nodes (measured)
TIED = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
os.getppid() == int(sys.argv[1]) and os.execv(sys.argv[2], sys.argv[2:])
"""


class Srun:
    """Starts, finds and cancels the Slurm jobs of one daemon, as the daemon's own user.

    Args:
        conf: slurm.conf; None for Slurm's own.
        state: StateSaveLocation, which tells this daemon's Slurm jobs from those of another one.
    """

    def __init__(self, conf: Path | None, state: Path) -> None:
        self._environment = {**environment(conf), **THREADS}
        self._commands = Commands(conf, time.monotonic)
        mark = hashlib.sha256(f"{socket.gethostname()}:{state}".encode()).hexdigest()[:6]
        self._mark = f"qpud-{mark}"
        self._life = secrets.token_hex(4)  # not the time: two starts within a second are two lives

    def name(self, resource: str, number: int) -> str:
        """The name of a Slurm job: this daemon, the resource, this life, a number."""
        return f"{self._family(resource)}{self._life}.{number}"

    async def start(self, name: str, options: list[str], command: list[str]) -> Process:
        """Run a command as a Slurm job of that name; the process is srun. Raises: OSError without srun."""
        if (srun := shutil.which("srun", path=self._environment["PATH"])) is None:
            raise FileNotFoundError("there is no srun on PATH")
        tied = (sys.executable, "-I", "-S", "-c", TIED, str(os.getpid()))
        return await asyncio.create_subprocess_exec(
            *(*tied, srun, f"--job-name={name}", *ONE_TASK, *options, *command),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=LINE_LIMIT,
            env=self._environment,
            cwd="/",
            start_new_session=True,  # Ctrl-C reaches the daemon only
        )

    async def jobs(self, resource: str) -> list[WorkerJob]:
        """The Slurm jobs of a resource that wait or run, of earlier lives too. Raises: SlurmAway."""
        form = "--format=%j\t%A\t%T\t%r"
        out = await self._run("squeue", "--noheader", "--all", f"--user={os.geteuid()}", form)
        rows = [line.split("\t") for line in out.split("\n")]
        return [
            WorkerJob(id=int(row[1]), name=row[0], state=row[2], reason=row[3])
            for row in rows
            if len(row) == 4 and row[0].startswith(self._family(resource)) and row[1].isdigit()
        ]

    async def cancel_left(self, resource: str, gone: Collection[str]) -> int:
        """Cancel the Slurm jobs that an earlier life left, and those named; returns how many. Raises: SlurmAway."""
        ours = f"{self._family(resource)}{self._life}."
        jobs = [job for job in await self.jobs(resource) if job.state != "COMPLETING"]
        return await self._cancel([job for job in jobs if job.name in gone or not job.name.startswith(ours)])

    async def cancel_all(self, resource: str) -> int:
        """Cancel every Slurm job of a resource; returns how many. Raises: SlurmAway."""
        return await self._cancel(await self.jobs(resource))

    async def _cancel(self, jobs: list[WorkerJob]) -> int:
        if jobs:
            await self._run("scancel", *(str(job.id) for job in jobs))
        return len(jobs)

    def _family(self, resource: str) -> str:
        return f"{self._mark}-{resource}@"

    async def _run(self, *command: str) -> str:
        """The output of one of Slurm's commands. Raises: SlurmAway."""
        answer = await self._commands.ask(self._commands.run(*command))
        if answer.code:
            raise SlurmAway(f"{command[0]} failed ({answer.complaint})")
        return answer.out
