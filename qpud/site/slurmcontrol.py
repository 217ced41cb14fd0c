"""What qpud does to Slurm, by `scontrol` and only with SlurmControl = yes; nothing else in qpud changes it.

Each action is one process with its time, one after the other, ten a second at most, and is handed to whoever keeps the
record. A value is one word of an argument vector and never a shell's; it is checked here, so that none can become
another option or another line, whoever passes it. Who may ask for an action is for the caller to decide.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from qpud.core.errors import BadRequest
from qpud.core.slurm import SlurmAway, SlurmForbidden, SlurmRefused
from qpud.site.slurmcommand import Answer, Commands

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 8.0
"""For one action: it waits for slurmctld's locks. Without slurmdbd, slurmctld takes 5 s to refuse a change of a
job that has shrunk: that must not look like a Slurm that is away."""
PAUSE_SECONDS = 0.1
"""Between the beginnings of two actions at least."""
LONGEST_COMMENT = 250

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LICENSES = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_.@/-]*:[1-9][0-9]{0,8}(,[A-Za-z0-9_][A-Za-z0-9_.@/-]*:[1-9][0-9]{0,8})*"
)
_PARTITION_STATES = ("UP", "DOWN")
_LARGEST_JOB = 2**32 - 1
_NO_OPERATOR = ("Invalid user id", "permission denied")
_NO_RESERVATIONS = "No reservations in the system"


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """One action and what came of it."""

    by: str
    """Whose wish it was: a user, or qpud."""
    action: str
    """One of core.slurm.ACTIONS."""
    target: str
    """A reservation, a partition, or `Slurm job 17`."""
    detail: str
    """What it was set to."""
    outcome: str
    """One of core.slurm.OUTCOMES."""
    why: str = ""
    """Slurm's words, if it did not do it."""


