"""acct: what was used, by whom, as sacct and sreport tell it; from the daemon's ledger."""

from __future__ import annotations

import argparse
import csv
import io
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from qpud.cli.client import Client
from qpud.cli.connect import with_client
from qpud.cli.exits import Exit, Stop
from qpud.cli.output import emit, note
from qpud.cli.serve import Verbs
from qpud.cli.tables import clock, table, terminal_columns
from qpud.cli.times import parse_time

DEFAULT_DAYS = 7
PAGE_ROWS = 10_000
MOST_ROWS = 200_000
FILTERS = ("user", "account", "queue", "resource", "session", "slurm_job")

NUMBERS = {
    "jobs": ">JOBS",
    "slices": ">SLICES",
    "shots": ">SHOTS",
    "qpu_seconds": ">QPUSECONDS",
    "setup_seconds": ">SETUP(s)",
    "wasted_shots": ">WASTEDSHOTS",
    "wasted_seconds": ">WASTED(s)",
    "wait_seconds": ">WAIT(s)",
}
TIMES = {"submitted_at": "SUBMITTED", "started_at": "STARTED", "ended_at": "ENDED"}
"""Columns of the wire and their titles."""

EPILOG = f"""\
Counts slices by the time of their end; without --start: of the last {DEFAULT_DAYS} days. A day is one in UTC; other
times are read and shown as local time. Users see their own, administrators everybody's (on the Unix socket).
Columns: seconds of QPU time charged (set-up included), of set-up, wasted when slices were cut (charged to nobody),
and waited from submission to first slice. A job that ran on two days counts on both; TOTAL counts it once.
TIME: 2026-11-24, 2026-11-24T10:00, today, yesterday, now-1day, now-12hours.
"""


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of acct."""
    acct = verbs.add_parser(
        "acct",
        parents=[reach],
        help="what was used, by whom: like sacct and sreport",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    acct.add_argument(
        "--by",
        metavar="GROUPS",
        help="day, user, account, slurm_job, session, job, queue, resource; several with commas (else day,user)",
    )
    for name, short in (("user", "-u"), ("account", "-A"), ("queue", None), ("resource", None)):
        _add_filter(acct, name, short)
    _add_filter(acct, "session", None)
    _add_filter(acct, "slurm-job", None)
    acct.add_argument("--start", "-S", metavar="TIME", help="from this time on")
    acct.add_argument("--end", "-E", metavar="TIME", help="before this time")
    acct.add_argument("--csv", action="store_true", help="print comma-separated values, without the total")
    acct.set_defaults(verb=with_client(print_report))


def _add_filter(parser: argparse.ArgumentParser, name: str, short: str | None) -> None:
    flags = [f"--{name}", *([short] if short else [])]
    parser.add_argument(*flags, action="append", metavar="NAME", help=f"of this {name}; several with commas")


def print_report(client: Client, args: argparse.Namespace) -> int:
    """Print a report as table, CSV or JSON."""
    if args.csv and args.json:
        raise Stop("--csv and --json are two forms of one answer: choose one", Exit.USAGE)
    query = _query(args, time.time())
    answer = _all_pages(client, query)
    if args.csv:
        print(_csv_text(answer["by"], answer["rows"]), end="")
        return Exit.OK
    emit(args, answer, lambda: _table_text(answer))
    if not answer["rows"]:
        note(f"no slice ended {_period(answer)}: see --start and --end, and `qpud queue` for what has not run yet")
    return Exit.OK


def _query(args: argparse.Namespace, now: float) -> dict[str, Any]:
    filters = {name: value for name in FILTERS if (value := getattr(args, name))}
    start = now // 86400 * 86400 - (DEFAULT_DAYS - 1) * 86400 if args.start is None else parse_time(args.start, now)
    # an end for all pages: what ends meanwhile would shift them
    end = now if args.end is None else parse_time(args.end, now)
    return {"by": args.by, **filters, "start": _wire_time(start), "end": _wire_time(end), "limit": PAGE_ROWS}


def _wire_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _all_pages(client: Client, query: dict[str, Any]) -> dict[str, Any]:
    """The whole report as one page. Raises: Stop when it is longer than anybody reads."""
    answer: dict[str, Any] = client.get("/v1/accounting/report", query)
    while answer["next"] is not None:
        if answer["next"] >= MOST_ROWS:
            raise Stop(f"the report has more than {MOST_ROWS} rows: narrow it with --start, --end or a filter")
        page = client.get("/v1/accounting/report", {**query, "offset": answer["next"]})
        answer = {**page, "rows": answer["rows"] + page["rows"]}
    return answer


def _period(answer: dict[str, Any]) -> str:
    return f"from {clock(answer['start'])} to {clock(answer['end'])}"


def _table_text(answer: dict[str, Any]) -> str:
    by = answer["by"]
    header = (*(name.upper().replace("_", "") for name in by), *NUMBERS.values(), *TIMES.values())
    rows = [[*(row[name] for name in by), *_cells(row)] for row in answer["rows"]]
    total = [*["TOTAL", *[""] * len(by)][: len(by)], *_cells(answer["total"])]
    return table(header, [*rows, total], terminal_columns())


def _cells(row: dict[str, Any]) -> list[object]:
    numbers = [f"{row[name]:.1f}" if name.endswith("_seconds") else row[name] for name in NUMBERS]
    return [*numbers, *(clock(row[name]) for name in TIMES)]


def _csv_text(by: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """All fields of the API under their own names; what is not known is empty."""
    beside = {"user": ["user", "user_id"], "resource": ["resource", "resource_type"]}
    columns = [column for name in by for column in beside.get(name, [name])] + [*NUMBERS, *TIMES]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([row[column] for column in columns] for row in rows)
    return text.getvalue()
