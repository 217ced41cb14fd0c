"""munge credentials: a user id that the client's node vouches for (munge(7)).

A credential is good once, on this host, until it expires: munged keeps the replay cache, so a second decoding
answers "replayed". The cache lives and dies with munged.

Waiting: a decoding takes 0.1 ms and is called from the event loop. libmunge 0.5.15 has its timeouts compiled in and
no option for them: with munged stopped (SIGSTOP) a call returns after 10.1 s (5 attempts of 2 s), with a dead socket
file after 2.3 s, without a file at once. So after a slow failure `Munge` refuses without asking munged, while a
thread tries it once a second and lifts the refusal when it answers: a hanging munged stops the event loop once per
hang, not once per request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import re
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from qpud.core.errors import QpudError, Unauthenticated, Unavailable
from qpud.site.libmunge import Code, Context, Libmunge, Option

log = logging.getLogger(__name__)

LONGEST_CREDENTIAL = 4096
"""Characters; qrmi's have 143. munged would take a megabyte of payload, which qpud has no use for."""
SLOW_SECONDS = 0.5
"""A failure that takes longer starts the refusal."""
PROBE_SECONDS = 1.0
"""Pause between two attempts to reach a munged that did not answer."""
LARGEST_GROUP = 64
"""Credentials that are answered together; the first of them waits for the last."""

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
    """Decodes and makes credentials with the munged of this host. For one thread; close it, or use it in `with`.

    Args:
        socket: munged's socket; None takes QPUD_MUNGE_SOCKET of the environment, else libmunge's default.

    Raises:
        Unavailable: libmunge cannot be loaded.
    """

    def __init__(self, socket: Path | None = None) -> None:
        configured = os.environ.get("QPUD_MUNGE_SOCKET")
        self._socket = socket or (Path(configured) if configured else None)
        self._libmunge = Libmunge()
        # decoding sets a context to the credential's own values (munge.h): this one never encodes
        self._context: Context | None = self._libmunge.new_context(self._socket)
        self._closed = threading.Event()
        self._refusing = threading.Event()
        self._is_away = False  # as the log has it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free libmunge's memory; closing twice does nothing. A thread that still probes munged ends by itself."""
        self._closed.set()
        if self._context is not None:
            self._libmunge.free_context(self._context)
            self._context = None

    def decode(self, credential: str) -> MungeIdentity:
        """Whom a credential proves. Blocks for 0.1 ms, or for up to 10 s when munged hangs: see MungeThread.

        Raises:
            Unauthenticated: It is garbage, of another key, expired, from the future, used before, or for others.
            Unavailable: munged does not answer, or this object is closed.
        """
        text = credential.strip(" \t")
        _require_form(text)
        context = self._open_context()
        started = time.monotonic()
        code, uid, gid = self._libmunge.decode(text.encode("ascii"), context)
        if code != Code.SUCCESS:
            raise self._failure(code, context, time.monotonic() - started)
        self._log_away("")
        encoded_at = float(self._libmunge.encoded_at(context))
        return MungeIdentity(uid=uid, gid=gid, encoded_at=encoded_at, ttl=self._libmunge.ttl(context))

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

    def _open_context(self) -> Context:
        if self._context is None:
            raise Unavailable("munge is closed: the daemon is stopping")
        if self._refusing.is_set():
            raise Unavailable("munged does not answer; it is tried again every second")
        return self._context

    def _failure(self, code: int, context: Context, seconds: float) -> QpudError:
        if Code.BAD_CREDENTIAL <= code <= Code.UNAUTHORIZED:
            self._log_away("")
            return Unauthenticated(_refusal(code))
        self._log_away(self._libmunge.reason(context))
        if code in {Code.SOCKET, Code.TIMEOUT} and seconds > SLOW_SECONDS:
            self._refusing.set()
            threading.Thread(target=self._probe, name="qpud-munge-probe", daemon=True).start()
        return Unavailable(f"munged does not answer: {self._libmunge.reason(context)}")

    def _log_away(self, why: str) -> None:
        """Log that munged went away or came back, once each."""
        if why and not self._is_away:
            log.error("munged does not answer: credentials are refused with 503", extra={"why": why})
        elif self._is_away and not why:
            log.info("munged answers again")
        self._is_away = bool(why)

    def _probe(self) -> None:
        """Wait until munged answers again, then lift the refusal. Runs in its own thread, with its own context."""
        while not self._closed.wait(PROBE_SECONDS):
            try:
                self.encode()
            except Unavailable:
                continue
            self._refusing.clear()
            return


