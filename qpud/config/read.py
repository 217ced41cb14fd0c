"""A policy file → a Policy, or every mistake in it at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qpud.config.checks import check_policy
from qpud.config.ini import Entry, Section, read_sections
from qpud.config.keys import Setting, UnknownWord, settings
from qpud.config.mistakes import Findings, nearest
from qpud.core.policy import (
    DEFAULT_QUEUES,
    DEFAULT_RESOURCES,
    AccountPolicy,
    DaemonPolicy,
    Policy,
    QueuePolicy,
    UserPolicy,
)
from qpud.core.resource import ResourcePolicy
from qpud.core.terms import DriverKind

LARGEST_FILE = 1 << 20
"""Bytes of the largest policy file that is read."""
NAMED_HEADINGS = ("queue", "resource", "account", "user")
HEADINGS = ("qpud", *NAMED_HEADINGS)

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")

S = TypeVar("S", bound=msgspec.Struct)


def load(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        ConfigError: The file cannot be read, or has mistakes; all of them are in `mistakes`.
    """
    findings = Findings(str(path))
    text = _text_of(path, findings)
    findings.raise_any()
    return parse(text, str(path))


def parse(text: str, source: str = "qpud.conf") -> Policy:
    """Read the text of a policy file; an empty one gives the defaults.

    If the text has any [queue …] section, only those queues exist; one named like a default queue starts from
    that queue's values. The same holds for [resource …], as long as the driver is the default's.

    Args:
        text: The file's content.
        source: The file's name for messages.

    Raises:
        ConfigError: With every mistake.
    """
    findings = Findings(source)
    sections = _known(read_sections(text, findings), findings)
    policy = Policy(
        daemon=_daemon(sections, findings),
        queues=_queues(sections, findings) or dict(DEFAULT_QUEUES),
        resources=_resources(sections, findings) or dict(DEFAULT_RESOURCES),
        accounts=_named(sections, "account", AccountPolicy, findings),
        users=_named(sections, "user", UserPolicy, findings),
    )
    check_policy(policy, sections, findings)
    findings.raise_any()
    return policy


def _text_of(path: Path, findings: Findings) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)  # no more: it may have no end, as /dev/zero has none
    except OSError as error:
        findings.add(0, f"cannot be read: {(error.strerror or str(error)).lower()}")
        return ""
    if len(content) > LARGEST_FILE:
        findings.add(0, f"has more than the {LARGEST_FILE} bytes that a policy file may have")
        return ""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        findings.add(content.count(b"\n", 0, error.start) + 1, "is not UTF-8 text")
        return ""


def _known(sections: list[Section], findings: Findings) -> list[Section]:
    """The sections that can be read on; a misspelt heading is read as what it nearly says."""
    known: dict[tuple[str, str], Section] = {}
    for section in sections:
        section.kind = _kind_of(section, findings)
        if section.kind and _is_well_named(section, findings):
            first = known.setdefault((section.kind, section.name), section)
            if first is not section:
                problem = f"the section stands here and in line {first.line}"
                findings.add(section.line, problem, section=section.title)
    return list(known.values())


def _kind_of(section: Section, findings: Findings) -> str:
    kind = section.kind.lower()
    if kind in HEADINGS:
        return kind
    close = nearest(kind, NAMED_HEADINGS if section.name else HEADINGS)
    allowed = "[qpud], [queue NAME], [resource NAME], [account NAME], [user NAME]"
    findings.add(section.line, "unknown section", section=section.title, allowed=allowed, nearest=close)
    return close


def _is_well_named(section: Section, findings: Findings) -> bool:
    if section.kind == "qpud":
        problem = "this section has no name of its own, write [qpud]" if section.name else ""
    elif not section.name:
        problem = f"the section lacks a name, write [{section.kind} NAME]"
    else:
        letters = "up to 64 letters, digits, '_', '.' and '-'"
        problem = "" if _NAME.match(section.name) else f"'{section.name}' is no name, which has {letters}"
    if problem:
        findings.add(section.line, problem, section=section.title)
    return not problem


