"""What a running daemon can take over from a changed policy file, and what waits for its restart."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from qpud.config.keys import settings
from qpud.config.show import sections_of, written_settings
from qpud.core.policy import Policy
from qpud.core.resource import ResourcePolicy

S = TypeVar("S", bound=msgspec.Struct)


def diff(old: Policy, new: Policy) -> list[str]:
    """What changed and needs a restart: `[section] Key`, or `[resource NAME]` for one added or removed."""
    before, after = _restart_texts(old), _restart_texts(new)
    found = []
    for title in dict.fromkeys([*before, *after]):
        if title not in before or title not in after:
            found.append(f"[{title}]")
        else:
            keys = dict.fromkeys([*before[title], *after[title]])
            found += [f"[{title}] {key}" for key in keys if before[title].get(key) != after[title].get(key)]
    return found


def keep_running_parts(old: Policy, new: Policy) -> tuple[Policy, list[str]]:
    """The policy to run with after a reload: the new one, with the old values of what needs a restart.

    Added resources are left out and removed ones stay, because drivers are made at start.

    Returns:
        The policy, and one sentence for each change that waits for a restart.
    """
    notes = _waiting(old, new)
    daemon = _with_restart_values_of(old.daemon, new.daemon)
    resources = _running_resources(old, new)
    if daemon.default_resource is not None and daemon.default_resource not in resources:
        notes.append(f"DefaultResource = {daemon.default_resource} does not run yet: restart qpud to use it.")
        daemon = msgspec.structs.replace(daemon, default_resource=old.default_resource)
    return msgspec.structs.replace(new, daemon=daemon, resources=resources), notes


def _waiting(old: Policy, new: Policy) -> list[str]:
    written = {f"[{title}]" for title, _ in sections_of(new)}
    notes = []
    for place in diff(old, new):
        if not place.endswith("]"):  # a key
            notes.append(f"{place} has changed: restart qpud to use it.")
        elif place in written:
            notes.append(f"{place} was added: restart qpud to serve it.")
        else:
            notes.append(f"{place} was removed: it is served until qpud is restarted.")
    return notes


def _running_resources(old: Policy, new: Policy) -> dict[str, ResourcePolicy]:
    """The resources of the old policy, in the new file's order as far as it names them."""
    names = [name for name in new.resources if name in old.resources]
    names += [name for name in old.resources if name not in new.resources]
    return {name: _running(old.resources[name], new.resources.get(name)) for name in names}


def _running(old: ResourcePolicy, new: ResourcePolicy | None) -> ResourcePolicy:
    return old if new is None or new.driver is not old.driver else _with_restart_values_of(old, new)


def _with_restart_values_of(old: S, new: S) -> S:
    kept = {
        setting.field: getattr(old, setting.field) for setting in settings(type(new)).values() if setting.key.restart
    }
    return msgspec.structs.replace(new, **kept)


def _restart_texts(policy: Policy) -> dict[str, dict[str, str]]:
    """By section that has such keys: the texts of those whose change needs a restart."""
    return {
        title: {setting.name: text for setting, text in written_settings(struct) if setting.key.restart}
        for title, struct in sections_of(policy)
        if any(setting.key.restart for setting in settings(type(struct)).values())
    }
