"""shares: who is entitled to what of a resource and who had it, like sshare."""

from __future__ import annotations

import argparse
from typing import Any

from qpud.cli.client import Client
from qpud.cli.connect import with_client
from qpud.cli.exits import Exit
from qpud.cli.output import emit, note
from qpud.cli.serve import Verbs
from qpud.cli.tables import table, terminal_columns

HEADER = (
    "RESOURCE",
    ">TIER",
    "ACCOUNT",
    "USER",
    ">WEIGHT",
    ">ENTITLED",
    ">SERVED",
    ">SECONDS",
    ">OWED(s)",
    ">USAGE(s)",
    "WORK",
    "SESSION",
)
EPILOG = """\
Of each tier: the part due now among those that have work, the part of what was served since the daemon started and
its QPU seconds, the QPU seconds owed (negative: had too much), and the usage of users and accounts, which fades with
PriorityDecayHalfLife. A line with a session is that session; others' sessions have no id.
"""


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of shares."""
    shares = verbs.add_parser(
        "shares",
        parents=[reach],
        help="who is entitled to what of a resource, and had it: like sshare",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shares.add_argument("resource", nargs="?", metavar="RESOURCE", help="of this one only")
    shares.set_defaults(verb=with_client(print_shares))


def print_shares(client: Client, args: argparse.Namespace) -> int:
    """Print shares entitled and served."""
    answer = client.get("/v1/shares", {"resource": args.resource})
    emit(args, answer, lambda: table(HEADER, [_row(one) for one in answer["shares"]], terminal_columns()))
    if not answer["shares"]:
        note(_why_empty(answer["scheduler_type"]))
    return Exit.OK


def _row(one: dict[str, Any]) -> list[object]:
    session = (one["session"] or "(another's)") if one["kind"] == "session" else None
    return [
        one["resource"],
        one["tier"],
        one["account"],
        one["user"],
        f"{one['weight']:.3g}",
        f"{one['entitled']:.1%}",
        f"{one['served']:.1%}",
        f"{one['served_seconds']:.1f}",
        f"{one['owed_seconds']:.1f}",
        None if one["usage_seconds"] is None else f"{one['usage_seconds']:.1f}",
        "yes" if one["is_active"] else "no",
        session,
    ]


def _why_empty(scheduler_type: str) -> str:
    if scheduler_type == "share":
        return "nobody has had work since the daemon started"
    return f"SchedulerType={scheduler_type} shares nothing: it goes by the order of jobs alone"