class SlurmControl:
    """Acts on one cluster, as the daemon's own user: root, SlurmUser, or an operator of Slurm.

    Partitions are an administrator's (slurmctld, validate_super_user); the rest is an operator's.

    Args:
        conf: slurm.conf; None for Slurm's own.
        pulse: Monotonic seconds.
        record: Told of each action that Slurm did or refused, and of each that it did not answer.
    """

    def __init__(
        self, conf: Path | None, pulse: Callable[[], float], record: Callable[[Deed], Awaitable[None]]
    ) -> None:
        self._commands = Commands(conf, pulse, at_once=1, patience=PATIENCE_SECONDS)
        self._pulse = pulse
        self._record = record
        self._next_at = 0.0
        self._complained: dict[tuple[str, str], str] = {}

    @property
    def is_away(self) -> bool:
        """Whether Slurm did not answer when it was told something last."""
        return self._commands.is_away

    # -- jobs
    async def release(self, number: int, by: str) -> None:
        """Release a held Slurm job; that it is `by`'s own is for the caller to check.

        Raises:
            SlurmAway: No answer; it may be released all the same.
            SlurmRefused: Slurm did not do it, and why.
        """
        await self._act(by, "release", f"Slurm job {_job(number)}", "", "release", str(number))

    async def comment(self, number: int, text: str, by: str = "qpud") -> None:
        """Set the admin comment of a Slurm job, which its owner cannot change. Raises: as `release`."""
        if len(text) > LONGEST_COMMENT or not text.isascii() or not text.isprintable():
            raise BadRequest(f"a comment of {len(text)} characters is not one line of at most {LONGEST_COMMENT}")
        target = f"Slurm job {_job(number)}"
        await self._act(by, "comment", target, text, "update", f"JobId={number}", f"AdminComment={text}")

    # -- reservations and partitions
    async def reservations(self) -> dict[str, str]:
        """The licences of every reservation by its name, which operators gave it. Raises: SlurmAway, SlurmRefused."""
        answer = await self._commands.ask(self._commands.run("scontrol", "--oneliner", "show", "reservation"))
        if answer.code != 0 and _NO_RESERVATIONS not in answer.out + answer.error:
            raise SlurmRefused(f"Slurm does not show its reservations: {answer.complaint}")
        rows = [_fields(line) for line in answer.out.splitlines()]
        return {row["ReservationName"]: row.get("Licenses", "") for row in rows if "ReservationName" in row}

    async def reserve(self, name: str, licenses: str, by: str = "qpud") -> None:
        """Take licences (`qpu:8`) out of reach from now on, also those in use: running jobs go on, new ones wait.

        Raises: as `release`.
        """
        what = (f"ReservationName={_name(name)}", f"Licenses={_licenses(licenses)}", "Flags=LICENSE_ONLY")
        when = ("StartTime=now", "Duration=UNLIMITED", "Users=root")
        await self._act(by, "reserve", name, licenses, "create", "reservation", *what, *when)

    async def change_reservation(self, name: str, licenses: str, by: str = "qpud") -> None:
        """Give a reservation other licences. Raises: as `release`."""
        what = (f"ReservationName={_name(name)}", f"Licenses={_licenses(licenses)}")
        await self._act(by, "change-reservation", name, licenses, "update", *what)

    async def unreserve(self, name: str, by: str = "qpud") -> None:
        """Delete a reservation. Raises: as `release`."""
        await self._act(by, "unreserve", name, "", "delete", f"ReservationName={_name(name)}")

    async def partitions(self) -> dict[str, str]:
        """The state of every partition by its name: UP, DOWN, DRAIN, INACTIVE. Raises: SlurmAway, SlurmRefused."""
        answer = await self._commands.ask(self._commands.run("scontrol", "--all", "--oneliner", "show", "partition"))
        if answer.code != 0:
            raise SlurmRefused(f"Slurm does not show its partitions: {answer.complaint}")
        rows = [_fields(line) for line in answer.out.splitlines()]
        return {row["PartitionName"]: row.get("State", "") for row in rows if "PartitionName" in row}

    async def set_partition(self, name: str, state: str, by: str = "qpud") -> None:
        """Let a partition start jobs (UP) or not (DOWN); running ones go on. Raises: as `release`."""
        if state not in _PARTITION_STATES:
            raise BadRequest(f"partition state {state[:20]!r} is none of {', '.join(_PARTITION_STATES)}")
        what = (f"PartitionName={_name(name)}", f"State={state}")
        await self._act(by, "set-partition", name, state, "update", *what)

    # -- parts
    async def _act(self, by: str, action: str, target: str, detail: str, *arguments: str) -> None:
        deed = Deed(by=by, action=action, target=target, detail=detail, outcome="done")
        try:
            answer = await self._commands.ask(self._paced("scontrol", *arguments))
        except SlurmAway as away:
            await self._record(msgspec.structs.replace(deed, outcome="away", why=away.message))
            raise
        if answer.code != 0:
            await self._refused(msgspec.structs.replace(deed, outcome="refused", why=answer.complaint))
        self._complained.pop((action, target), None)
        log.info("Slurm was told", extra=_fields_of(deed))
        await self._record(deed)

    async def _paced(self, *command: str) -> Answer:
        await asyncio.sleep(self._next_at - self._pulse())
        self._next_at = self._pulse() + PAUSE_SECONDS
        return await self._commands.run(*command)

    async def _refused(self, deed: Deed) -> None:
        """Log a refusal once for each reason: it is tried again, maybe all night. Raises: SlurmRefused."""
        key = (deed.action, deed.target)
        if self._complained.get(key) != deed.why:
            log.warning("Slurm refused", extra=_fields_of(deed))
        if len(self._complained) > 1000:
            self._complained.clear()
        self._complained[key] = deed.why
        await self._record(deed)
        sentence = f"Slurm refused to {deed.action} {deed.target}: {deed.why}"
        if any(words in deed.why for words in _NO_OPERATOR):
            rank = "administrator" if deed.action == "set-partition" else "operator"
            raise SlurmForbidden(f"{sentence} (the daemon's user must be root, SlurmUser or an {rank} of Slurm)")
        raise SlurmRefused(sentence)


def _fields_of(deed: Deed) -> dict[str, str]:
    fields = {"action": deed.action, "target": deed.target, "detail": deed.detail, "by": deed.by, "why": deed.why}
    return {name: value for name, value in fields.items() if value}


def _job(number: int) -> int:
    if not 0 < number <= _LARGEST_JOB:
        raise BadRequest(f"Slurm job {number} is outside 1 … {_LARGEST_JOB}")
    return number


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise BadRequest(
            f"{text[:64]!r} is no name that qpud gives to Slurm: letters, digits, dots, dashes, at most 128"
        )
    return text


def _licenses(text: str) -> str:
    if not _LICENSES.fullmatch(text):
        raise BadRequest(f"{text[:64]!r} is no list of licences such as qpu:10")
    return text


def _fields(line: str) -> dict[str, str]:
    """`A=1 B=2` as a mapping; no value that is read here holds a space."""
    return {name: value for name, equals, value in (word.partition("=") for word in line.split()) if equals}
