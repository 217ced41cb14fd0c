"""slurm: what the hooks in packaging/slurm call, as root, as SlurmUser, or as the job's user."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qpud.cli.client import Client, Refusal, segment
from qpud.cli.connect import RETRY_AFTER_SECONDS, with_client
from qpud.cli.environment import Pass, Ticket, environment_of_pass, prefix_of
from qpud.cli.exits import Exit, Stop
from qpud.cli.run import resource_named, url_of
from qpud.cli.serve import Verbs
from qpud.cli.submit import HINTS, open_session
from qpud.core.errors import QpudError
from qpud.site import tickets

UNAVAILABLE = 503

EPILOG = "Called by the Slurm hooks (packaging/slurm), each at least once for each end of a job; all may be repeated."


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of slurm."""
    parser = verbs.add_parser("slurm", help="what the Slurm hooks call", epilog=EPILOG)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add_open(actions.add_parser("open", parents=[reach], help="Prolog: open a job's session, lay its token"))
    _add_token(actions.add_parser("token", parents=[reach], help="TaskProlog: print a token of one's own session"))
    _add_close(actions.add_parser("close", parents=[reach], help="Epilog: close a session, or all of a job"))


def _add_open(parser: argparse.ArgumentParser) -> None:
    _add_job(parser, required=True)
    parser.add_argument("--gid", type=int, required=True, metavar="N", help="group of the token's file")
    parser.add_argument("--folder", type=Path, required=True, metavar="PATH", help="what to make, for this job only")
    parser.add_argument("--qpu", metavar="NAME[,NAME]", help="the resources (default: the daemon's)")
    parser.add_argument("--hint", choices=HINTS, help="what the workload is mostly made of; it never entitles")
    parser.add_argument("--nodes", default="", metavar="LIST", help="the job's nodes; its session ends with the first")
    parser.add_argument("--node", default="", metavar="NAME", help="the node this is")
    parser.set_defaults(verb=with_client(lay_session))


def _add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--slurm-job", required=True, metavar="ID", help="the Slurm job")
    parser.set_defaults(verb=with_client(print_token))


def _add_close(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--session", metavar="ID", help="one session")
    _add_job(parser, required=False)
    parser.set_defaults(verb=with_client(close))


def _add_job(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--slurm-job", required=required, metavar="ID", help="the Slurm job")
    parser.add_argument("--uid", type=int, required=required, metavar="N", help="its user")


def lay_session(client: Client, args: argparse.Namespace) -> int:
    """Open the session of a Slurm job and lay token and environment for it."""
    info = client.get("/v1/info")
    resources = _resources(info, args.qpu)
    grant = _open(client, user=args.uid, slurm_job_id=args.slurm_job, hint=args.hint)
    ticket = Ticket(resources, url_of(client, info), _socket(client), "", args.slurm_job, args.uid)
    environment = environment_of_pass(Pass(ticket, grant["id"], str(args.folder / "token")))
    ends_here = "" in (args.node, args.nodes) or args.node == tickets.first_host(args.nodes)
    try:
        owner = tickets.Owner(args.uid, args.gid)
        tickets.lay(args.folder, owner, grant["token"], environment, grant["id"] if ends_here else None)
    except QpudError as error:
        raise Stop(error.message) from None
    except OSError as why:
        raise Stop(f"folder {args.folder} of Slurm job {args.slurm_job} cannot be made: {why.strerror}") from None
    return Exit.OK


def print_token(client: Client, args: argparse.Namespace) -> int:
    """Print a token of the caller's own session of a Slurm job."""
    print(_open(client, slurm_job_id=args.slurm_job)["token"])
    return Exit.OK


def _open(client: Client, **ask: Any) -> dict[str, Any]:
    """Open a session; ask again while Slurm is too slow to vouch for it, as when many jobs start at once.

    Raises:
        Refusal: The last one; the hook's own time is up before, as a rule.
    """
    for delay in RETRY_AFTER_SECONDS:
        try:
            return open_session(client, **ask)
        except Refusal as refusal:
            if refusal.status != UNAVAILABLE:
                raise
        time.sleep(delay)
    return open_session(client, **ask)


def close(client: Client, args: argparse.Namespace) -> int:
    """Close one session, or those of a Slurm job and of the `qpud run` in it; what has ended already is no error."""
    if not args.session and (args.slurm_job is None or args.uid is None):
        raise Stop("slurm close needs --session=ID, or --slurm-job=ID and --uid=N", Exit.USAGE)
    for session in [args.session] if args.session else _sessions_of(client, args.slurm_job, args.uid):
        try:
            client.delete(f"/v1/sessions/{segment(session)}")
        except Refusal as refusal:
            if refusal.status != 404:
                raise
    return Exit.OK


def _sessions_of(client: Client, slurm_job: str, user_id: int) -> list[str]:
    """Those of `qpud run` are named SLURMJOB.run-XXXXXXXX."""
    found = client.get("/v1/sessions", {"user": user_id, "active": "true"})
    named = [(one["id"], one["slurm_job_id"] or "") for one in found]
    return [session for session, job in named if job == slurm_job or job.startswith(f"{slurm_job}.")]


def _resources(info: Mapping[str, Any], asked: str | None) -> dict[str, str]:
    """The prefix of each resource asked for, by name."""
    names = [resource_named(info, name) for name in (asked.split(",") if asked else [None])]
    return {name: prefix_of(name, info["default_resource"]) for name in names}


def _socket(client: Client) -> str | None:
    return str(client.place.socket) if client.place.socket else None
