"""env: what `qpud run` gives a command, as lines for a shell; for SDKs whose whole shim is their environment."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from typing import Any

from qpud.cli.choice import QPU_DEFAULTS, chosen
from qpud.cli.client import Client
from qpud.cli.connect import with_client
from qpud.cli.environment import Ticket, environment
from qpud.cli.exits import Exit
from qpud.cli.output import note
from qpud.cli.rehearsal import add_rehearsal_options, add_seed_option
from qpud.cli.run import ticket_of
from qpud.cli.sdks import SDKS, of
from qpud.cli.serve import Verbs
from qpud.cli.submit import add_session_options, open_session, own_batch_job, session_terms
from qpud.cli.tables import clock, fields

HIDDEN = "HIDDEN"  # a word that stays itself inside of a URL
EPILOG = """\
With --shell or --json it opens a session, which stays open until `qpud sessions --close ID`, until it has not been
used for SessionIdleTimeout, or until it expires; the times are said on standard error. With QPUD_TOKEN or
QPUD_TOKEN_FILE set and nothing asked of a session, that session is used. Otherwise it opens nothing, and shows the
variables without the token. Example: eval "$(qpud env --sdk cudaq --qpu FRESNEL --shell)"
"""


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of env."""
    parser = verbs.add_parser("env", parents=[reach], help="the environment of `qpud run`, for a shell", epilog=EPILOG)
    parser.add_argument("--sdk", choices=sorted(SDKS), help="only what this SDK reads")
    parser.add_argument("--qpu", metavar="NAME[,NAME]", help=f"the resources ({QPU_DEFAULTS})")
    parser.add_argument("--shell", action="store_true", help="print exports to eval, with the token")
    add_session_options(parser)
    add_rehearsal_options(parser)
    add_seed_option(parser)
    parser.set_defaults(verb=with_client(print_environment))


def print_environment(client: Client, args: argparse.Namespace) -> int:
    """Print the environment."""
    ticket = ticket_of(client, chosen(args.qpu, os.environ))
    if not (args.shell or args.json):
        print(fields(list(_variables(args, ticket._replace(token=HIDDEN, batch_job=own_batch_job("env"))).items())))
        note("nothing was opened: --shell prints exports with the token of a session")
    else:
        _print_opened(client, args, ticket)
    if args.sdk:
        note(f"the script says: {SDKS[args.sdk].script}")
    return Exit.OK


def _print_opened(client: Client, args: argparse.Namespace, ticket: Ticket) -> None:
    session: dict[str, Any] | None = None
    terms = session_terms(args, next(iter(ticket.resources)))
    if not client.token or terms:
        named = ticket._replace(batch_job=own_batch_job("env"))
        session = open_session(client, **terms, slurm_job_id=named.batch_job)
        ticket = named._replace(token=session.pop("token"))
    note(_lifetime(session))
    if args.shell:
        found = _variables(args, ticket).items()  # a resource with a dash in its name makes names no shell can take
        print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in found if name.isidentifier()))
        return
    shown = ticket._replace(token=HIDDEN) if sys.stdout.isatty() else ticket
    print(json.dumps({"environment": _variables(args, shown), "session": session}, indent=2, ensure_ascii=False))


def _variables(args: argparse.Namespace, ticket: Ticket) -> dict[str, str]:
    return of(args.sdk, environment(ticket, os.environ))


def _lifetime(session: dict[str, Any] | None) -> str:
    if session is None:
        return "the session of the given token is used, and ends when its owner ends it"
    return (
        f"session {session['id']} is open until {clock(session.get('expires_at'))}, or unused until "
        f"{clock(session.get('idle_expires_at'))}; close it with `qpud sessions --close {session['id']}`"
    )