class _Question:
    """A credential on its way through the thread and back."""

    __slots__ = ("answered", "credential", "error", "future", "uid")

    def __init__(self, credential: str) -> None:
        self.credential = credential
        self.answered = threading.Lock()  # held until the thread has answered
        self.answered.acquire()
        self.future: asyncio.Future[None] | None = None  # of who waits on the loop
        self.uid = 0
        self.error: Exception | None = None

    def outcome(self) -> int:
        """The uid. Raises: what the decoding raised."""
        if self.error is not None:
            raise self.error
        return self.uid


class MungeThread:
    """Decodes in a thread of its own: libmunge has no time-out, and a munged that hangs must not stop the loop.

    Credentials that wait together are answered together: loop and thread then change places once for all of them, and
    their jobs share one commit. To be made on the loop.

    Args:
        munge: Used by that thread only, closed with it.
    """

    def __init__(self, munge: Munge) -> None:
        self._munge = munge
        self._inbox: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._waiting = 0  # on the loop
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._work, name="qpud-munge", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inbox.put(None)  # after what it is doing, the thread closes munge: nobody else may free its memory

    async def decode(self, credential: str, patience: float = 0.0) -> int:
        """The uid that made the credential.

        Args:
            credential: As it came.
            patience: Seconds for which the loop may stand still for the answer: where it has nothing else to do, that
                is cheaper than being woken. While others wait it never does: a hanging munged stops it once.

        Raises:
            As `Munge.decode`.
        """
        question = _Question(credential)
        self._inbox.put(question)
        if question.answered.acquire(timeout=0.0 if self._waiting else patience):
            return question.outcome()
        question.future = self._loop.create_future()
        if not question.answered.acquire(blocking=False):  # the thread looks for the future after it has answered
            await self._answer_to(question.future)
        return question.outcome()

    async def _answer_to(self, future: asyncio.Future[None]) -> None:
        self._waiting += 1
        try:
            await future
        finally:
            self._waiting -= 1

    def _work(self) -> None:
        while (first := self._inbox.get()) is not None:
            group = [self._answered(first)]
            while len(group) < LARGEST_GROUP and (question := self._next()) is not None:
                group.append(self._answered(question))
            self._send_back(group)
        self._munge.close()

    def _next(self) -> _Question | None:
        """Who waits, or None."""
        if self._inbox.empty():
            return None
        if (question := self._inbox.get()) is None:
            self._inbox.put(None)  # the end, once this group is answered
        return question

    def _answered(self, question: _Question) -> _Question:
        try:
            question.uid = self._munge.decode(question.credential).uid
        except Exception as error:  # whatever it was, who waits must hear of it
            question.error = error
        question.answered.release()
        return question

    def _send_back(self, group: list[_Question]) -> None:
        if futures := [question.future for question in group if question.future is not None]:
            with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
                self._loop.call_soon_threadsafe(_release, futures)


def _release(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _require_form(text: str) -> None:
    """Keep from munged what cannot be a credential: NULs would cut it, megabytes would be copied."""
    if len(text) > LONGEST_CREDENTIAL:
        raise Unauthenticated(f"X-Munge-Cred has {len(text)} characters, at most {LONGEST_CREDENTIAL} are taken")
    if not _CREDENTIAL.fullmatch(text):
        raise Unauthenticated("X-Munge-Cred is no munge credential, which looks like MUNGE:…:")


def _refusal(code: int) -> str:
    reasons: dict[int, str] = {
        Code.INVALID: "is invalid: it was altered, or made with the key of another cluster",
        Code.EXPIRED: "has expired: make a fresh one for each request",
        Code.REWOUND: "comes from the future: the clocks of the client's node and of this node differ",
        Code.REPLAYED: "was used before: make a fresh one for each request",
        Code.UNAUTHORIZED: "is meant for another user than the one of the daemon",
    }
    return f"the munge credential {reasons.get(code, f'is malformed (munge error {code})')}"