def _daemon(sections: list[Section], findings: Findings) -> DaemonPolicy:
    section = next((section for section in sections if section.kind == "qpud"), None)
    return _read(section, DaemonPolicy(), findings) if section else DaemonPolicy()


def _queues(sections: list[Section], findings: Findings) -> dict[str, QueuePolicy]:
    return {
        section.name: _read(section, DEFAULT_QUEUES.get(section.name, QueuePolicy(name=section.name)), findings)
        for section in sections
        if section.kind == "queue"
    }


def _named(sections: list[Section], kind: str, struct: type[S], findings: Findings) -> dict[str, S]:
    """The sections of a kind that has no defaults by name."""
    return {
        section.name: _read(section, struct(name=section.name), findings)
        for section in sections
        if section.kind == kind
    }


def _resources(sections: list[Section], findings: Findings) -> dict[str, ResourcePolicy]:
    return {section.name: _resource(section, findings) for section in sections if section.kind == "resource"}


def _resource(section: Section, findings: Findings) -> ResourcePolicy:
    default = DEFAULT_RESOURCES.get(section.name)
    driver = default.driver if default else None
    entry = section.entries.get("driver")
    if entry:
        driver = _read_entry(settings(ResourcePolicy)["driver"], section, entry, findings)
    elif not driver:
        allowed = settings(ResourcePolicy)["driver"].allowed
        findings.add(section.line, "the resource lacks its Driver", section=section.title, allowed=allowed)
    if not driver:
        return _read(section, ResourcePolicy(name=section.name, driver=DriverKind.EMULATOR), Findings(""))
    if not default or default.driver is not driver:
        default = ResourcePolicy(name=section.name, driver=driver)
    return _read(section, default, findings)


def _read(section: Section, default: S, findings: Findings) -> S:
    """The default with the section's values in their place."""
    known = settings(type(default))
    changes: dict[str, Any] = {}
    for lower, entry in section.entries.items():
        setting = known.get(lower)
        if not setting:
            _complain_unknown(section, entry, type(default), findings)
        elif isinstance(default, ResourcePolicy) and not setting.applies_to(default.driver):
            _complain_driver(section, entry, setting, default.driver, findings)
        elif setting.field != "driver":
            changes[setting.field] = _read_entry(setting, section, entry, findings, getattr(default, setting.field))
    return msgspec.structs.replace(default, **changes)


def _read_entry(setting: Setting, section: Section, entry: Entry, findings: Findings, otherwise: Any = None) -> Any:
    """The value of an entry; after a mistake, what it would be without the entry."""
    try:
        return setting.read(entry.value)
    except ValueError as error:
        findings.add(
            entry.line,
            str(error),
            section=section.title,
            key=setting.name,
            value=entry.value,
            allowed=setting.allowed,
            nearest=nearest(entry.value, error.words) if isinstance(error, UnknownWord) else "",
        )
        return otherwise


def _complain_unknown(section: Section, entry: Entry, kind: type[msgspec.Struct], findings: Findings) -> None:
    names = [setting.name for setting in settings(kind).values()]
    home = next((heading for heading, other in _kinds() if entry.key.lower() in settings(other)), "")
    close = "" if home else nearest(entry.key, names)
    findings.add(
        entry.line,
        f"belongs into a section [{home}]" if home else "unknown key",
        section=section.title,
        key=entry.key,
        value=entry.value,
        allowed="" if close or home else ", ".join(names),
        nearest=close,
    )


def _complain_driver(section: Section, entry: Entry, setting: Setting, driver: DriverKind, findings: Findings) -> None:
    owners = " or ".join(setting.key.drivers)
    findings.add(
        entry.line,
        f"a resource with Driver = {driver} has no such key, one with Driver = {owners} has",
        section=section.title,
        key=setting.name,
        value=entry.value,
    )


def _kinds() -> list[tuple[str, type[msgspec.Struct]]]:
    return [
        ("qpud", DaemonPolicy),
        ("queue NAME", QueuePolicy),
        ("resource NAME", ResourcePolicy),
        ("account NAME", AccountPolicy),
        ("user NAME", UserPolicy),
    ]
