"""The effective policy as text: valid INI that parses back to the same policy."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from qpud.config.checks import warnings
from qpud.config.keys import Setting, settings
from qpud.config.mistakes import without_password
from qpud.core.policy import Policy
from qpud.core.resource import ResourcePolicy


def render(policy: Policy) -> str:
    """The whole policy, every key written out, as a policy file."""
    blocks = []
    for title, struct in sections_of(policy):
        lines = [f"{setting.name} = {text}".rstrip() for setting, text in written_settings(struct)]
        blocks.append("\n".join([f"[{title}]", *lines]))
    return "\n\n".join(blocks) + "\n"


def check_report(policy: Policy) -> str:
    """What `qpud check FILE` prints: warnings as comments, then the effective policy without passwords."""
    remarks = "".join(f"# Warning: {warning}\n" for warning in warnings(policy))
    return remarks + without_password(render(policy))


def sections_of(policy: Policy) -> Iterator[tuple[str, msgspec.Struct]]:
    """Heading and values of each section, in the order of the file."""
    yield "qpud", policy.daemon
    yield from ((f"queue {name}", queue) for name, queue in policy.queues.items())
    yield from ((f"resource {name}", resource) for name, resource in policy.resources.items())
    yield from ((f"account {name}", account) for name, account in policy.accounts.items())
    yield from ((f"user {name}", user) for name, user in policy.users.items())


def written_settings(struct: msgspec.Struct) -> Iterator[tuple[Setting, str]]:
    """Each key that the section has, with the text of its value."""
    for setting in settings(type(struct)).values():
        if not isinstance(struct, ResourcePolicy) or setting.applies_to(struct.driver):
            yield setting, setting.write(getattr(struct, setting.field))
