"""queue, show, cancel, update, hold, release, logs, result: verbs on jobs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from qpud.cli import steer
from qpud.cli.client import Client, segment
from qpud.cli.connect import persistently, with_client
from qpud.cli.exits import Exit, Stop
from qpud.cli.output import emit, note
from qpud.cli.reasons import explain
from qpud.cli.results import result_text
from qpud.cli.serve import Verbs
from qpud.cli.submit import detach
from qpud.cli.tables import about, clock, duration, fields, printable, table, terminal_columns
from qpud.cli.wait import TERMINAL, wait_for

QUEUE_HEADER = (">JOBID", "NAME", "QUEUE", "USER", "STATE", ">SHOTS", ">WAITED", ">START", "RESOURCE", "REASON")
LONG_HEADER = (*QUEUE_HEADER[:-2], ">LATEST", ">END", *QUEUE_HEADER[-2:], "EXPLANATION")
FOLLOW_SECONDS = 2.0  # slices and preemptions are told at this pace, the end at once

Ask = Callable[[Client, str], dict[str, Any]]
Text = Callable[[dict[str, Any]], str]
Verdict = Callable[[dict[str, Any]], bool]


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of the verbs on jobs."""
    queue = verbs.add_parser("queue", parents=[reach], help="unfinished jobs in the order they will run")
    queue.add_argument("--qpu", metavar="NAME", help="of this resource only")
    queue.add_argument("--long", "-l", action="store_true", help="with latest starts, ends, and the reasons explained")
    queue.set_defaults(verb=with_client(print_queue))
    for name, verb, text in (
        ("show", show, "all about jobs, with the reason explained"),
        ("hold", hold, "keep jobs from starting further slices"),
        ("release", release, "undo hold"),
    ):
        parser = verbs.add_parser(name, parents=[reach], help=text)
        parser.add_argument("jobs", nargs="+", metavar="JOB", help="job id")
        parser.set_defaults(verb=with_client(verb))
    _add_cancel(verbs, reach)
    _add_update(verbs, reach)
    _add_logs(verbs, reach)
    _add_result(verbs, reach)


