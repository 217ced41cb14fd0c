"""What no single key can tell: names that must exist, values that must fit together, and advice."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from qpud.config.ini import Section
from qpud.config.mistakes import Findings, nearest, without_password
from qpud.config.rule import load_rule
from qpud.config.values import is_loopback, write_duration, write_listen
from qpud.core.errors import Invalid
from qpud.core.policy import Policy
from qpud.core.resource import ResourcePolicy
from qpud.core.schedulers import BUILT_IN
from qpud.core.terms import AuthType, DriverKind, Launcher, OpenSessions, TcpListen, UnixListen

_OF_SLURM = {
    "LauncherOptions": "launcher_options",
    "Workers": "workers",
    "WorkerIdleTime": "worker_idle_time",
    "WorkerPython": "worker_python",
}
"""Keys that mean something with Launcher = slurm only, and their fields."""
_OURS = {
    **dict.fromkeys(("-J", "--job-name"), "qpud finds its Slurm jobs by the name that it gives them"),
    **dict.fromkeys(("-n", "--ntasks", "-N", "--nodes", "--ntasks-per-node"), "a worker is one task on one node"),
    **dict.fromkeys(
        ("-i", "--input", "-o", "--output", "-e", "--error", "-l", "--label", "-u", "--unbuffered", "--pty"),
        "the worker speaks to qpud through srun's standard input and output",
    ),
    **dict.fromkeys(("--jobid", "--multi-prog", "-D", "--chdir", "--no-allocate", "-Z"), "qpud starts the worker"),
}
"""Options of srun that would break the worker, and why."""
_LICENCE = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.@/-]*:[1-9][0-9]{0,8}\Z")
_PARTITION = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
NEEDED = {
    DriverKind.PASQAL_QPU: ("Url",),
    DriverKind.PASQAL_CLOUD: ("Url", "ProjectId", "DeviceType"),
    DriverKind.QRMI: ("QrmiType",),
}
"""The keys without which a driver cannot work."""
LOGIN = ("AuthUrl", "CredentialsFile")
"""What a resource of the cloud needs besides, if it has no TokenFile."""
_SHELL_NAME = re.compile(r"^[A-Za-z_]\w*$", re.ASCII)


class _Place(NamedTuple):
    """Where a setting is written, for a finding about it."""

    section: Section
    key: str
    value: str

    def complain(self, findings: Findings, problem: str, allowed: str = "", near: str = "") -> None:
        findings.add(
            self.section.line_of(self.key),
            problem,
            section=self.section.title,
            key=self.key,
            value=self.value,
            allowed=allowed,
            nearest=near,
        )


def check_policy(policy: Policy, sections: list[Section], findings: Findings) -> None:
    """Add the mistakes that concern several keys or sections."""
    written = {(section.kind, section.name): section for section in sections}
    daemon = written.get(("qpud", ""), Section("qpud", "", 0))
    _check_defaults(policy, daemon, findings)
    _check_daemon(policy, daemon, findings)
    _check_partitions(policy, written, findings)
    _check_qos(policy, written, findings)
    for resource in policy.resources.values():
        section = written.get(("resource", resource.name))
        if section:
            _check_shown(resource, section, findings)
        if section and resource.driver in NEEDED:
            _check_qpu(resource, section, findings)
        elif section and resource.driver is DriverKind.EMULATOR:
            _check_launcher(resource, section, findings)


def _check_defaults(policy: Policy, section: Section, findings: Findings) -> None:
    for key, name, known in (
        ("DefaultResource", policy.daemon.default_resource, policy.resources),
        ("DefaultQueue", policy.daemon.default_queue, policy.queues),
    ):
        if name is not None and name not in known:
            problem = f"no such {key.removeprefix('Default').lower()}"
            _Place(section, key, name).complain(findings, problem, ", ".join(known), nearest(name, known))


def _check_daemon(policy: Policy, section: Section, findings: Findings) -> None:
    daemon = policy.daemon
    try:
        load_rule(daemon.scheduler_type)
    except Invalid as error:
        close = nearest(daemon.scheduler_type, BUILT_IN)
        _Place(section, "SchedulerType", daemon.scheduler_type).complain(findings, error.message, near=close)
    if not daemon.listen and "listen" in section.entries:
        _Place(section, "Listen", "").complain(findings, "names no address")
    if daemon.slurm_control and not daemon.slurm_lookup:
        _Place(section, "SlurmControl", "yes").complain(findings, "needs SlurmLookup = yes")
    if daemon.validation_wait > daemon.validation_timeout:
        limit = write_duration(daemon.validation_timeout)
        place = _Place(section, "ValidationWait", write_duration(daemon.validation_wait))
        place.complain(findings, f"is above ValidationTimeout = {limit}")


def _check_partitions(policy: Policy, written: dict[tuple[str, str], Section], findings: Findings) -> None:
    owner: dict[str, str] = {}
    for queue in policy.queues.values():
        for partition in queue.fed_by:
            first = owner.setdefault(partition, queue.name)
            if first != queue.name:
                section = written[("queue", queue.name)]
                place = _Place(section, "Partitions", ", ".join(queue.fed_by))
                place.complain(findings, f"partition {partition} already feeds queue {first}")


def _check_qos(policy: Policy, written: dict[tuple[str, str], Section], findings: Findings) -> None:
    owner: dict[str, str] = {}
    for queue in policy.queues.values():
        for qos in queue.qos:
            if (first := owner.setdefault(qos, queue.name)) != queue.name:
                place = _Place(written[("queue", queue.name)], "Qos", ", ".join(queue.qos))
                place.complain(findings, f"QOS {qos} already feeds queue {first}")


def _check_shown(resource: ResourcePolicy, section: Section, findings: Findings) -> None:
    """Names that go to Slurm. What they name is Slurm's to know, and it may be away now."""
    for licence in resource.slurm_licenses:
        if not _LICENCE.match(licence):
            place = _Place(section, "SlurmLicenses", ", ".join(resource.slurm_licenses))
            place.complain(findings, f"{licence!r} is no licence with its number", "NAME:NUMBER, as in qpu:10")
    for partition in resource.slurm_partitions:
        if not _PARTITION.match(partition):
            place = _Place(section, "SlurmPartitions", ", ".join(resource.slurm_partitions))
            place.complain(findings, f"{partition!r} is no partition's name")


