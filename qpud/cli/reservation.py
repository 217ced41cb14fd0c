"""reservation: windows of time in which a resource belongs to accounts, users or a duty."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from typing import Any

from qpud.cli.admin import administer
from qpud.cli.client import Client, segment
from qpud.cli.connect import with_client
from qpud.cli.exits import Exit
from qpud.cli.output import emit
from qpud.cli.serve import Verbs
from qpud.cli.tables import clock, table, terminal_columns
from qpud.cli.times import parse_duration, parse_time

HEADER = ("NAME", "RESOURCE", "STATE", "START", "END", "ACCOUNTS", "USERS", "DUTY")
EPILOG = """\
TIME: now, now+10minutes, 14:30 (today), tomorrow, 2026-11-24T10:00 (local time, unless it ends in Z or +HH:MM).
DURATION: 90 (minutes), 2h, 1:30:00, 2-00:00.
At least one of --accounts, --users and --duty. The duty `qa` is done by sessions with the account `duty:qa`.
"""


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of reservation create, list and delete."""
    reservation = verbs.add_parser("reservation", help="create, list or delete reservations")
    actions = reservation.add_subparsers(metavar="ACTION", required=True)
    _add_create(actions, reach)
    show = actions.add_parser("list", parents=[reach], help="reservations that are not over")
    show.set_defaults(verb=with_client(print_reservations))
    delete = actions.add_parser("delete", parents=[reach], help="give the resource back (administrators)")
    delete.add_argument("name", metavar="NAME")
    delete.set_defaults(verb=with_client(delete_reservation))


def _add_create(actions: Verbs, reach: argparse.ArgumentParser) -> None:
    create = actions.add_parser(
        "create",
        parents=[reach],
        help="reserve a resource for a window of time (administrators)",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    create.add_argument("name", metavar="NAME")
    create.add_argument("--resource", metavar="RESOURCE", help="default: the daemon's")
    create.add_argument("--start", default="now", metavar="TIME", help="default: now")
    create.add_argument("--duration", required=True, metavar="DURATION", help="required")
    create.add_argument("--accounts", type=_names, default=[], metavar="A,B", help="whose jobs may run meanwhile")
    create.add_argument("--users", type=_names, default=[], metavar="X,Y", help="whose jobs may run meanwhile")
    create.add_argument("--duty", default="", metavar="DUTY", help="which duty's jobs may run meanwhile")
    create.set_defaults(verb=with_client(create_reservation))


def _names(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]


def create_reservation(client: Client, args: argparse.Namespace) -> int:
    """Create a reservation and say from when to when it holds."""
    starts_at = parse_time(args.start, time.time())
    body = {
        "name": args.name,
        "resource": args.resource,
        "starts_at": datetime.fromtimestamp(starts_at, UTC).isoformat(),
        "duration_seconds": parse_duration(args.duration),
        "accounts": args.accounts,
        "users": args.users,
        "duty": args.duty,
    }
    answer = administer(client, "POST", "/v1/reservations", body)
    emit(args, answer, lambda: f"reservation {answer['name']} of {answer['resource']}: {_when(answer)}")
    return Exit.OK


def print_reservations(client: Client, args: argparse.Namespace) -> int:
    """Print the reservations that are not over, the earliest first."""
    answer = client.get("/v1/reservations")
    emit(args, answer, lambda: table(HEADER, [_row(one) for one in answer["reservations"]], terminal_columns()))
    return Exit.OK


def delete_reservation(client: Client, args: argparse.Namespace) -> int:
    """Delete a reservation."""
    answer = administer(client, "DELETE", f"/v1/reservations/{segment(args.name)}")
    emit(args, answer, lambda: f"reservation {answer['name']} of {answer['resource']} is deleted")
    return Exit.OK


def _when(one: dict[str, Any]) -> str:
    return f"{clock(one['starts_at'])} to {clock(one['ends_at'])}"


def _row(one: dict[str, Any]) -> list[object]:
    state = "ACTIVE" if one["active"] else "INACTIVE"
    owners = (",".join(one["accounts"]), ",".join(one["users"]), one["duty"])
    return [one["name"], one["resource"], state, clock(one["starts_at"]), clock(one["ends_at"]), *owners]
