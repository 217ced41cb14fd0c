"""submit: hand in sequences, and if asked wait for their results."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import uuid
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from qpud.cli.choice import QPU_DEFAULTS, chosen
from qpud.cli.client import Client, segment
from qpud.cli.connect import persistently, with_client
from qpud.cli.exits import Exit, Stop
from qpud.cli.numbers import seconds, whole
from qpud.cli.output import emit, note
from qpud.cli.rehearsal import add_rehearsal_options, add_seed_option, rehearsal_of
from qpud.cli.results import result_text
from qpud.cli.serve import Verbs
from qpud.cli.tables import about
from qpud.cli.wait import wait_for

HINTS = ("qc-heavy", "cc-heavy", "qc-balanced")
MOST_SHOTS = 2**31 - 1
SHARE_UNITS = 10
MOST_NODES = 1_000_000
MOST_CHARACTERS = 256 << 20  # of a file: more than any daemon takes
EPILOG = """\
With QPUD_TOKEN (inside `qpud run`) or QPUD_TOKEN_FILE (in a Slurm job) the jobs belong to that session. Without them,
or where something is asked of the session, one of its own is opened: --wait closes it at the end, otherwise it closes
by itself after its jobs have ended and SessionIdleTimeout has passed. In a Slurm job it is of that job, and ends with
it. Ctrl-C during --wait leaves the jobs running and says how to come back.

--then-release names a Slurm job that was submitted with `sbatch --hold`: it starts once all QPU jobs that name it have
ended, however they ended. Jobs of a Slurm job's session that name one go on after that Slurm job.
"""


class Own(NamedTuple):
    """The session to submit to: its token, and the ids of those this command opened (one or none)."""

    token: str
    opened: tuple[str, ...]


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of submit."""
    parser = verbs.add_parser("submit", parents=[reach], help="submit sequences", epilog=EPILOG)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help='Pulser abstract representations; "-" is standard input'
    )
    parser.add_argument(
        "--shots", type=whole(1, MOST_SHOTS), required=True, metavar="N", help="repetitions of each sequence"
    )
    parser.add_argument("--qpu", metavar="NAME", help=f"the resource ({QPU_DEFAULTS})")
    add_session_options(parser)
    add_rehearsal_options(parser)
    add_seed_option(parser)
    parser.add_argument(
        "--variables",
        action="append",
        default=[],
        metavar="JSON|NAME=VALUE",
        help="values of the sequence's variables",
    )
    parser.add_argument("--name", help="a name to find the job by")
    parser.add_argument("--tag", action="append", default=[], dest="tags", metavar="TAG", help="may be repeated")
    parser.add_argument("--wait", action="store_true", help="wait for the end and print the results")
    parser.add_argument(
        "--then-release", metavar="SLURM_JOB_ID", help="a held Slurm job that starts once the jobs have ended"
    )
    parser.set_defaults(verb=with_client(submit))


def add_session_options(parser: argparse.ArgumentParser) -> None:
    """Add what only a session of one's own can have."""
    group = parser.add_argument_group("its session")
    group.add_argument("--queue", metavar="NAME", help="class of service (default: the daemon's)")
    group.add_argument("--account", metavar="NAME", help="who is charged")
    group.add_argument(
        "--share", type=whole(1, SHARE_UNITS), metavar="UNITS", help="units of the resource, 10 are all of it"
    )
    group.add_argument("--hint", choices=HINTS, help="what the workload is mostly made of; it never entitles")
    group.add_argument(
        "--nodes",
        type=whole(1, MOST_NODES),
        metavar="N",
        help="nodes that are held while it waits, for --hint=cc-heavy",
    )
    group.add_argument(
        "--classical-seconds", type=seconds(), metavar="S", help="expected between two jobs, for --hint=qc-balanced"
    )
    group.add_argument("--qpu-seconds", type=seconds(), metavar="S", help="expected in all")


def session_terms(args: argparse.Namespace, resource: str | None = None) -> dict[str, Any]:
    """What was asked of a session of one's own, by the API's names; empty if nothing was."""
    terms = {
        "queue": args.queue,
        "account": args.account,
        "share": args.share,
        "hint": args.hint,
        "nodes": args.nodes,
        "expected_classical_seconds": args.classical_seconds,
        "expected_qpu_seconds": args.qpu_seconds,
        "rehearsal": rehearsal_of(args, resource),
    }
    return {name: value for name, value in terms.items() if value is not None}


def submit(client: Client, args: argparse.Namespace) -> int:
    """Submit one job per file; with --wait print each result, exit 1 unless all are DONE."""
    bodies = [_body(args, _read(name)) for name in args.files]
    own = _session(client, args)
    jobs = _post(client, own, bodies, args.files)
    if not args.wait:
        answer = jobs[0] if len(bodies) == 1 else jobs
        emit(args, answer, lambda: "\n".join(_accepted(job) for job in jobs) + _released(args))
        return Exit.OK
    return _wait(args, client, own, [job["id"] for job in jobs])


def open_session(client: Client, **ask: Any) -> dict[str, Any]:
    """Open a session; fields that are None are left to the daemon."""
    answer: dict[str, Any] = client.post(
        "/v1/sessions", {name: value for name, value in ask.items() if value is not None}
    )
    return answer


def own_batch_job(verb: str) -> str:
    """A name no other run has: two runs in one Slurm job must not share, and so close, one session."""
    mark = f"{verb}-{uuid.uuid4().hex[:8]}"
    slurm_job = os.environ.get("SLURM_JOB_ID")
    return f"{slurm_job}.{mark}" if slurm_job else mark


