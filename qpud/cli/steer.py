"""cancel by filter, update: what acts on many jobs, or moves one to another queue."""

from __future__ import annotations

import argparse
from typing import Any

from qpud.cli.admin import administer
from qpud.cli.client import Client, segment
from qpud.cli.exits import Exit, Stop
from qpud.cli.output import emit, note
from qpud.cli.tables import table, terminal_columns

FILTERS = ("user", "queue", "resource", "session", "state", "name", "batch")
LISTED_HEADER = (">JOBID", "USER", "STATE", ">SHOTS", "WHAT")


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that select unfinished jobs; together they must all hold."""
    which = parser.add_argument_group("instead of JOB: every unfinished job that")
    which.add_argument("--user", metavar="NAME", help="belongs to this user")
    which.add_argument("--queue", metavar="NAME", help="is in this queue")
    which.add_argument("--resource", "--qpu", metavar="NAME", help="is for this resource")
    which.add_argument("--session", metavar="ID", help="belongs to this session")
    which.add_argument("--state", type=str.upper, choices=("PENDING", "RUNNING"), help="is in this state")
    which.add_argument("--name", help="has this name")
    which.add_argument("--batch", metavar="ID", help="belongs to this batch")
    which.add_argument("--dry-run", action="store_true", help="only list them")


def has_filter(args: argparse.Namespace) -> bool:
    """Whether jobs are selected by a filter; then none may be named. Raises: Stop (USAGE)."""
    given = [name for name in FILTERS if getattr(args, name) is not None]
    if bool(given) == bool(args.jobs):
        said = "both jobs and a filter were given" if given else "name jobs, or select them, as in --user=NAME"
        raise Stop(f"cancel: {said}", Exit.USAGE)
    if args.dry_run and not given:
        raise Stop("--dry-run needs a filter, as in --user=NAME", Exit.USAGE)
    return bool(given)


def cancel_selected(client: Client, args: argparse.Namespace) -> int:
    """Cancel what the filter selects and say in numbers what that did; exit 1 if some had ended otherwise."""
    given = {name: getattr(args, name) for name in FILTERS if getattr(args, name) is not None}
    answer = client.post("/v1/jobs/cancel", {**given, "dry_run": args.dry_run})
    emit(args, answer, lambda: _text(answer))
    return Exit.FAILED if answer["ended"] else Exit.OK


def _text(answer: dict[str, Any]) -> str:
    if not answer["matched"]:
        return "no unfinished job is selected"
    if answer["dry_run"]:
        listed = table(LISTED_HEADER, [_row(one) for one in answer["jobs"]], terminal_columns())
        return f"{listed}\n{_jobs(answer['matched'])} would be canceled{_unlisted(answer)}"
    parts = [
        f"{answer[key]} {text}"
        for key, text in (
            ("canceled", "canceled"),
            ("stopping", "asked to stop, the slice in flight is ending"),
            ("ended", "had ended before"),
        )
        if answer[key]
    ]
    return f"{_jobs(answer['matched'])}: {'; '.join(parts)}"


def _row(one: dict[str, Any]) -> list[object]:
    return [one["id"], one["user"], one["state"], f"{one['shots_done']}/{one['shots']}", one["message"]]


def _jobs(number: int) -> str:
    return f"{number} job{'s' * (number != 1)}"


def _unlisted(answer: dict[str, Any]) -> str:
    more = answer["matched"] - len(answer["jobs"])
    return f", {more} of them not listed" if more else ""


def change_queue(client: Client, args: argparse.Namespace) -> int:
    """Move each job to another queue; one that fails stops no other. The exit code is the worst one."""
    worst: int = Exit.OK
    answers = []
    for job in args.jobs:
        body = {"queue": args.queue, "override": args.override}
        try:
            answers.append(administer(client, "POST", f"/v1/jobs/{segment(job)}/queue", body))
        except Stop as stop:
            if stop.code is Exit.NO_DAEMON:
                raise
            note(stop.message)
            worst = max(worst, stop.code)
    if answers:
        emit(args, answers[0] if len(args.jobs) == 1 else answers, lambda: "\n".join(map(_moved, answers)))
    return worst


def _moved(job: dict[str, Any]) -> str:
    return f"job {job['id']} is in queue {job['queue']} from its next slice on"
