"""The store: one writer, two read-only connections, and what the daemon loads at start."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import msgspec

from qpud.core.batch import Batch
from qpud.core.job import Job
from qpud.core.reservations import Reservation
from qpud.core.session import Session
from qpud.core.slices import Slice
from qpud.store.rows import (
    BATCH_COLUMNS,
    JOB_COLUMNS,
    RESERVATION_COLUMNS,
    SESSION_COLUMNS,
    SLICE_COLUMNS,
    Row,
    batch_from,
    job_from,
    reservation_from,
    session_from,
    slice_from,
)
from qpud.store.trouble import Damaged, of_reading
from qpud.store.writer import Operation, Writer

T = TypeVar("T")


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that starts nothing: drained, or down, which also cuts its slice in flight."""

    reason: str
    is_down: bool


class Degradation(msgspec.Struct, frozen=True, kw_only=True):
    """A resource of which Slurm does not give out some units, of 10."""

    units: int
    reason: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything unfinished, as found at start."""

    sessions: list[Session]
    tokens: list[tuple[bytes, str]]
    jobs: list[Job]
    batches: list[Batch]
    in_flight: list[Slice]
    drains: dict[str, Drain]
    degradations: dict[str, Degradation]
    reservations: list[Reservation]
    last_job_id: int
    last_slice_id: int


class Store:
    """SQLite behind three doors. Use `await Store.open(...)`.

    `write` takes whole operations to the one writer; `rows` reads committed data and never waits for the writer;
    `long_rows` does so in a thread of its own, so that nobody else waits for a year's accounting. `aside` is for the
    daemon's own chores, for which no report should wait either.
    """

    def __init__(
        self, writer: Writer, reader: aiosqlite.Connection, reporter: aiosqlite.Connection, address: str
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._reporter = reporter
        self._address = address

    @classmethod
    async def open(cls, path: Path, on_commit: Callable[[int, float], None] = lambda _number, _seconds: None) -> Store:
        """Open the database, creating and migrating it if need be.

        Raises:
            Unavailable: SQLite is too old, the database is newer than this qpud, damaged, or not to be written.
        """
        writer = Writer(path, on_commit)
        address = f"file:{path}?mode=ro"
        reader, reporter = [await aiosqlite.connect(address, uri=True, isolation_level=None) for _ in range(2)]
        return cls(writer, reader, reporter, address)

    async def close(self) -> None:
        """Commit what is queued and close all doors."""
        await self._reader.close()
        await self._reporter.close()
        await self._writer.close()

    async def write(self, operation: Operation[T], then: Callable[[T], None] | None = None) -> T:
        """Commit one operation durably; see `Writer.run`."""
        return await self._writer.run(operation, then)

    @property
    def trouble(self) -> str:
        """Why the last write could not be stored, empty once one could; or that the database is damaged."""
        return self._writer.trouble

    async def rows(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[Row]:
        """All rows of a SELECT, in one hop to the reader's thread."""
        return await self._rows(self._reader, statement, parameters)

    async def long_rows(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[Row]:
        """All rows of a SELECT that may take seconds; one at a time."""
        return await self._rows(self._reporter, statement, parameters)

    async def _rows(self, door: aiosqlite.Connection, statement: str, parameters: tuple[Any, ...]) -> list[Row]:
        """Raises: Unavailable: the database is damaged, or cannot be read now."""
        try:
            return list(await door.execute_fetchall(statement, parameters))
        except sqlite3.Error as error:
            told = of_reading(error)
            if isinstance(told, Damaged):
                self._writer.note_damage(told)
            raise told from error

    async def aside(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[Row]:
        """All rows of a SELECT that may take a minute, over a connection of its own; who stops waiting interrupts it.

        Raises:
            Unavailable: The database cannot be read, or there is no room for what SQLite notes meanwhile.
        """
        try:
            async with aiosqlite.connect(self._address, uri=True, isolation_level=None) as reader:
                try:
                    return await self._rows(reader, statement, parameters)
                except asyncio.CancelledError:
                    await reader.interrupt()
                    raise
        except sqlite3.Error as error:
            raise of_reading(error) from error

    async def load(self) -> Snapshot:
        """Read everything unfinished."""
        return Snapshot(
            sessions=await self._open_sessions(),
            tokens=[(row[0], row[1]) for row in await self.rows("SELECT hash, session_id FROM tokens")],
            jobs=await self._unfinished_jobs(),
            batches=await self._open_batches(),
            in_flight=await self._slices_in_flight(),
            drains=await self._drains(),
            degradations=await self._degradations(),
            reservations=await self._reservations(),
            last_job_id=(await self.rows("SELECT coalesce(max(id), 0) FROM jobs"))[0][0],
            last_slice_id=(await self.rows("SELECT coalesce(max(id), 0) FROM slices"))[0][0],
        )

    async def _drains(self) -> dict[str, Drain]:
        rows = await self.rows("SELECT resource, reason, is_down FROM drains")
        return {row[0]: Drain(reason=row[1], is_down=bool(row[2])) for row in rows}

    async def _degradations(self) -> dict[str, Degradation]:
        rows = await self.rows("SELECT resource, units, reason FROM degradations")
        return {row[0]: Degradation(units=row[1], reason=row[2]) for row in rows}

    async def _reservations(self) -> list[Reservation]:
        rows = await self.rows(f"SELECT {RESERVATION_COLUMNS} FROM reservations ORDER BY starts_at")  # noqa: S608  constants
        return [reservation_from(row) for row in rows]

    async def _open_sessions(self) -> list[Session]:
        # last_used_at moves with each job in memory only: read it back from the jobs
        rows = await self.rows(
            f"SELECT {SESSION_COLUMNS} FROM sessions WHERE closed_at IS NULL ORDER BY opened_at"  # noqa: S608  constants
        )
        used = {
            session_id: used_at
            for session_id, used_at in await self.rows(
                "SELECT s.id, max(coalesce(j.ended_at, j.submitted_at)) FROM sessions s"
                " JOIN jobs j ON j.session_id = s.id WHERE s.closed_at IS NULL GROUP BY s.id"
            )
        }
        sessions = [session_from(row) for row in rows]
        return [
            msgspec.structs.replace(session, last_used_at=max(session.last_used_at, used.get(session.id, 0.0)))
            for session in sessions
        ]

    async def _open_batches(self) -> list[Batch]:
        # last_used_at moves in memory only, as a session's
        rows = await self.rows(f"SELECT {BATCH_COLUMNS} FROM batches WHERE closed_at IS NULL")  # noqa: S608  constants
        used = {
            batch_id: used_at
            for batch_id, used_at in await self.rows(
                "SELECT b.id, max(coalesce(j.ended_at, j.submitted_at)) FROM batches b"
                " JOIN jobs j ON j.batch_id = b.id WHERE b.closed_at IS NULL GROUP BY b.id"
            )
        }
        batches = [batch_from(row) for row in rows]
        return [
            msgspec.structs.replace(batch, last_used_at=max(batch.last_used_at, used.get(batch.id, 0.0)))
            for batch in batches
        ]

    async def _unfinished_jobs(self) -> list[Job]:
        rows = await self.rows(
            f"SELECT {JOB_COLUMNS} FROM jobs WHERE state IN ('PENDING', 'RUNNING') ORDER BY id"  # noqa: S608  constants
        )
        return [job_from(row) for row in rows]

    async def _slices_in_flight(self) -> list[Slice]:
        rows = await self.rows(
            f"SELECT {SLICE_COLUMNS} FROM slices WHERE state IN ('INTENT', 'RUNNING', 'UNKNOWN')"  # noqa: S608  constants
        )
        return [slice_from(row) for row in rows]
