"""munge for the daemon: a small process asks munged (asking.py), the event loop goes on meanwhile.

libmunge has no time-out (munge.py), and a thread that calls it would wait for the interpreter's lock while the loop
works. The loop sends a credential, goes on with what needs no identity, and is told the answer by a socket pair that
keeps messages whole and in order.

A munged that hangs costs those who wait for it ten seconds, once: after a slow failure the process refuses unasked
what it was sent, and the loop what comes then, until one attempt a second succeeds.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from qpud.core.errors import QpudError, Unavailable
from qpud.site.asking import ANSWER, LARGEST_ANSWER, PROBE
from qpud.site.libmunge import Libmunge
from qpud.site.munge import munged_socket, refusal, well_formed

log = logging.getLogger(__name__)

PROBE_SECONDS = 1.0
"""Pause between two attempts to reach a munged that did not answer, and between two starts of the process."""
BOOTSTRAP = """\
import sys, types
package = types.ModuleType("qpud")
package.__path__ = [sys.argv[1]]
sys.modules["qpud"] = package
from qpud.site.asking import main
main(sys.argv[2])
"""
FOLDER = Path(__file__).parent.parent

_AWAY = "munged does not answer; it is tried again every second"
_ENDED = "the process that asks munged has ended: try again"

_Question = asyncio.Future[int]


class MungeProcess:
    """Decodes credentials in another process. To be made on the loop; close it, or use it in `with`.

    Args:
        socket: munged's socket; None takes QPUD_MUNGE_SOCKET of the environment, else libmunge's default.

    Raises:
        Unavailable: libmunge cannot be loaded.
    """

    def __init__(self, socket: Path | None = None) -> None:
        Libmunge()  # what the process needs: here somebody hears of it
        self._loop = asyncio.get_running_loop()
        self._socket = munged_socket(socket)
        self._sent: deque[_Question] = deque()
        self._unsent: list[tuple[bytes, _Question]] = []
        self._refuses = False  # until a probe succeeds
        self._is_away = False  # as the log has it
        self._is_closed = False
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; who still waits is refused."""
        self._is_closed = True
        if self._is_running:
            self._end("munge is closed: the daemon is stopping")

    async def decode(self, credential: str, meanwhile: Callable[[], None]) -> int:
        """The uid that made the credential.

        Args:
            credential: As it came.
            meanwhile: Called while munged is asked.

        Raises:
            Unauthenticated, Unavailable: As `Munge.decode`.
        """
        question = self._ask(well_formed(credential))
        meanwhile()
        return await question

    # -- the process
    @property
    def _is_running(self) -> bool:
        return self._ours.fileno() >= 0

    def _start(self) -> None:
        self._started_at = time.monotonic()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        with theirs:
            try:
                self._process = _launch(theirs, self._socket)
            except OSError as error:
                self._ours.close()
                raise Unavailable(f"munged cannot be asked: no process can be started ({error})") from error
        self._loop.add_reader(self._ours, self._listen)

    def _end(self, why: str) -> None:
        self._loop.remove_reader(self._ours)
        self._ours.close()
        self._process.kill()
        self._process.wait()
        waiting = [*self._sent, *(question for _, question in self._unsent)]
        self._sent.clear()
        self._unsent.clear()
        self._refuses = False
        for question in waiting:
            _settle(question, 0, Unavailable(why))

    def _lose(self) -> None:
        log.error("the process that asks munged has ended: it is started again when it is needed")
        self._end(_ENDED)

    def _require_running(self) -> None:
        """Start the process again if it has ended. Raises: Unavailable."""
        if self._is_closed:
            raise Unavailable("munge is closed: the daemon is stopping")
        if self._refuses:
            raise Unavailable(_AWAY)
        if not self._is_running:
            if time.monotonic() - self._started_at < PROBE_SECONDS:
                raise Unavailable(_ENDED)
            self._start()

    # -- questions and answers
    def _ask(self, credential: bytes) -> _Question:
        self._require_running()
        question: _Question = self._loop.create_future()
        self._send(credential, question)
        return question

    def _send(self, message: bytes, question: _Question) -> None:
        try:
            self._ours.send(message)
        except BlockingIOError:  # its socket is full: the next answer makes room
            self._unsent.append((message, question))
            return
        except OSError:  # it has ended: reading tells
            pass
        self._sent.append(question)

    def _listen(self) -> None:
        """Hand out the answers that are there."""
        try:
            answers = self._ours.recv(LARGEST_ANSWER)
        except BlockingIOError:
            return
        except OSError:
            answers = b""
        if not answers:
            return self._lose()
        self._send_rest()
        for code, uid, is_silent, reason in _parsed(answers):
            self._hear(code, uid, is_silent, reason)

    def _send_rest(self) -> None:
        unsent, self._unsent = self._unsent, []
        for message, question in unsent:
            self._send(message, question)

    def _hear(self, code: int, uid: int, is_silent: bool, reason: str) -> None:
        error = self._error(code, reason) if code else None
        self._log_away(str(error) if isinstance(error, Unavailable) else "")
        if is_silent and not self._refuses:
            self._loop.call_later(PROBE_SECONDS, self._probe)
        self._refuses = is_silent
        _settle(self._sent.popleft(), uid, error)

    def _error(self, code: int, reason: str) -> QpudError:
        return Unavailable(_AWAY) if self._refuses else refusal(code, reason)

    def _log_away(self, why: str) -> None:
        """Log that munged went away or came back, once each."""
        if why and not self._is_away:
            log.error("munged does not answer: credentials are refused with 503", extra={"why": why})
        elif self._is_away and not why:
            log.info("munged answers again")
        self._is_away = bool(why)

    # -- a munged that does not answer
    def _probe(self) -> None:
        if self._refuses and self._is_running:
            question: _Question = self._loop.create_future()
            question.add_done_callback(self._probed)
            self._send(PROBE, question)

    def _probed(self, question: _Question) -> None:
        if question.exception() is not None:
            self._loop.call_later(PROBE_SECONDS, self._probe)


def _launch(theirs: socket.socket, munged: str) -> subprocess.Popen[bytes]:
    """Start asking.py from wherever this qpud lies, without the site's packages, variables and current folder."""
    kept = {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-c", BOOTSTRAP, str(FOLDER), munged],
        stdin=theirs.fileno(),
        stdout=subprocess.DEVNULL,
        env=kept,
        start_new_session=True,  # Ctrl-C reaches the daemon only
    )


def _parsed(answers: bytes) -> Iterator[tuple[int, int, bool, str]]:
    """Code, uid, whether munged is asked nothing more, and reason, of each answer in a message."""
    at = 0
    while at < len(answers):
        code, uid, is_silent, length = ANSWER.unpack_from(answers, at)
        end = at + ANSWER.size + length
        yield code, uid, is_silent, answers[at + ANSWER.size : end].decode(errors="replace")
        at = end


def _settle(question: _Question, uid: int, error: QpudError | None) -> None:
    if question.done():  # who asked has gone
        return
    if error is None:
        question.set_result(uid)
    else:
        question.set_exception(error)
