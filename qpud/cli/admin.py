"""info, sessions, drain, down, resume, reconfigure: resources, sessions and the daemon itself."""

from __future__ import annotations

import argparse
from typing import Any

from qpud.cli.client import Client, Refusal, segment
from qpud.cli.connect import with_client
from qpud.cli.exits import Exit, Stop
from qpud.cli.output import emit, note
from qpud.cli.serve import Verbs
from qpud.cli.tables import clock, duration, table, terminal_columns

RESOURCE_HEADER = ("RESOURCE", "STATE", "DRIVER", "DEVICE", ">PENDING", ">RUNNING", "REASON")
WORKER_HEADER = ("WORKERS OF", "SLURMJOB", "NODE", "STATE", ">JOB", "REASON")
QUEUE_HEADER = ("QUEUE", ">TIER", "PREEMPT", ">SLICE", "LIMITS")
SESSION_HEADER = ("SESSION", "USER", "QUEUE", ">SHARE", "HINT", "SLURMJOB", "QOS", "OPENED", "STATE")


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of the verbs on resources, sessions and the daemon."""
    info = verbs.add_parser("info", parents=[reach], help="resources and queues, and how they are")
    info.set_defaults(verb=with_client(print_info))
    sessions = verbs.add_parser("sessions", parents=[reach], help="list or close sessions")
    sessions.add_argument("--all", action="store_true", help="closed ones too")
    sessions.add_argument("--close", metavar="ID", help="close this one; its unfinished jobs are canceled")
    sessions.set_defaults(verb=with_client(manage_sessions))
    for name, verb, text in (
        ("drain", drain_resource, "start nothing more on a resource; the slice in flight ends (administrators)"),
        ("down", take_down, "start nothing more on a resource; the slice in flight is cut (administrators)"),
    ):
        stop = verbs.add_parser(name, parents=[reach], help=text)
        stop.add_argument("resource", metavar="RESOURCE")
        stop.add_argument("--reason", required=True, help="for those who wait")
        stop.set_defaults(verb=with_client(verb))
    degrade = verbs.add_parser(
        "degrade", parents=[reach], help="let Slurm give out some of a resource's units no more (administrators)"
    )
    degrade.add_argument("resource", metavar="RESOURCE")
    degrade.add_argument("--units", type=int, required=True, metavar="N", help="how many of its ten units: 1 to 9")
    degrade.add_argument("--reason", required=True, help="for those who wait")
    degrade.set_defaults(verb=with_client(degrade_resource))
    resume = verbs.add_parser("resume", parents=[reach], help="undo drain, down and degrade (administrators)")
    resume.add_argument("resource", metavar="RESOURCE")
    resume.set_defaults(verb=with_client(resume_resource))
    reconfigure = verbs.add_parser("reconfigure", parents=[reach], help="reload the policy file (administrators)")
    reconfigure.set_defaults(verb=with_client(reload_policy))


LIMITS = (
    ("MaxShots", "max_shots"),
    ("MaxSubmitJobs", "max_submit_jobs"),
    ("MaxJobsPerUser", "max_jobs_per_user"),
    ("MaxQPUSecondsPerDay", "max_qpu_seconds_per_day"),
    ("TimeLimit", "time_limit"),
    ("AllowAccounts", "allow_accounts"),
    ("DenyAccounts", "deny_accounts"),
    ("AllowGroups", "allow_groups"),
    ("DenyGroups", "deny_groups"),
)


def print_info(client: Client, args: argparse.Namespace) -> int:
    """Print resources and queues, like sinfo."""
    answer = client.get("/v1/info")
    emit(args, answer, lambda: _info_text(answer))
    return Exit.OK


def _info_text(info: dict[str, Any]) -> str:
    width = terminal_columns()
    resources = table(RESOURCE_HEADER, [_resource_row(one) for one in info["resources"]], width)
    workers = [_worker_row(one["name"], worker) for one in info["resources"] for worker in one.get("workers", ())]
    queues = table(QUEUE_HEADER, [_queue_row(one) for one in info["queues"]], width)
    trouble = [f"Slurm: {info['slurm']}"] if info.get("slurm") else []
    return "\n\n".join([resources, *([table(WORKER_HEADER, workers, width)] if workers else []), queues, *trouble])


def _worker_row(resource: str, one: dict[str, Any]) -> list[object]:
    return [resource, one["slurm_job_id"], one["node"], one["state"], one["job_id"], one["reason"]]


def _resource_row(one: dict[str, Any]) -> list[object]:
    why = one.get("drained_reason") or one.get("message") or _degradation(one)
    return [one["name"], one["state"], one["driver"], one["device"], one["pending"], one["running_job"], why]


def _degradation(one: dict[str, Any]) -> str:
    units = one.get("degraded_units")
    return f"degraded by {units} units: {one['degraded_reason']}" if units else ""


def _queue_row(one: dict[str, Any]) -> list[object]:
    limits = [f"{name}={_limit(key, one[key])}" for name, key in LIMITS if one.get(key) not in (None, [])]
    return [one["name"], one["priority_tier"], one["preempt_mode"], duration(one["slice_seconds"]), " ".join(limits)]


def _limit(key: str, value: Any) -> str:
    if key == "time_limit":
        return duration(value)
    if isinstance(value, list):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) and value < 1e6 else f"{value:.0f}"


def manage_sessions(client: Client, args: argparse.Namespace) -> int:
    """List sessions, or close one."""
    if args.close:
        answer = client.delete(f"/v1/sessions/{segment(args.close)}")
        emit(args, answer, lambda: f"session {answer['id']} is closed")
        return Exit.OK
    answer = client.get("/v1/sessions", {} if args.all else {"active": "true"})
    emit(args, answer, lambda: table(SESSION_HEADER, [_session_row(one) for one in answer], terminal_columns()))
    return Exit.OK


def _session_row(one: dict[str, Any]) -> list[object]:
    state = "open" if one["active"] else one["close_reason"]
    opened = clock(one["opened_at"])
    slurm = (one["slurm_job_id"], one.get("qos"))
    return [one["id"], one["user"], one["queue"], one["share"], one["hint"], *slurm, opened, state]


def drain_resource(client: Client, args: argparse.Namespace) -> int:
    """Drain a resource."""
    answer = administer(client, "POST", f"/v1/resources/{segment(args.resource)}/drain", {"reason": args.reason})
    emit(args, answer, lambda: f"{answer['name']} is drained: {args.reason}")
    return Exit.OK


def take_down(client: Client, args: argparse.Namespace) -> int:
    """Take a resource down."""
    answer = administer(client, "POST", f"/v1/resources/{segment(args.resource)}/down", {"reason": args.reason})
    emit(args, answer, lambda: f"{answer['name']} is down: {args.reason}")
    return Exit.OK


def degrade_resource(client: Client, args: argparse.Namespace) -> int:
    """Let Slurm give out some units no more."""
    ask = {"units": args.units, "reason": args.reason}
    answer = administer(client, "POST", f"/v1/resources/{segment(args.resource)}/degrade", ask)
    emit(args, answer, lambda: f"{answer['name']} is degraded by {args.units} units: {args.reason}")
    return Exit.OK


def resume_resource(client: Client, args: argparse.Namespace) -> int:
    """Resume a resource."""
    answer = administer(client, "POST", f"/v1/resources/{segment(args.resource)}/resume")
    emit(args, answer, lambda: f"{answer['name']} is {answer['state']}")
    return Exit.OK


def reload_policy(client: Client, args: argparse.Namespace) -> int:
    """Reload the policy file whole, or learn why it was refused whole."""
    answer = administer(client, "POST", "/v1/reconfigure")
    for warning in answer["warnings"]:
        note(warning)
    emit(args, answer, lambda: "the policy file is in force")
    return Exit.OK


def administer(client: Client, method: str, path: str, body: Any = None) -> Any:
    """Send what only an administrator may ask, and name the Unix socket if it is not used."""
    try:
        return client.call(method, path, body=body)
    except Refusal as refusal:
        if refusal.code is Exit.NOT_ALLOWED and client.place.socket is None:
            raise Stop(f"{refusal.message}; {client.place} is not a Unix socket: use --socket", refusal.code) from None
        raise
