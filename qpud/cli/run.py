"""run: a command in a session of its own, with the environment that QRMI, Pulser and the shims read."""

from __future__ import annotations

import argparse
import difflib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from qpud.cli.choice import OPTION, QPU_DEFAULTS, Choice, chosen
from qpud.cli.client import Client
from qpud.cli.connect import with_client
from qpud.cli.environment import Ticket, environment, prefix_of
from qpud.cli.exits import Exit, Stop
from qpud.cli.foreground import run_in_foreground
from qpud.cli.output import note
from qpud.cli.profile import profile_text, write_trace
from qpud.cli.rehearsal import add_rehearsal_options, add_seed_option
from qpud.cli.serve import Verbs
from qpud.cli.submit import add_session_options, close_session, open_session, own_batch_job, session_terms

EPILOG = """\
Opens a session, runs CMD in the foreground and closes the session again, which cancels what CMD left unfinished.
Exits with CMD's own code, 128 + N if signal N ended it. With QPUD_TOKEN or QPUD_TOKEN_FILE set (a Slurm
job) and nothing asked of a session, CMD uses that session, which stays open.
"""


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of run."""
    parser = verbs.add_parser("run", parents=[reach], help="run a command with access to a QPU", epilog=EPILOG)
    parser.add_argument("--qpu", metavar="NAME[,NAME]", help=f"the resources ({QPU_DEFAULTS})")
    add_session_options(parser)
    add_rehearsal_options(parser)
    parser.add_argument(
        "--profile", metavar="FILE", help="say where the time went; FILE is a trace for ui.perfetto.dev"
    )
    add_seed_option(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD …", help="the command and its arguments")
    parser.set_defaults(verb=with_client(run))


def run(client: Client, args: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise Stop("run needs a command, as in `qpud run --qpu=EMU_MPS -- python script.py`", Exit.USAGE)
    ticket = ticket_of(client, chosen(args.qpu, os.environ))
    if client.token and not session_terms(args) and not args.profile:
        return run_in_foreground(lambda: _start(command, ticket), lambda: None)
    return _run_in_own_session(args, client, command, ticket._replace(batch_job=own_batch_job("run")))


def ticket_of(client: Client, choice: Choice) -> Ticket:
    """What a command needs to reach the chosen resources in the client's own session, if it has one. Raises: Stop."""
    info = client.get("/v1/info")
    names = [resource_named(info, name, choice.named_by) for name in choice.names] or [str(info["default_resource"])]
    reached = {name: prefix_of(name, info["default_resource"]) for name in names}
    socket = str(client.place.socket) if client.place.socket else None
    return Ticket(reached, url_of(client, info), socket, client.token or "", _batch_job(), os.getuid())


def _run_in_own_session(args: argparse.Namespace, client: Client, command: Sequence[str], ticket: Ticket) -> int:
    opened: list[str] = []

    def start() -> subprocess.Popen[bytes]:
        grant = open_session(
            client, **session_terms(args, next(iter(ticket.resources))), slurm_job_id=ticket.batch_job
        )
        opened.append(grant["id"])
        client.close()  # an idle connection would be cut long before a long command ends
        return _start(command, ticket._replace(token=grant["token"]))

    def end() -> None:
        if args.profile:
            _tell_profile(client, args.profile, opened)
        close_session(client, *opened)

    return run_in_foreground(start, end)


def _tell_profile(client: Client, path: str, sessions: Sequence[str]) -> None:
    """Say where the time of a session went; the command's own exit code stays."""
    for session in sessions:
        try:
            found = client.get("/v1/profile", {"session": session})
            print(profile_text(found), file=sys.stderr)
            write_trace(path, found)
        except Stop as stop:
            note(f"no profile of session {session}: {stop.message}")


def _batch_job() -> str:
    return os.environ.get("QRMI_JOB_ID") or os.environ.get("SLURM_JOB_ID") or "0"


def resource_named(info: Mapping[str, Any], asked: str | None, named_by: str = OPTION) -> str:
    """The resource asked for, else the daemon's default. Raises: Stop (NOT_FOUND)."""
    names = [one["name"] for one in info["resources"]]
    if asked is None:
        return str(info["default_resource"])
    if asked in names:
        return asked
    source = "" if named_by == OPTION else f" ({named_by})"
    close = difflib.get_close_matches(asked.upper(), names, n=1)
    guess = f": did you mean {close[0]}?" if close else ""
    raise Stop(f"there is no resource {asked}{source}; this daemon serves {', '.join(names)}{guess}", Exit.NOT_FOUND)


def url_of(client: Client, info: Mapping[str, Any]) -> str:
    """The daemon's TCP address: SDKs speak nothing else. Raises: Stop, if it listens on none."""
    known: list[str | None] = [client.place.url, *info.get("urls", []), os.environ.get("QPUD_URL")]
    found = next((url for url in known if url), None)
    if found is None:
        raise Stop("this daemon listens on no TCP address, which SDKs need: add http://127.0.0.1:8006 to Listen")
    return found


def _start(command: Sequence[str], ticket: Ticket) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, env={**os.environ, **environment(ticket, os.environ)})
    except FileNotFoundError:
        raise Stop(f"{command[0]}: command not found", Exit.NO_COMMAND) from None
    except OSError as why:
        raise Stop(f"{command[0]}: {why.strerror}", Exit.NOT_EXECUTABLE) from None
