"""The one writer: a thread that takes whole transactions and lets those that arrive together share one fsync.

An operation is a function of the connection that only executes SQL; it may be run twice, because when one of a group
fails the group is rolled back and each is tried alone. A cancelled caller does not stop its operation: it is
committed all the same, and `then` runs all the same, so that memory never falls behind the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import queue
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from qpud.core.errors import StorageFull, Unavailable
from qpud.store.backup import keep_before_migration, newest_copy
from qpud.store.schema import migrate, require_old_enough, schema_of
from qpud.store.trouble import Damaged, Files, Trouble, of_opening, of_writing, require_writable, try_to_store

log = logging.getLogger(__name__)

T = TypeVar("T")
Transaction = sqlite3.Connection
"""An open transaction: what an operation may execute statements on, and nothing else."""
Operation = Callable[[Transaction], T]

_LARGEST_GROUP = 256  # beyond this a shared fsync saves nothing more, and the first of the group waits
PROBE_SECONDS = 2.0  # between attempts of our own to store something, while nothing can be stored


class Joint(ABC):
    """A kind of operation of which those that stand together in a group are executed in one go."""

    def __call__(self, transaction: Transaction) -> None:
        """Execute this one alone."""
        self.join(transaction, [self])

    @classmethod
    @abstractmethod
    def join(cls, transaction: Transaction, operations: Sequence[Self]) -> None:
        """Execute them all; if it raises, the group is rolled back and each is tried alone."""


class _Ticket:
    """An operation on its way through the thread and back."""

    __slots__ = ("error", "future", "operation", "result", "then")

    def __init__(
        self,
        operation: Operation[Any],
        future: asyncio.Future[Any] | None,  # None: nobody waits
        then: Callable[[Any], None] | None,
    ) -> None:
        self.operation = operation
        self.future = future
        self.then = then
        self.result: Any = None
        self.error: BaseException | None = None


class Writer:
    """The write side of the store.

    Args:
        path: The database; created and migrated if need be.
        on_commit: Called on the loop for each group with the number of operations and the seconds it took.
    """

    def __init__(self, path: Path, on_commit: Callable[[int, float], None]) -> None:
        self._connection = _connect(path)
        self._files = Files(path)
        self._folder = path.parent
        self._on_commit = on_commit
        self._inbox: queue.SimpleQueue[_Ticket | None] = queue.SimpleQueue()
        self._closed = False
        self._trouble = Trouble()
        self._has_failed = False  # the thread's own word, which it needs before the loop has heard
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="qpud-writer", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why the last group could not be stored, empty once one could; of damage it stays."""
        return self._trouble.why

    def note_damage(self, error: Damaged) -> None:
        """A reader found that the file is wrong."""
        self._trouble.note_damage(error)

    async def run(self, operation: Operation[T], then: Callable[[T], None] | None = None) -> T:
        """Commit an operation; on return it is fsynced.

        Args:
            operation: Executes SQL, returns what the caller wants.
            then: Runs on the loop with the result, right after the commit and before anyone waiting.

        Raises:
            StorageFull: The disk is full or failing; nothing of the operation is stored.
            Unavailable: Another process locks the database, or the writer is closed.
        """
        if self._closed:  # the thread has ended: nobody would ever answer
            raise Unavailable("qpud is stopping: nothing is stored any more")
        future: asyncio.Future[T] = self._loop.create_future()
        self._inbox.put(_Ticket(operation, future, then))
        return await future

    async def close(self) -> None:
        """Commit what is queued and end the thread."""
        self._closed = True
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _work(self) -> None:
        while (first := self._next()) is not None:
            group, is_last = self._gather(first)
            started = time.perf_counter()
            self._commit(group)
            self._has_failed = _trouble_of(group) != ""
            self._send_back(group, time.perf_counter() - started)
            if is_last:
                return

    def _next(self) -> _Ticket | None:
        """What comes next; while nothing can be stored and nobody asks, an attempt of our own."""
        try:
            return self._inbox.get(timeout=PROBE_SECONDS if self._has_failed else None)
        except queue.Empty:
            return _Ticket(lambda connection: try_to_store(connection, self._folder), None, None)

    def _gather(self, first: _Ticket) -> tuple[list[_Ticket], bool]:
        group = [first]
        with contextlib.suppress(queue.Empty):
            while len(group) < _LARGEST_GROUP:
                ticket = self._inbox.get_nowait()
                if ticket is None:
                    return group, True
                group.append(ticket)
        return group, False

    def _commit(self, group: list[_Ticket]) -> None:
        try:
            self._files.require_in_place()
            # as `commit`, waits for the loop once, `execute` four times
            self._connection.executescript("BEGIN IMMEDIATE")
        except (sqlite3.Error, StorageFull) as error:  # nobody's fault: trying each alone would wait as often
            for ticket in group:
                ticket.error = of_writing(error)
            return
        try:
            self._execute(group)
            self._connection.commit()
        except BaseException as error:  # whatever it was, the next transaction must find no open one
            with contextlib.suppress(sqlite3.Error):  # else the thread ends, and everybody waits for ever
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            self._blame(group, error)

    def _execute(self, group: list[_Ticket]) -> None:
        for kind, alike in itertools.groupby(group, lambda ticket: type(ticket.operation)):
            tickets = list(alike)
            if issubclass(kind, Joint):
                operations: list[Any] = [ticket.operation for ticket in tickets]
                kind.join(self._connection, operations)
                continue
            for ticket in tickets:
                ticket.result = ticket.operation(self._connection)

    def _blame(self, group: list[_Ticket], error: BaseException) -> None:
        if len(group) == 1:
            group[0].error = of_writing(error)
            return
        for ticket in group:
            self._commit([ticket])

    def _send_back(self, group: list[_Ticket], seconds: float) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
            self._loop.call_soon_threadsafe(self._deliver, group, seconds)

    def _deliver(self, group: list[_Ticket], seconds: float) -> None:
        self._on_commit(len(group), seconds)
        for ticket in group:
            if isinstance(ticket.error, Damaged):
                self._trouble.note_damage(ticket.error)
        self._trouble.note(_trouble_of(group), time.monotonic())
        for ticket in group:
            _settle(ticket)