def _add_cancel(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    text = "stop jobs, named or selected; tells what had run already"
    parser = verbs.add_parser("cancel", parents=[reach], help=text)
    parser.add_argument("jobs", nargs="*", metavar="JOB", help="job id")
    steer.add_filters(parser)
    parser.set_defaults(verb=with_client(cancel))


def _add_update(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("update", parents=[reach], help="give jobs another queue (administrators)")
    parser.add_argument("jobs", nargs="+", metavar="JOB", help="job id")
    parser.add_argument("--queue", required=True, metavar="NAME", help="from the next slice on")
    parser.add_argument("--override", action="store_true", help="past the limits of that queue")
    parser.set_defaults(verb=with_client(steer.change_queue))


def _add_logs(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    logs = verbs.add_parser("logs", parents=[reach], help="a job's story in sentences")
    logs.add_argument("job", metavar="JOB", help="job id")
    logs.add_argument("--follow", "-f", action="store_true", help="go on until the job has ended")
    logs.set_defaults(verb=with_client(print_logs))


def _add_result(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    result = verbs.add_parser("result", parents=[reach], help="a job's counts and where they come from")
    result.add_argument("job", metavar="JOB", help="job id")
    result.add_argument("--wait", action="store_true", help="until the job has ended; Ctrl-C leaves it running")
    result.add_argument("--timeout", type=float, metavar="SECONDS", help="wait at most so long")
    result.add_argument("--all", action="store_true", help="all bitstrings, not only the most frequent")
    result.set_defaults(verb=with_client(print_result))


def print_queue(client: Client, args: argparse.Namespace) -> int:
    """Print unfinished jobs in the scheduler's order, like squeue."""
    answer = client.get("/v1/queue", {"resource": args.qpu})
    emit(args, answer, lambda: _queue_text(answer["queue"], args.long))
    return Exit.OK


def _queue_text(lines: list[dict[str, Any]], long: bool) -> str:
    if not long:
        return table(QUEUE_HEADER, [_queue_row(line) for line in lines], terminal_columns())
    return table(LONG_HEADER, [_long_row(line) for line in lines], terminal_columns())


def _long_row(entry: dict[str, Any]) -> list[object]:
    forecast, row = entry.get("forecast") or {}, _queue_row(entry)
    more = [about(forecast.get(name)) for name in ("start_latest", "end")]
    return [*row[:-2], *more, *row[-2:], entry["explanation"]]


def _queue_row(entry: dict[str, Any]) -> list[object]:
    return [
        entry["id"],
        entry.get("name"),
        entry["queue"],
        entry["user"],
        entry["state"],
        f"{entry['shots_done']}/{entry['shots']}",
        duration(entry["waited_seconds"]),
        about((entry.get("forecast") or {}).get("start")),
        entry["resource"],
        entry["reason"],
    ]


def show(client: Client, args: argparse.Namespace) -> int:
    """Print everything about each job."""
    return _each(client, args, _explained, _job_text)


def _explained(client: Client, ref: str) -> dict[str, Any]:
    """A job; an unfinished or failed one with the daemon's sentence about it."""
    job: dict[str, Any] = client.get(_path(ref))
    if job["state"] not in TERMINAL:
        lines = client.get("/v1/queue", {"resource": job["resource"]})["queue"]
        job["explanation"] = next((line["explanation"] for line in lines if line["id"] == job["id"]), None)
    elif job["state"] == "ERROR":
        job["explanation"] = client.get(_path(ref) + "/result")["message"]
    return job


def cancel(client: Client, args: argparse.Namespace) -> int:
    """Cancel jobs, named or selected, and say what that did; exit 1 if one had already ended otherwise."""
    if steer.has_filter(args):
        return steer.cancel_selected(client, args)
    return _each(client, args, lambda client, job: client.post(_path(job) + "/cancel"), _cancel_text, _was_canceled)


def hold(client: Client, args: argparse.Namespace) -> int:
    """Hold each job."""
    return _each(client, args, lambda client, job: client.post(_path(job) + "/hold"), _state_text)


def release(client: Client, args: argparse.Namespace) -> int:
    """Release each job."""
    return _each(client, args, lambda client, job: client.post(_path(job) + "/release"), _state_text)


def _path(job: str) -> str:
    return f"/v1/jobs/{segment(job)}"


def print_logs(client: Client, args: argparse.Namespace) -> int:
    """Print a job's story, with --follow until it has ended."""
    answer = client.get(_path(args.job) + "/logs")
    if args.json or not args.follow:
        emit(args, answer, lambda: _log_text(answer["lines"]))
        return Exit.OK
    return _follow(client, args.job, answer["lines"])


def _follow(client: Client, job: str, lines: list[dict[str, Any]]) -> int:
    """Print what is new. The last line of an unfinished job's story says how it is *now* and moves with the clock."""
    seen: list[tuple[str, str]] = []
    while True:
        for line in lines:
            if (line["at"], line["text"]) not in seen and not (seen and line["text"] == seen[-1][1]):
                print(_log_text([line]), flush=True)
                seen.append((line["at"], line["text"]))
        if persistently(lambda: client.get(_path(job), wait=FOLLOW_SECONDS), "following")["state"] in TERMINAL:
            break
        lines = persistently(lambda: client.get(_path(job) + "/logs"), "following")["lines"]
    rest = client.get(_path(job) + "/logs")["lines"]
    fresh = [line for line in rest if (line["at"], line["text"]) not in seen]
    if fresh:
        print(_log_text(fresh))
    return Exit.OK


def _log_text(lines: list[dict[str, Any]]) -> str:
    return "\n".join(f"{clock(line['at'])}  {printable(line['text'])}" for line in lines)


def print_result(client: Client, args: argparse.Namespace) -> int:
    """Print the counts; exit 1 if the job ended otherwise than DONE, 6 if it has not ended."""
    job = client.get(_path(args.job))
    if args.wait or args.timeout is not None:
        try:
            job = wait_for(client, job["id"], args.timeout)
        except KeyboardInterrupt:
            return detach([job["id"]])
    answer = client.get(_path(args.job) + "/result")
    emit(args, answer, lambda: result_text(answer, args.all))
    return _verdict(job)


def _verdict(job: dict[str, Any]) -> int:
    if job["state"] in TERMINAL:
        return Exit.OK if job["state"] == "DONE" else Exit.FAILED
    note(f"job {job['id']} has not ended: it is {job['state']}; wait for it with --wait")
    return Exit.UNFINISHED


def _each(client: Client, args: argparse.Namespace, ask: Ask, text: Text, good: Verdict = bool) -> int:
    """Do one thing to each job; one that fails stops no other. The exit code is the worst one."""
    worst: int = Exit.OK
    answers = []
    for job in args.jobs:
        try:
            answers.append(ask(client, job))
        except Stop as stop:
            if stop.code is Exit.NO_DAEMON:
                raise
            note(stop.message)
            worst = max(worst, stop.code)
    if answers:
        emit(args, answers[0] if len(args.jobs) == 1 else answers, lambda: "\n\n".join(map(text, answers)))
    return worst if all(map(good, answers)) else max(worst, Exit.FAILED)


def _job_text(job: dict[str, Any]) -> str:
    reason = job.get("reason")
    return fields(
        [
            ("job", f"{job['id']} ({job['uid']})"),
            ("name", job.get("name")),
            ("state", job["state"]),
            ("reason", reason),
            ("why", job.get("explanation") or explain(reason)),
            ("shots", f"{job['shots_done']} of {job['shots']}"),
            ("resource", job["resource"]),
            ("queue", job["queue"]),
            ("user", job.get("user")),
            ("session", job["session_id"]),
            ("batch", job.get("batch_id")),
            ("submitted", clock(job["submitted_at"])),
            ("started", job["started_at"] and clock(job["started_at"])),
            ("ended", job["ended_at"] and clock(job["ended_at"])),
            *_foreseen(job.get("forecast") or {}),
            ("sequence", job.get("sequence_hash")),
        ]
    )


def _foreseen(forecast: dict[str, Any]) -> list[tuple[str, object]]:
    return [
        ("starts", _when(forecast.get("start"), forecast.get("start_latest"))),
        ("ends", _when(forecast.get("end"), forecast.get("end_latest"))),
        ("forecast", forecast.get("reason")),
    ]


def _when(typical: str | None, latest: str | None) -> str | None:
    if typical is None:
        return None
    bound = f", by {clock(latest)} in nine of ten cases" if latest else ""
    return f"about {clock(typical)}{bound}"


def _cancel_text(answer: dict[str, Any]) -> str:
    return str(answer["message"])


def _was_canceled(answer: dict[str, Any]) -> bool:
    return answer["before"] not in ("DONE", "ERROR")


def _state_text(job: dict[str, Any]) -> str:
    reason = job.get("reason")
    return f"job {job['id']} is {job['state']}" + (f": {explain(reason)}" if reason else "")
