"""The accounting report: what was used, grouped as a site bills it. `store/ledger.py` counts, the dialects show."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import date
from difflib import get_close_matches

import msgspec

from qpud.core.errors import BadRequest

DEFAULT_ROWS = 1000
MOST_ROWS = 10_000
"""Rows of one page."""


class Group(enum.StrEnum):
    """What a report may be grouped by, in any combination."""

    DAY = "day"  # UTC, of the end of the slice
    USER = "user"
    ACCOUNT = "account"
    SLURM_JOB = "slurm_job"  # with all sessions that `qpud run` opened in it
    SESSION = "session"
    JOB = "job"
    QUEUE = "queue"
    RESOURCE = "resource"


DEFAULT_GROUPS = (Group.DAY, Group.USER)


def groups(words: Iterable[str]) -> tuple[Group, ...]:
    """Read what to group by; a word said twice counts once.

    Raises:
        BadRequest: A word is no group; names the nearest one.
    """
    return tuple(dict.fromkeys(_group(word) for word in words))


def _group(word: str) -> Group:
    said = word.strip().lower().replace("-", "_")
    if said in set(Group):
        return Group(said)
    raise BadRequest(f"a report cannot be grouped by {word[:40]!r}: {hint(said, Group)}")


def hint(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that refuses a name: the nearest valid one, or all of them."""
    names = sorted(str(one) for one in known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]}?"
    shown = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
    return f"there are {shown}" if names else "there are none that you may see"


class ReportFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which slices to report and how. Empty tuples mean any; times are seconds since the epoch, UTC."""

    by: tuple[Group, ...] = DEFAULT_GROUPS
    user_ids: tuple[int, ...] = ()
    accounts: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    slurm_jobs: tuple[str, ...] = ()
    start: float | None = None  # slices that ended then or later
    end: float | None = None  # slices that ended before
    limit: int = DEFAULT_ROWS
    offset: int = 0


class Charges(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over slices. Times are seconds since the epoch, UTC; None where there is no slice.

    Jobs that ran in several rows count in each of them, and so does their wait.
    """

    jobs: int
    slices: int
    shots: int  # obtained
    qpu_seconds: float  # charged, set-up included
    setup_seconds: float
    wasted_shots: int  # made and thrown away when a slice was cut: charged to nobody
    wasted_seconds: float
    wait_seconds: float  # from submission to first slice, summed over jobs
    submitted_at: float | None  # of the first job
    started_at: float | None  # of the first slice
    ended_at: float | None  # of the last slice


class ReportRow(msgspec.Struct, frozen=True, kw_only=True):
    """One group and its charges. What the report is not grouped by is absent from `key`."""

    key: dict[Group, int | str | date | None]
    charges: Charges


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Some rows in the order of their keys, and the sums over all rows, also those of other pages."""

    rows: list[ReportRow]
    total: Charges
    next: int | None  # the offset of the next page; None on the last
