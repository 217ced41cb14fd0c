"""munge credentials: a user id that the client's node vouches for (munge(7)).

A credential is good once, on this host, until it expires: munged keeps the replay cache, so a second decoding
answers "replayed". The cache lives and dies with munged.

Waiting: a decoding takes 0.1 ms. libmunge 0.5.15 has its timeouts compiled in and no option for them: with munged
stopped (SIGSTOP) a call returns after 10.1 s (5 attempts of 2 s), with a dead socket file after 2.3 s, without a file
at once. So the daemon has another process call it: munge_process.py.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from qpud.core.errors import QpudError, Unauthenticated, Unavailable
from qpud.site.asking import LONGEST_CREDENTIAL
from qpud.site.libmunge import Code, Context, Libmunge, Option

_CREDENTIAL = re.compile(r"MUNGE:[A-Za-z0-9+/]+={0,2}:")


class MungeIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Who made a credential, and when."""

    uid: int
    gid: int
    encoded_at: float
    """Seconds since the epoch, UTC, by the clock of the client's node; whole seconds."""
    ttl: int
    """Seconds for which the credential is good."""


class Munge:
    """Makes and decodes credentials with the munged of this host. For one thread; close it, or use it in `with`.

    Args:
        socket: munged's socket; None takes QPUD_MUNGE_SOCKET of the environment, else libmunge's default.

    Raises:
        Unavailable: libmunge cannot be loaded.
    """

    def __init__(self, socket: Path | None = None) -> None:
        self._socket = os.fsencode(munged_socket(socket))
        self._libmunge = Libmunge()
        # decoding sets a context to the credential's own values (munge.h): this one never encodes
        self._context: Context | None = self._libmunge.new_context(self._socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free libmunge's memory; closing twice does nothing."""
        if self._context is not None:
            self._libmunge.free_context(self._context)
            self._context = None

    def decode(self, credential: str) -> MungeIdentity:
        """Whom a credential proves. Blocks for 0.1 ms, or for 10 s when munged hangs.

        Raises:
            Unauthenticated: It is garbage, of another key, expired, from the future, used before, or for others.
            Unavailable: munged does not answer, or this object is closed.
        """
        if self._context is None:
            raise Unavailable("munge is closed")
        code, uid, gid = self._libmunge.decode(well_formed(credential), self._context)
        if code != Code.SUCCESS:
            raise refusal(code, self._libmunge.reason(self._context))
        encoded_at = float(self._libmunge.encoded_at(self._context))
        return MungeIdentity(uid=uid, gid=gid, encoded_at=encoded_at, ttl=self._libmunge.ttl(self._context))

    def encode(self, ttl: int = 0, for_user: int | None = None) -> str:
        """A fresh credential of this process's effective user, without payload.

        Args:
            ttl: Seconds for which it is good; 0 leaves it to munged (300).
            for_user: The only user id that may decode it; None for anyone.

        Raises:
            Unavailable: munged does not answer.
        """
        context = self._libmunge.new_context(self._socket)
        try:
            self._libmunge.set_number(context, Option.TTL, ttl)
            if for_user is not None:
                self._libmunge.set_number(context, Option.UID_RESTRICTION, for_user)
            code, credential = self._libmunge.encode(context)
            if code != Code.SUCCESS:
                raise Unavailable(f"munge makes no credential: {self._libmunge.reason(context)}")
        finally:
            self._libmunge.free_context(context)
        return credential


def munged_socket(socket: Path | None) -> str:
    """The socket, else that of QPUD_MUNGE_SOCKET, else "", which is libmunge's default."""
    return os.environ.get("QPUD_MUNGE_SOCKET", "") if socket is None else str(socket)


def well_formed(credential: str) -> bytes:
    """A credential without the blanks around it; keeps from munged what cannot be one.

    Raises:
        Unauthenticated: NULs would cut it, megabytes would be copied.
    """
    text = credential.strip(" \t")
    if len(text) > LONGEST_CREDENTIAL:
        raise Unauthenticated(f"X-Munge-Cred has {len(text)} characters, at most {LONGEST_CREDENTIAL} are taken")
    if not _CREDENTIAL.fullmatch(text):
        raise Unauthenticated("X-Munge-Cred is no munge credential, which looks like MUNGE:…:")
    return text.encode("ascii")


def refusal(code: int, reason: str) -> QpudError:
    """The error of a credential that munged did not decode: Unauthenticated, or Unavailable with libmunge's reason."""
    if not Code.BAD_CREDENTIAL <= code <= Code.UNAUTHORIZED:
        return Unavailable(f"munged does not answer: {reason}")
    whys: dict[int, str] = {
        Code.INVALID: "is invalid: it was altered, or made with the key of another cluster",
        Code.EXPIRED: "has expired: make a fresh one for each request",
        Code.REWOUND: "comes from the future: the clocks of the client's node and of this node differ",
        Code.REPLAYED: "was used before: make a fresh one for each request",
        Code.UNAUTHORIZED: "is meant for another user than the one of the daemon",
    }
    return Unauthenticated(f"the munge credential {whys.get(code, f'is malformed (munge error {code})')}")
