"""What no single key can tell: names that must exist, values that must fit together, and advice."""

from __future__ import annotations

import re
from typing import NamedTuple

from qpud.config.ini import Section
from qpud.config.mistakes import Findings, nearest, without_password
from qpud.config.rule import load_rule
from qpud.config.values import is_loopback, write_duration, write_listen
from qpud.core.errors import Invalid
from qpud.core.policy import AuthType, DriverKind, OpenSessions, Policy, ResourcePolicy, TcpListen, UnixListen
from qpud.core.schedulers import BUILT_IN

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
    for resource in policy.resources.values():
        section = written.get(("resource", resource.name))
        if section and resource.driver is DriverKind.PASQAL_QPU:
            _check_qpu(resource, section, findings)


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


def _check_qpu(resource: ResourcePolicy, section: Section, findings: Findings) -> None:
    if not section.entries.get("url"):
        _Place(section, "Url", "").complain(findings, f"is missing, Driver = {resource.driver} needs it")
    elif resource.url is None and not section.entries["url"].value:
        _Place(section, "Url", "").complain(findings, f"is empty, Driver = {resource.driver} needs it")
    if resource.poll_min > resource.poll_max:
        place = _Place(section, "PollMin", write_duration(resource.poll_min))
        place.complain(findings, f"is above PollMax = {write_duration(resource.poll_max)}")


def warnings(policy: Policy) -> list[str]:
    """What is allowed but probably not meant, one sentence each."""
    return _listen_warnings(policy) + _resource_warnings(policy) + _cloud_name_warnings(policy)


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


def _resource_warnings(policy: Policy) -> list[str]:
    found = []
    for resource in policy.resources.values():
        if not _SHELL_NAME.match(resource.name):
            found.append(
                f"Resource {resource.name} cannot be set up from a shell: {resource.name}_QRMI_… is no variable."
            )
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
