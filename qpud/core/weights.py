"""The weights of users and accounts: Shares, on which past usage leans.

An account that used, above its part, as much as its part of one half-life counts half; the factor stays between ¼ and
4, so that past usage leans on the weights and starves nobody. Sessions weigh their units and have no past.
"""

from __future__ import annotations

from qpud.core.fairshare import Contender, Group
from qpud.core.policy import Policy
from qpud.core.terms import UNLIMITED_SECONDS
from qpud.core.usage import Usage, of_account, of_member, of_user

LARGEST_CORRECTION = 4.0
"""Past usage changes the weight of a user or account by at most this factor."""
_NOT_FADING_SECONDS = 7 * 86_400.0


class Weights:
    """Brings the weights of one resource's contenders up to date.

    Args:
        policy: Shares of accounts, PriorityDecayHalfLife.
        usage: Decayed QPU-seconds of users and accounts.
    """

    def __init__(self, policy: Policy, usage: Usage) -> None:
        self._policy = policy
        self._usage = usage
        self._weighed_at = 0.0

    def usage_of(self, one: Contender, now: float) -> float:
        """Decayed QPU-seconds of a user or account; 0 for a session."""
        return 0.0 if one.kind == "session" else self._usage.value(_usage_name(one), now)

    def base_of_account(self, name: str) -> float:
        """Shares of an account; 1 without a section of its own."""
        policy = self._policy.accounts.get(name)
        return policy.shares if policy else 1.0

    def bring_up_to_date(self, top: Group, now: float) -> None:
        """Let past usage lean on the weights, at most every ten thousandth of a half-life."""
        scale = self._scale()
        if now - self._weighed_at < scale / 10_000:
            return
        self._weighed_at = now
        groups = [top]
        while groups:
            group = groups.pop()
            self._weigh(group, scale, now)
            groups += [one.members for one in group.active.values() if one.members is not None]

    def _weigh(self, group: Group, scale: float, now: float) -> None:
        above = [one for one in group.active.values() if one.kind != "session"]
        used = {one.key: self.usage_of(one, now) for one in above}
        base = {one.key: self._base_weight(one) for one in above}
        usage, weights = sum(used.values()), sum(base.values())
        for one in above:
            part = base[one.key] / weights
            excess = (used[one.key] - part * usage) / (part * scale)
            group.reweigh(one, base[one.key] * _correction(excess))

    def _base_weight(self, one: Contender) -> float:
        return self.base_of_account(one.key) if one.kind == "account" else 1.0

    def _scale(self) -> float:
        half_life = self._policy.daemon.priority_decay_half_life
        return half_life if 0 < half_life < UNLIMITED_SECONDS else _NOT_FADING_SECONDS


def _correction(excess: float) -> float:
    """Factor on a weight: ½ for one that used, above its part, as much as its part of one half-life."""
    return float(min(LARGEST_CORRECTION, max(1.0 / LARGEST_CORRECTION, 2.0 ** -max(-8.0, min(8.0, excess)))))


def _usage_name(one: Contender) -> str:
    if one.kind == "account":
        return of_account(one.key)
    return of_member(one.key, one.group.owner.key) if one.group.owner else of_user(one.key)
