"""Who is asking, and over which door: the only inputs of authorisation."""

from __future__ import annotations

import enum

import msgspec

from qpud.core.errors import Forbidden


class Proof(enum.StrEnum):
    """How the caller proved who he is."""

    PEER = "peer"  # SO_PEERCRED of the Unix socket
    MUNGE = "munge"
    TOKEN = "token"  # noqa: S105  a session token


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A caller. `is_admin` is true only for root and AdminUsers on the Unix socket by peer credential."""

    user_id: int
    user: str
    proof: Proof
    is_admin: bool = False
    session_id: str | None = None  # the session named by a token

    @property
    def may_open_for_others(self) -> bool:
        """Administrators, and root by munge: slurmstepd opens and closes sessions as uid 0."""
        return self.is_admin or (self.user_id == 0 and self.proof is Proof.MUNGE)

    def may_see(self, owner: int) -> bool:
        """Whether objects of this owner exist for the caller; others' look like 404."""
        return self.is_admin or self.user_id == owner


def require_admin(who: Identity, what: str) -> None:
    """Refuse anyone but an administrator on the Unix socket.

    Args:
        who: The caller.
        what: The verb for the message, as in "drain FRESNEL".

    Raises:
        Forbidden: Always, unless `who.is_admin`.
    """
    if not who.is_admin:
        raise Forbidden(f"user {who.user} may not {what}: only root and AdminUsers may, on the Unix socket")