def _session(client: Client, args: argparse.Namespace) -> Own:
    terms = session_terms(args, args.qpu or os.environ.get("QPUD_QPU"))
    if client.token and not terms:
        return Own(client.token, ())
    named = own_batch_job("submit") if "SLURM_JOB_ID" in os.environ else None  # so that Slurm vouches for it
    grant = open_session(client, **terms, slurm_job_id=named)
    return Own(grant["token"], (grant["id"],))


def _post(client: Client, own: Own, bodies: list[dict[str, Any]], files: list[str]) -> list[dict[str, Any]]:
    body = bodies[0] if len(bodies) == 1 else bodies
    headers = {"X-Warden-Session": own.token, "Idempotency-Key": str(uuid.uuid4())}
    try:
        answer = persistently(lambda: client.post("/v1/jobs", body, headers), "submission")
    except Stop as stop:
        close_session(client, *own.opened)
        raise Stop(_of_file(stop.message, files), stop.code) from None
    return answer if isinstance(answer, list) else [answer]


def _of_file(sentence: str, files: list[str]) -> str:
    """The daemon's sentence on one job of several, with the file instead of the job's number."""
    found = re.match(r"job (\d{1,4}) of \d+: ", sentence)
    number = int(found[1]) if found else 0
    return f"{_what(files[number - 1])}: {sentence[found.end() :]}" if found and number <= len(files) else sentence


def close_session(client: Client, *sessions: str) -> None:
    """Close what sessions this command opened; a failure is only noted, expiry will do it."""
    for session in sessions:
        try:
            client.delete(f"/v1/sessions/{segment(session)}")
        except Stop as stop:
            note(f"session {session} could not be closed and will expire by itself: {stop.message}")


def _wait(args: argparse.Namespace, client: Client, own: Own, ids: list[int]) -> int:
    try:
        ended = [wait_for(client, job) for job in ids]
        results = [client.get(f"/v1/jobs/{job}/result") for job in ids]
    except KeyboardInterrupt:
        return detach(ids)
    close_session(client, *own.opened)
    answer = results[0] if len(results) == 1 else results
    emit(args, answer, lambda: "\n\n".join(map(result_text, results)))
    return Exit.OK if all(job["state"] == "DONE" for job in ended) else Exit.FAILED


def detach(ids: list[int]) -> int:
    """Tell how to come back to jobs that go on without us; the exit code."""
    names = " ".join(map(str, ids))
    note(f"job {names} goes on; see it again with `qpud result --wait {ids[0]}`, stop it with `qpud cancel {names}`")
    return Exit.INTERRUPTED


def _accepted(job: dict[str, Any]) -> str:
    start = (job.get("forecast") or {}).get("start")
    foreseen = f", starts {about(start)}" if start else ""
    return f"job {job['id']}: {job['shots']} shots on {job['resource']}, queue {job['queue']}{foreseen}"


def _released(args: argparse.Namespace) -> str:
    return f"\nSlurm job {args.then_release} is released once they have ended" if args.then_release else ""


def _body(args: argparse.Namespace, sequence: str) -> dict[str, Any]:
    body = {
        "sequence": sequence,
        "shots": args.shots,
        "resource": chosen(args.qpu, os.environ).name,
        "name": args.name,
        "tags": args.tags,
        "variables": variables(args.variables),
        "then_release": args.then_release,
        "seed": args.seed,
    }
    return {name: value for name, value in body.items() if value not in (None, [], {})}


def _read(name: str) -> str:
    try:
        with nullcontext(sys.stdin) if name == "-" else Path(name).open(encoding="utf-8") as file:
            text = file.read(MOST_CHARACTERS + 1)
    except FileNotFoundError:
        raise Stop(f"there is no file {name}", Exit.NOT_FOUND) from None
    except OSError as why:
        raise Stop(f"file {name} cannot be read: {why.strerror}") from None
    except UnicodeDecodeError:
        raise Stop(f"{_what(name)} is not UTF-8 text, so no sequence") from None
    if len(text) > MOST_CHARACTERS:
        raise Stop(f"{_what(name)} has more than {MOST_CHARACTERS >> 20} Mi characters, so it is no sequence")
    _check_object(_what(name), text)
    return text


def _what(name: str) -> str:
    return "standard input" if name == "-" else f"file {name}"


def _check_object(what: str, text: str) -> None:
    """Every program is a JSON object; what else it must be, the daemon says. Raises: Stop."""
    try:
        found = json.loads(text)
    except ValueError as why:
        raise Stop(f"{what} is not JSON, so no sequence: {why}") from None
    except RecursionError:  # the daemon has a sentence for it
        return
    if not isinstance(found, dict):
        raise Stop(f"{what} is not a JSON object, so no sequence")


def variables(given: list[str]) -> dict[str, Any]:
    """Merge --variables options: JSON objects and NAME=VALUE with a JSON value.

    Raises:
        Stop: Neither form (USAGE).
    """
    merged: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        try:
            merged |= json.loads(text) if text.lstrip().startswith("{") else {_word(name): json.loads(value)}
        except ValueError:
            form = "a JSON object" if not equals else f"{name}=NUMBER or {name}=[NUMBER, …]"
            raise Stop(f"--variables {text!r} is not {form}", Exit.USAGE) from None
    return merged


def _word(name: str) -> str:
    if not name:
        raise ValueError
    return name
