"""wait: until jobs have ended, and if asked without the nodes that would idle meanwhile."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from qpud.cli.client import Client, segment
from qpud.cli.connect import persistently, with_client
from qpud.cli.exits import Exit, Stop
from qpud.cli.nodes import give_nodes_back
from qpud.cli.output import emit, note
from qpud.cli.serve import Verbs
from qpud.cli.submit import detach
from qpud.cli.wait import TERMINAL, wait_for

EPILOG = """\
Exits with 0 if all jobs are DONE, 1 if one ended otherwise, 6 if --timeout passed before. With --yield-nodes, in the
batch script of a Slurm job: nodes=$(qpud wait --yield-nodes JOB) || exit; eval "$nodes". Its standard output is then
what the shell has to know of the smaller job (SLURM_NNODES and the like), and empty where Slurm lets no node go, which
standard error explains: it waits all the same. Slurm gives no node back.
"""


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of wait."""
    parser = verbs.add_parser("wait", parents=[reach], help="until jobs have ended", epilog=EPILOG)
    parser.add_argument("jobs", nargs="+", metavar="JOB", help="job id")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="wait at most so long")
    parser.add_argument("--yield-nodes", action="store_true", help="give nodes of this Slurm job back meanwhile")
    parser.add_argument("--keep", type=_nodes, default=1, metavar="N", help="nodes that stay (default: 1)")
    parser.set_defaults(verb=with_client(wait))


def _nodes(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of nodes, 1 or more")
    return int(text)


def wait(client: Client, args: argparse.Namespace) -> int:
    """Wait for the ends of all jobs."""
    found = [_job(client, job) for job in args.jobs]
    if args.yield_nodes and any(job["state"] not in TERMINAL for job in found):
        _yield_nodes(client, args.keep)
    try:
        ended = _ends(client, found, args.timeout)
    except KeyboardInterrupt:
        return detach([job["id"] for job in found])
    if not args.yield_nodes:
        emit(args, ended[0] if len(ended) == 1 else ended, lambda: "\n".join(map(_line, ended)))
    return _verdict(ended)


def _job(client: Client, job: str) -> dict[str, Any]:
    found: dict[str, Any] = persistently(lambda: client.get(f"/v1/jobs/{segment(job)}"), "waiting")
    return found


def _ends(client: Client, jobs: list[dict[str, Any]], timeout: float | None) -> list[dict[str, Any]]:
    deadline = None if timeout is None else time.monotonic() + timeout
    return [wait_for(client, job["id"], deadline and max(0.0, deadline - time.monotonic())) for job in jobs]


def _yield_nodes(client: Client, keep: int) -> None:
    """Shrink the Slurm job, print what its shell has to know, and tell the daemon that fewer nodes wait."""
    lines = give_nodes_back(os.environ, keep)
    if not lines:
        return
    print(lines, flush=True)
    try:
        for session in client.get("/v1/sessions", {"slurm_job_id": os.environ["SLURM_JOB_ID"], "active": "true"}):
            client.post(f"/v1/sessions/{segment(session['id'])}/renew")
    except Stop as stop:
        note(f"the daemon learns of it at its next look at Slurm, within two minutes: {stop.message}")


def _verdict(ended: list[dict[str, Any]]) -> int:
    for job in ended:
        if job["state"] != "DONE":
            note(f"{_line(job)}: see `qpud show {job['id']}`")
    if any(job["state"] in TERMINAL and job["state"] != "DONE" for job in ended):
        return Exit.FAILED
    return Exit.OK if all(job["state"] in TERMINAL for job in ended) else Exit.UNFINISHED


def _line(job: dict[str, Any]) -> str:
    return f"job {job['id']} {job['state']}: {job['shots_done']} of {job['shots']} shots on {job['resource']}"
