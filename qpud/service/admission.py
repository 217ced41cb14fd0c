"""Who may do how much: the limits of the policy, applied to what is submitted, opened or moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from qpud.context import Context
from qpud.core import limits
from qpud.core.errors import Forbidden
from qpud.core.identity import Identity
from qpud.core.policy import QueuePolicy
from qpud.core.reservations import DUTY_PREFIX
from qpud.core.session import Session
from qpud.core.terms import DriverKind


def admit(context: Context, session: Session, queue: str, asked: limits.Asked) -> Callable[[], None]:
    """Let jobs of a session into a queue, or refuse them all.

    Args:
        context: The parts of the daemon.
        session: The jobs'.
        queue: Usually the session's.
        asked: Resource and shots of each.

    Returns:
        Gives the room back that the jobs take: to be called when the book has them, or when they fail.

    Raises:
        LimitExceeded: One sentence: the limit, its value, and what would fit.
    """
    tally = context.book.tally
    loads = tally.loads(session.user_id, queue, session.account or "")
    binding = [one for one in limits.bounds(context.policy, session, queue, loads) if limits.is_bound(one)]
    if not binding:
        return _nothing
    limits.admit(binding, asked, rates(context), tally, context.clock())
    return tally.expect(loads, asked)


def _nothing() -> None: ...


def rates(context: Context) -> dict[str, float]:
    """Shots per QPU second of each resource; an emulation's time cannot be told in advance."""
    return {
        name: context.book.flights[name].pace.shot_rate
        for name, resource in context.policy.resources.items()
        if resource.driver is not DriverKind.EMULATOR
    }


async def check_access(context: Context, queue: QueuePolicy, user_id: int, account: str) -> None:
    """Let a user with this account ("": none) use a queue.

    Raises:
        Forbidden: One of the queue's lists keeps him out.
    """
    asks_for_groups = queue.allow_groups or queue.deny_groups
    # a directory server may answer slowly: not in the loop
    groups = await asyncio.to_thread(context.groups, user_id) if asks_for_groups else ()
    limits.check_access(queue, context.names(user_id), account, groups)


def check_duty(who: Identity, account: str) -> None:
    """Only administrators do duties. Raises: Forbidden."""
    if account.startswith(DUTY_PREFIX) and not who.may_open_for_others:
        raise Forbidden(f"user {who.user} may not use account {account}: duties are for root and AdminUsers")
