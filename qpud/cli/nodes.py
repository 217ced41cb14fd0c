"""Giving nodes of one's own Slurm job back to Slurm while it waits: `qpud wait --yield-nodes`.

Slurm lets a user shrink his running job (`scontrol update JobId= NumNodes=`) unless the site has disable_job_shrink;
the node of the batch script always stays. It gives no node back to a job: one that had left refuses the job's steps
(Slurm 22.05: "Job credential revoked"). Steps that run on a node that leaves are killed, so then nothing is given.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from qpud.cli.output import note

PATIENCE_SECONDS = 20.0
"""For one of Slurm's commands: a slurmctld that is down keeps it for as long."""
_EXPORTED = re.compile(r'export SLURM_[A-Z_]+="?[A-Za-z0-9_.,()\[\]-]*"?|unset SLURM_[A-Z_]+')
_NO_TASKS = (".batch", ".extern", ".interactive")


class SlurmFailed(Exception):
    """One of Slurm's commands did not do what it was asked; says why."""


class Held(NamedTuple):
    """The nodes of a running Slurm job."""

    number: int
    nodes: str  # Slurm's list, as in qn[1-2]


def give_nodes_back(environ: Mapping[str, str], keep: int) -> str:
    """Shrink the Slurm job that this runs in, and say what that did or why it could not be done.

    Args:
        environ: SLURM_JOB_ID names the job; the rest is for Slurm's commands.
        keep: How many nodes it goes on with.

    Returns:
        Lines for a shell that set SLURM_NNODES and the like as they are now; empty if nothing was given back.
    """
    job = environ.get("SLURM_JOB_ID", "")
    if not job.isdecimal():
        note("--yield-nodes: this runs in no Slurm job, SLURM_JOB_ID is not set; it only waits")
        return ""
    try:
        return _shrink(environ, job, keep)
    except SlurmFailed as why:
        note(f"Slurm job {job} keeps its nodes while it waits: {why}")
        return ""


def _shrink(environ: Mapping[str, str], job: str, keep: int) -> str:
    before = _held(environ, job)
    if before.number <= keep:
        raise SlurmFailed(f"it has {_nodes(before.number)}, {before.nodes}, and is to keep {keep}")
    _require_no_steps(environ, job)
    with tempfile.TemporaryDirectory(prefix="qpud-") as folder:  # scontrol writes its script where it runs
        _run(environ, ["scontrol", "update", f"JobId={job}", f"NumNodes={keep}"], folder)
        lines = _lines(Path(folder) / f"slurm_job_{job}_resize.sh")
    after = _held(environ, job)
    gone = before.number - after.number
    note(f"Slurm job {job} gave {_nodes(gone)} of {before.number} back and goes on with {after.nodes}")
    return lines or _own_lines(after)


def _held(environ: Mapping[str, str], job: str) -> Held:
    """The nodes of a running job, by fields that nobody can forge."""
    rows = _run(environ, ["squeue", "--noheader", f"--jobs={job}", "--format=%A|%T|%D|%N"]).splitlines()
    found = [row.split("|") for row in rows if row.startswith(f"{job}|")]
    if len(found) != 1 or found[0][1] != "RUNNING":
        raise SlurmFailed("Slurm does not show it as running")
    return Held(int(found[0][2]), found[0][3])


def _require_no_steps(environ: Mapping[str, str], job: str) -> None:
    steps = _run(environ, ["squeue", "--noheader", "--steps", f"--jobs={job}", "--format=%i"]).split()
    running = [step for step in steps if not step.endswith(_NO_TASKS)]
    if running:
        raise SlurmFailed(f"step {running[0]} still runs, and would be killed")


def _run(environ: Mapping[str, str], command: list[str], folder: str = "/") -> str:
    """What one of Slurm's commands prints. Raises: SlurmFailed, with its complaint."""
    clean = {name: value for name, value in environ.items() if not name.startswith(("SQUEUE_", "SLURM_TIME"))}
    try:
        done = subprocess.run(
            command, env=clean, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise SlurmFailed(f"{command[0]} did not answer within {PATIENCE_SECONDS:g} s") from None
    except OSError as why:
        raise SlurmFailed(f"{command[0]}: {why.strerror}") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[:200] or f"exit code {done.returncode}"
        raise SlurmFailed(f"{command[0]} says {said}")
    return done.stdout


def _lines(script: Path) -> str:
    """The assignments of Slurm's own script; none if it wrote none."""
    try:
        lines = script.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    return "\n".join(line for line in lines if _EXPORTED.fullmatch(line))


def _own_lines(held: Held) -> str:
    """The same where Slurm wrote no script: what a step of the smaller job must not inherit is unset."""
    counts = [f"export {name}={held.number}" for name in ("SLURM_NNODES", "SLURM_JOB_NUM_NODES")]
    lists = [f'export {name}="{held.nodes}"' for name in ("SLURM_NODELIST", "SLURM_JOB_NODELIST")]
    stale = ("SLURM_NPROCS", "SLURM_NTASKS", "SLURM_TASKS_PER_NODE", "SLURM_JOB_CPUS_PER_NODE")
    return "\n".join([*lists, *counts, *(f"unset {name}" for name in stale)])


def _nodes(number: int) -> str:
    return f"{number} node{'s' * (number != 1)}"