def _check_qpu(resource: ResourcePolicy, section: Section, findings: Findings) -> None:
    for key in NEEDED[resource.driver]:
        _check_needed(resource, section, key, findings)
    if resource.driver is DriverKind.PASQAL_CLOUD and resource.token_file is None:
        for key in LOGIN:
            _check_needed(resource, section, key, findings)
    if resource.poll_min > resource.poll_max:
        place = _Place(section, "PollMin", write_duration(resource.poll_min))
        place.complain(findings, f"is above PollMax = {write_duration(resource.poll_max)}")


def _check_launcher(resource: ResourcePolicy, section: Section, findings: Findings) -> None:
    words = shlex.split(resource.launcher_options or "")
    if words and not words[0].startswith("-"):
        place = _Place(section, "LauncherOptions", resource.launcher_options or "")
        place.complain(findings, f"begins with {words[0]!r}, which is no option of srun")
    for word in words:
        name = word.partition("=")[0] if word.startswith("--") else word[:2]
        if name in _OURS:
            place = _Place(section, "LauncherOptions", resource.launcher_options or "")
            place.complain(findings, f"holds {name}, and {_OURS[name]}")


def _check_needed(resource: ResourcePolicy, section: Section, key: str, findings: Findings) -> None:
    entry = section.entries.get(key.lower())
    if entry is None or not entry.value:
        problem = "is missing" if entry is None else "is empty"
        _Place(section, key, "").complain(findings, f"{problem}, Driver = {resource.driver} needs it")


def warnings(policy: Policy) -> list[str]:
    """What is allowed but probably not meant, one sentence each."""
    return (
        _listen_warnings(policy) + _slurm_warnings(policy) + _resource_warnings(policy) + _cloud_name_warnings(policy)
    )


def _listen_warnings(policy: Policy) -> list[str]:
    found = [
        f"Listen = {write_listen(listen)} can be reached from other machines while AuthType is none: "
        "only session tokens protect it."
        for listen in policy.daemon.listen
        if isinstance(listen, TcpListen) and not is_loopback(listen) and policy.daemon.auth_type is AuthType.NONE
    ]
    if not any(isinstance(listen, UnixListen) for listen in policy.daemon.listen):
        found.append("Listen names no Unix socket: nobody can administer the daemon.")
    if policy.daemon.slurm_lookup and policy.daemon.open_sessions is OpenSessions.ANY:
        found.append(
            "SlurmLookup = yes while OpenSessions is any: who names no Slurm job chooses queue and share himself."
        )
    if policy.daemon.socket_mode & 0o007:
        found.append(f"SocketMode = {policy.daemon.socket_mode:04o} lets every user of this machine in.")
    return found


def _slurm_warnings(policy: Policy) -> list[str]:
    daemon, found = policy.daemon, []
    if not daemon.slurm_control:
        found += [
            f"SlurmLicenses and SlurmPartitions of resource {one.name} do nothing without SlurmControl = yes."
            for one in policy.resources.values()
            if one.slurm_licenses or one.slurm_partitions
        ]
    if not daemon.slurm_lookup:
        idle = {"SlurmPriority": daemon.slurm_priority, "SlurmRestSocket": daemon.slurm_rest_socket is not None}
        idle |= {f"Qos of queue {queue.name}": bool(queue.qos) for queue in policy.queues.values()}
        found += [f"{key} does nothing without SlurmLookup = yes." for key, value in idle.items() if value]
    return found


def _idle_keys(resource: ResourcePolicy) -> list[str]:
    if resource.launcher is Launcher.SLURM:
        return []
    plain = ResourcePolicy(name=resource.name, driver=resource.driver)
    return [
        f"{key} of resource {resource.name} has no effect: its Launcher is {resource.launcher}."
        for key, field in _OF_SLURM.items()
        if getattr(resource, field) != getattr(plain, field)
    ]


def _resource_warnings(policy: Policy) -> list[str]:
    found = []
    for resource in policy.resources.values():
        if not _SHELL_NAME.match(resource.name):
            found.append(
                f"Resource {resource.name} cannot be set up from a shell: {resource.name}_QRMI_… is no variable."
            )
        found += _idle_keys(resource)
        if resource.url and without_password(resource.url) != resource.url:
            found.append(f"Url of resource {resource.name} holds a password: let only the daemon read the file.")
    return found


def _cloud_name_warnings(policy: Policy) -> list[str]:
    first: dict[str, str] = {}
    found = []
    for resource in policy.resources.values():
        if (name := resource.cloud_name) is None:
            continue
        if (taken := first.setdefault(name.upper(), resource.name)) != resource.name:
            found.append(
                f"CloudName {name} is that of {taken} and of {resource.name}: cloud clients reach {taken} only."
            )
    return found