def _trouble_of(group: list[_Ticket]) -> str:
    """Why one of them could not be stored, if it is not its own fault."""
    errors = (one.error for one in group if not isinstance(one.error, Damaged))
    return next((str(error) for error in errors if isinstance(error, StorageFull | Unavailable)), "")


def _settle(ticket: _Ticket) -> None:
    if ticket.error is None and ticket.then is not None:
        try:
            ticket.then(ticket.result)
        except Exception as error:  # memory fell behind the database: who waits must hear of it, the others go on
            log.exception("what follows a commit failed")
            ticket.error = error
    if ticket.future is None or ticket.future.done():
        return
    if ticket.error is not None:
        ticket.future.set_exception(ticket.error)
    else:
        ticket.future.set_result(ticket.result)


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=5.0, cached_statements=256
        )
    except sqlite3.Error as error:  # no permission: sqlite3 says no more than "unable to open database file"
        raise of_opening(path, error) from error
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -8000")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")  # pages, 16 MB: most are written again before that
        require_old_enough(connection, _way_back(path))
        if schema_of(connection) == 0:  # also where a database was, and is empty or gone
            log.info("a new database, nothing is known of earlier jobs", extra={"path": str(path)})
        keep_before_migration(connection, path)
        migrate(connection)
        require_writable(connection)
    except sqlite3.Error as error:
        connection.close()
        raise of_opening(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _way_back(path: Path) -> str:
    copy = newest_copy(path)
    return f", or go back with `qpud restore {copy}`, which loses what came after" if copy else ""
