"""profile: where the time of jobs or of a session went, as a table, and as a trace that ui.perfetto.dev opens.

The trace has the JSON object form of the Trace Event Format (docs.google.com/document/d/
1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU): one complete event ("ph": "X") for each phase with ts and dur in
microseconds, a process for each resource, a thread for each job, and metadata events ("M") that name them.
"""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qpud.cli.client import Client
from qpud.cli.connect import with_client
from qpud.cli.exits import Exit, Stop
from qpud.cli.output import emit, note
from qpud.cli.serve import Verbs
from qpud.cli.tables import table, terminal_columns

PHASES = ("validation", "queue", "transfer", "set-up", "shots", "classical")
HEADER = (">JOBID", "NAME", "RESOURCE", "STATE", *(f">{phase.upper()}(s)" for phase in PHASES))
_CLASSICAL = 1  # process and thread of what happened outside of qpud
_MOST_ROWS = 50


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of profile."""
    parser = verbs.add_parser("profile", parents=[reach], help="where the time of jobs, or of a session, went")
    parser.add_argument("which", nargs="+", metavar="JOB|SESSION", help="job ids, or one session")
    parser.add_argument("-o", "--output", metavar="FILE", help="write a trace for ui.perfetto.dev too")
    parser.set_defaults(verb=with_client(print_profile))


def print_profile(client: Client, args: argparse.Namespace) -> int:
    """Print where the time went; exit 0."""
    found = client.get("/v1/profile", _query(args.which))
    emit(args, found, lambda: profile_text(found))
    if args.output:
        write_trace(args.output, found)
    return Exit.OK


def _query(which: list[str]) -> dict[str, str]:
    if len(which) == 1 and _is_session(which[0]):
        return {"session": which[0]}
    if wrong := [one for one in which if _is_session(one)]:
        raise Stop(f"session {wrong[0]} stands beside jobs: a profile is of jobs, or of one session", Exit.USAGE)
    return {"job": ",".join(which)}


def _is_session(ref: str) -> bool:
    """Uuids of jobs have version 8, those of sessions version 4."""
    try:
        return uuid.UUID(ref).version == 4
    except ValueError:
        return False


def profile_text(found: dict[str, Any]) -> str:
    """A row for each job, and the sums: what a run waited for."""
    sums = _by_job(found)
    rows: list[list[object]] = [_row(job, sums.get(job["id"], {})) for job in found["jobs"][-_MOST_ROWS:]]
    total = ["", "", "", "sum", *(_seconds(found["totals"].get(phase, 0.0)) for phase in PHASES)]
    more = len(found["jobs"]) - _MOST_ROWS
    lines = [table(HEADER, [*rows, total], terminal_columns())]
    if more > 0:
        lines.append(f"… and {more} jobs before them, which the sum counts")
    lines.append(f"{found['seconds']:.3f} s in all, of which {_busy(found):.0%} with shots or set-up on a resource")
    return "\n".join(lines)


def _busy(found: dict[str, Any]) -> float:
    """The part of the time in which at least one job had the resource: phases side by side count once."""
    spans = sorted(
        (span["start"], span["start"] + span["seconds"]) for span in found["spans"] if span["phase"] in PHASES[3:5]
    )
    busy, at = 0.0, 0.0
    for start, end in spans:
        busy += max(0.0, end - max(at, start))
        at = max(at, end)
    return busy / found["seconds"] if found["seconds"] else 0.0


def _by_job(found: dict[str, Any]) -> dict[int, dict[str, float]]:
    sums: dict[int, dict[str, float]] = {}
    for span in found["spans"]:
        of_job = sums.setdefault(span["job"], {})
        of_job[span["phase"]] = of_job.get(span["phase"], 0.0) + span["seconds"]
    return sums


def _row(job: dict[str, Any], sums: dict[str, float]) -> list[object]:
    facts = [job["id"], job["name"], job["resource"], job["state"]]
    return [*facts, *(_seconds(sums.get(phase, 0.0)) for phase in PHASES)]


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds else "-"


def trace(found: dict[str, Any]) -> dict[str, Any]:
    """A profile as a Chrome trace."""
    resources = {name: number for number, name in enumerate(sorted({job["resource"] for job in found["jobs"]}), 2)}
    events = [_named("process", _CLASSICAL, 0, "outside of qpud"), _named("thread", _CLASSICAL, 1, "classical")]
    events += [_named("process", pid, 0, name) for name, pid in resources.items()]
    place = {job["id"]: resources[job["resource"]] for job in found["jobs"]}
    events += [_named("thread", place[job["id"]], job["id"], _title(job)) for job in found["jobs"]]
    events += _events(found["spans"], place)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"began": found["began"], "from": "qpud profile"},
    }


def write_trace(path: str, found: dict[str, Any]) -> None:
    """Write the trace of a profile. Raises: Stop."""
    try:
        Path(path).write_text(json.dumps(trace(found), ensure_ascii=False), encoding="utf-8")
    except OSError as why:
        raise Stop(f"the trace cannot be written to {path}: {why.strerror}") from None
    note(f"wrote {path}: open it in https://ui.perfetto.dev")


def _title(job: dict[str, Any]) -> str:
    return f"job {job['id']} {job['name']}" if job["name"] else f"job {job['id']}"


def _named(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": f"{what}_name", "pid": pid, "tid": tid, "args": {"name": name}}


def _events(spans: list[dict[str, Any]], place: dict[int, int]) -> Iterator[dict[str, Any]]:
    """Complete events. Perfetto drops one that begins before its predecessor ends, if by a rounded microsecond."""
    free: dict[tuple[int, int], int] = {}  # process and thread → when its last event ended
    for span in sorted(spans, key=lambda one: float(one["start"])):
        job = span["job"]
        where = (_CLASSICAL, 1) if job is None else (place[job], job)
        began = max(round(span["start"] * 1e6), free.get(where, 0))
        free[where] = max(began, round((span["start"] + span["seconds"]) * 1e6))
        args = {"detail": span["detail"]} if span["detail"] else {}
        what = {"ph": "X", "name": span["phase"], "cat": span["phase"], "pid": where[0], "tid": where[1]}
        yield {**what, "ts": began, "dur": free[where] - began, "args": args}
