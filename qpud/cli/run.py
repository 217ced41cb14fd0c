"""run: a command in a session of its own, with the environment that QRMI, Pulser and the shims read."""

from __future__ import annotations

import argparse
import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from qpud.cli.client import Client, segment
from qpud.cli.connect import with_client
from qpud.cli.exits import Exit, Stop
from qpud.cli.foreground import run_in_foreground
from qpud.cli.serve import Verbs
from qpud.cli.submit import add_session_options, close_session, open_session, session_terms

LIST_SEPARATOR = ","
UNLIMITED_SECONDS = 4294967295  # what the SPANK plugin of QRMI writes for a job without a time limit
EPILOG = """\
Opens a session, runs CMD in the foreground and closes the session again, which cancels what CMD left unfinished.
Exits with CMD's own code, 128 + N if signal N ended it. With QPUD_TOKEN set and nothing asked of a session,
CMD uses that session, which stays open.
"""


class Ticket(NamedTuple):
    """What a command needs to reach one resource in one session."""

    resource: str
    url: str  # of the daemon, without prefix
    prefix: str  # "" for the default resource
    socket: str | None
    token: str
    batch_job: str  # what QRMI's acquire() names, to get this very session


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of run."""
    parser = verbs.add_parser("run", parents=[reach], help="run a command with access to a QPU", epilog=EPILOG)
    parser.add_argument("--qpu", metavar="NAME", help="the resource (else QPUD_QPU, else the daemon's default)")
    add_session_options(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD …", help="the command and its arguments")
    parser.set_defaults(verb=with_client(run))


def run(client: Client, args: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise Stop("run needs a command, as in `qpud run --qpu=EMU_MPS -- python script.py`", Exit.USAGE)
    info = client.get("/v1/info")
    resource = _resource(info, args.qpu or os.environ.get("QPUD_QPU"))
    url = _url(client, info)
    prefix = "" if resource == info["default_resource"] else f"/r/{segment(resource)}"
    socket = str(client.place.socket) if client.place.socket else None
    if client.token and not session_terms(args):
        ticket = Ticket(resource, url, prefix, socket, client.token, _batch_job())
        return run_in_foreground(lambda: _start(command, ticket), lambda: None)
    return _run_in_own_session(args, client, command, Ticket(resource, url, prefix, socket, "", _own_batch_job()))


def _run_in_own_session(args: argparse.Namespace, client: Client, command: Sequence[str], ticket: Ticket) -> int:
    opened: list[str] = []

    def start() -> subprocess.Popen[bytes]:
        grant = open_session(client, **session_terms(args), slurm_job_id=ticket.batch_job)
        opened.append(grant["id"])
        client.close()  # an idle connection would be cut long before a long command ends
        return _start(command, ticket._replace(token=grant["token"]))

    return run_in_foreground(start, lambda: close_session(client, *opened))


def _batch_job() -> str:
    return os.environ.get("QRMI_JOB_ID") or os.environ.get("SLURM_JOB_ID") or "0"


def _own_batch_job() -> str:
    """A name no other run has: two runs in one Slurm job must not share, and so close, one session."""
    mark = f"run-{uuid.uuid4().hex[:8]}"
    slurm_job = os.environ.get("SLURM_JOB_ID")
    return f"{slurm_job}.{mark}" if slurm_job else mark


def _resource(info: Mapping[str, Any], asked: str | None) -> str:
    names = [one["name"] for one in info["resources"]]
    if asked is None:
        return str(info["default_resource"])
    if asked in names:
        return asked
    raise Stop(f"there is no resource {asked}; this daemon serves {', '.join(names)}", Exit.NOT_FOUND)


def _url(client: Client, info: Mapping[str, Any]) -> str:
    """SDKs speak TCP only."""
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


def environment(ticket: Ticket, inherited: Mapping[str, str]) -> dict[str, str]:
    """What QRMI, Pulser's QRMI connection and the shims read; nothing of it is ever on a command line.

    Names are those of QRMI 0.26 and its SPANK plugin. The list variables exist under both prefixes because older
    clients read only SLURM_JOB_*. NO_PROXY, because QRMI would send credentials for 127.0.0.1 to a proxy.
    """
    name = ticket.resource
    lists = {"QPU_RESOURCES": name, "QPU_TYPES": "pasqal-local"}
    return {
        **({"QPUD_SOCKET": ticket.socket} if ticket.socket else {}),
        "QPUD_URL": ticket.url,
        "QPUD_TOKEN": ticket.token,
        "QPUD_QPU": name,
        **{f"{prefix}_JOB_{key}": value for prefix in ("QRMI", "SLURM") for key, value in lists.items()},
        "QRMI_JOB_UID": str(os.getuid()),
        "QRMI_JOB_ID": ticket.batch_job,
        f"{name}_QRMI_WARDEN_URL": _with_token(ticket.url, ticket.token) + ticket.prefix,
        f"{name}_QRMI_JOB_ACQUISITION_TOKEN": ticket.token,
        f"{name}_QRMI_JOB_TIMEOUT_SECONDS": str(UNLIMITED_SECONDS),
        **_without_proxy(ticket.url, inherited),
    }


def _with_token(url: str, token: str) -> str:
    """QRMI has munge or nothing to prove its caller; as user:password it sends the token as Basic."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://qpud:{segment(token)}@{rest}"


def _without_proxy(url: str, inherited: Mapping[str, str]) -> dict[str, str]:
    hosts = ["127.0.0.1", "localhost", urlsplit(url).hostname or ""]
    both = {}
    for variable in ("NO_PROXY", "no_proxy"):
        given = inherited.get(variable, "").split(LIST_SEPARATOR)
        kept = dict.fromkeys(host.strip() for host in [*given, *hosts] if host.strip())
        both[variable] = LIST_SEPARATOR.join(kept)
    return both
