"""Who is calling: a Unix socket's peer, a munge credential, or the owner of a session token.

    door         credential                              identity
    Unix socket  none needed                             the peer's uid; root and AdminUsers administer
    any          token: Bearer, Basic password,          the session's owner, never an administrator
                 X-Warden-Session
    TCP          X-Munge-Cred, if AuthType=munge         its uid, never an administrator; X-Warden-Session then
                                                         names the session (id or token)

A munge credential never administers, not even uid 0's: facts/CONTRACTS §7 shows how one can be stolen.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Protocol

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from qpud.core.errors import QpudError, Unauthenticated
from qpud.core.identity import Identity, Proof
from qpud.core.policy import Policy
from qpud.core.session import TOKEN_PREFIX
from qpud.core.terms import AuthType

SESSION_HEADER = "x-warden-session"
MUNGE_HEADER = "x-munge-cred"
PROVEN = "munge_uid"  # in the request's state: the uid, or the error that says why not


class MungeDecoder(Protocol):
    """What proves a munge credential."""

    async def decode(self, credential: str, meanwhile: Callable[[], None]) -> int:
        """The uid that made the credential. Raises: Unauthenticated with the reason.

        Args:
            credential: As it came.
            meanwhile: Called while munged is asked.
        """


class TokenOwner(Protocol):
    """What knows session tokens; the service does."""

    def identify_token(self, token: str) -> Identity:
        """The owner of a session token. Raises: Unauthenticated."""


class Authenticator:
    """Turns credentials into an identity.

    Args:
        policy: Gives the policy in force: AuthType and AdminUsers may change by a reload.
        munge: None when munge was not configured at start.
        tokens: Who knows the session tokens: the service.
        user_name: Name of a uid, or the uid as text.
        user_id: Uid of a name or of a uid's text; None if there is no such user.
    """

    def __init__(
        self,
        policy: Callable[[], Policy],
        munge: MungeDecoder | None,
        tokens: TokenOwner,
        user_name: Callable[[int], str],
        user_id: Callable[[str], int | None],
    ) -> None:
        self._policy = policy
        self._munge = munge
        self._tokens = tokens
        self.user_name = user_name
        self.user_id = user_id

    async def prove(self, request: HTTPConnection, meanwhile: Callable[[], None]) -> None:
        """Decode the munge credential of a TCP request, once, before anyone asks who is calling.

        A munged that does not answer holds up this request only. What was found, or why not, is kept in the state.

        Args:
            request: Whose credential.
            meanwhile: Called while munged is asked, if it is: what needs no identity, and tells nobody anything.
        """
        credential = request.headers.get(MUNGE_HEADER)
        if not credential or self._munge is None or not self._munge_counts or _peer(request) is not None:
            return
        try:
            request.scope["state"][PROVEN] = await self._munge.decode(credential, meanwhile)
        except QpudError as refusal:
            request.scope["state"][PROVEN] = refusal

    def authenticate(self, request: HTTPConnection) -> Identity:
        """The caller; after `prove`.

        Args:
            request: Its state holds `peer_uid` on a Unix socket.

        Raises:
            Unauthenticated: No credential, or one that proves nothing; the message says why.
        """
        headers = request.headers
        peer = _peer(request)
        munge = headers.get(MUNGE_HEADER) if peer is None else None
        if munge and self._munge_counts:
            return self._by_munge(request)
        token = _token(headers)
        if token is not None:
            return self._tokens.identify_token(token)
        if peer is not None:
            return self._by_peer(peer)
        raise Unauthenticated(self._missing(munge is not None))

    def session_ref(self, headers: Headers) -> str | None:
        """The session that the request names: X-Warden-Session (id or token), else the token it came with."""
        named = headers.get(SESSION_HEADER, "").strip()
        return named or _token(headers)

    @property
    def _munge_counts(self) -> bool:
        return self._policy().daemon.auth_type is AuthType.MUNGE

    def _by_munge(self, request: HTTPConnection) -> Identity:
        if self._munge is None:
            raise Unauthenticated("AuthType=munge is configured but takes effect only after a restart of the daemon")
        user_id: int | QpudError = request.scope["state"][PROVEN]
        if isinstance(user_id, QpudError):
            raise user_id
        return Identity(user_id=user_id, user=self.user_name(user_id), proof=Proof.MUNGE)

    def _by_peer(self, user_id: int) -> Identity:
        name = self.user_name(user_id)
        admins = self._policy().daemon.admin_users
        is_admin = user_id == 0 or name in admins or str(user_id) in admins
        return Identity(user_id=user_id, user=name, proof=Proof.PEER, is_admin=is_admin)

    def _missing(self, has_munge: bool) -> str:
        if has_munge:
            return "munge credentials are not accepted here (AuthType=none): use the Unix socket or a session token"
        if self._munge_counts:
            return "Missing MUNGE credential: send X-Munge-Cred or a session token, or use the Unix socket"
        return "no credential: send a session token as Bearer, or use the Unix socket"


def _peer(request: HTTPConnection) -> int | None:
    uid: int | None = request.scope.get("state", {}).get("peer_uid")
    return uid


def _token(headers: Headers) -> str | None:
    authorization = headers.get("authorization")
    if authorization:
        return _of_authorization(authorization)
    named = headers.get(SESSION_HEADER, "").strip()
    return named if named.startswith(TOKEN_PREFIX) else None


def _of_authorization(header: str) -> str:
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        return _basic_password(rest.strip())
    raise Unauthenticated(f"the Authorization scheme {scheme[:20]!r} is unknown: send Bearer or Basic")


def _basic_password(encoded: str) -> str:
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        raise Unauthenticated("the Basic credential is not base64 of user:token") from None
    return text.partition(":")[2]
