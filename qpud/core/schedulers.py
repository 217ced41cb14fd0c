"""Which order a policy asks for, by SchedulerType."""

from __future__ import annotations

from qpud.core.fairorder import FairOrder
from qpud.core.keyorder import ExclusiveOrder, Fifo, KeyOrder, Priority
from qpud.core.order import Order, Rule, SessionOf
from qpud.core.policy import Policy
from qpud.core.usage import Usage

BUILT_IN = ("share", "priority", "fifo", "exclusive")


def make_order(policy: Policy, session_of: SessionOf, usage: Usage, rule: Rule | None) -> Order:
    """The order of one resource's pending jobs, empty.

    Args:
        policy: Gives SchedulerType and what the scheduler needs.
        session_of: The open session of an id.
        usage: Decayed usage of users and accounts.
        rule: The site's own, for any other SchedulerType.

    Raises:
        ValueError: Neither a built-in scheduler nor a rule.
    """
    match policy.daemon.scheduler_type:
        case "share":
            return FairOrder(policy, session_of, usage)
        case "priority":
            return KeyOrder(policy, session_of, Priority())
        case "fifo":
            return KeyOrder(policy, session_of, Fifo())
        case "exclusive":
            return ExclusiveOrder(policy, session_of)
    if rule is None:
        raise ValueError(f"SchedulerType {policy.daemon.scheduler_type} is neither built in nor loaded")
    return KeyOrder(policy, session_of, rule)
