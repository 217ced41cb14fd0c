"""SELECTs over the ledger: what was used, by whom. They run beside all other reads, however long they take."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from qpud.core.report import Charges, Group, Report, ReportFilter, ReportRow
from qpud.core.tally import DaySum
from qpud.core.usage import HourlyUsage
from qpud.store.rows import Row
from qpud.store.store import Store

DAY_SECONDS = 86_400

_HOURLY = (
    "SELECT user_id, account, sum(qpu_seconds * (at - hour)) / sum(qpu_seconds) + hour, sum(qpu_seconds)"
    " FROM (SELECT user_id, account, at, CAST(at / 3600 AS INTEGER) * 3600 AS hour, qpu_seconds FROM ledger"
    " WHERE at >= ? AND qpu_seconds > 0)"
    " GROUP BY user_id, account, hour ORDER BY hour, user_id, account"
)

_BY_DAY = (
    "SELECT l.user_id, l.queue, coalesce(l.account, s.account, ''), sum(l.qpu_seconds) FROM ledger l"
    " LEFT JOIN sessions s ON s.id = l.session_id WHERE l.at >= ? GROUP BY 1, 2, 3"
)
# `qpud run` and `env` name their sessions SLURMJOB.run-XXXXXXXX and .env-XXXXXXXX: the work belongs to the Slurm job
_MARK = "instr(l.slurm_job_id, '.run-') + instr(l.slurm_job_id, '.env-')"
_SLURM_JOB = f"CASE {_MARK} WHEN 0 THEN l.slurm_job_id ELSE substr(l.slurm_job_id, 1, {_MARK} - 1) END"
_KEYS = {
    Group.DAY: f"CAST(l.at / {DAY_SECONDS} AS INTEGER)",
    Group.USER: "l.user_id",
    Group.ACCOUNT: "l.account",
    Group.SLURM_JOB: _SLURM_JOB,
    Group.SESSION: "l.session_id",
    Group.JOB: "l.job_id",
    Group.QUEUE: "l.queue",
    Group.RESOURCE: "l.resource",
}
_PER_JOB = (
    "count(*) AS slices, sum(l.shots) AS shots, sum(l.qpu_seconds) AS qpu, sum(l.setup_seconds) AS setup,"
    " sum(l.wasted_shots) AS wasted, sum(l.wasted_seconds) AS lost, j.started_at - j.submitted_at AS wait,"
    " j.submitted_at AS submitted, min(coalesce(s.started_at, s.intended_at)) AS started, max(l.at) AS ended"
)
_SUMS = (
    "count(*), coalesce(sum(slices), 0), coalesce(sum(shots), 0), coalesce(sum(qpu), 0.0), coalesce(sum(setup), 0.0),"
    " coalesce(sum(wasted), 0), coalesce(sum(lost), 0.0), coalesce(sum(wait), 0.0), min(submitted), min(started),"
    " max(ended)"
)


async def charged_since(store: Store, at: float) -> list[DaySum]:
    """QPU seconds charged from `at` (seconds since the epoch) on, per user, queue and account ("": none)."""
    rows = await store.rows(_BY_DAY, (at,))
    return [DaySum(**dict(zip(DaySum.__struct_fields__, row, strict=True))) for row in rows]


async def hourly_usage(store: Store, since: float) -> list[HourlyUsage]:
    """QPU seconds charged from `since` (seconds since the epoch) on, per user, account and hour, oldest hour first."""
    return [
        HourlyUsage(user_id=row[0], account=row[1], at=row[2], qpu_seconds=row[3])
        for row in await store.long_rows(_HOURLY, (since,))
    ]


async def report(store: Store, which: ReportFilter) -> Report:
    """Charges grouped as asked, in the order of their keys, and their sum; all of one moment."""
    where, parameters = _filter(which)
    found = await store.long_rows(
        f"SELECT 0, * FROM ({_grouped(which.by, where)} LIMIT ? OFFSET ?)"  # noqa: S608  constants
        f" UNION ALL SELECT 1, {'NULL, ' * len(which.by)}* FROM ({_grouped((), where)})"
        f" ORDER BY {', '.join(str(number + 1) for number in range(len(which.by) + 1))}",
        (*parameters, which.limit + 1, which.offset, *parameters),
    )
    rows = [_row(which.by, row[1:]) for row in found[:-1]]
    more = len(rows) > which.limit
    total = _charges(found[-1][len(which.by) + 1 :])
    return Report(rows=rows[: which.limit], total=total, next=which.offset + which.limit if more else None)


async def names(store: Store, group: Group, user_ids: tuple[int, ...]) -> list[str]:
    """The accounts, queues or resources that the ledger knows; with `user_ids`, in the rows of these users."""
    where, parameters = _filter(ReportFilter(user_ids=user_ids))
    rows = await store.long_rows(
        f"SELECT DISTINCT {_KEYS[group]} FROM ledger l WHERE {where}",  # noqa: S608  constants
        parameters,
    )
    return [row[0] for row in rows if row[0] is not None]


def _grouped(by: tuple[Group, ...], where: str) -> str:
    """One row for each key, made of one row for each key and job, so that jobs and waits count once."""
    keys = [f"k{number}" for number, _group in enumerate(by)]
    named = "".join(f"{_KEYS[group]} AS {key}, " for key, group in zip(keys, by, strict=True))
    per_job = (
        f"SELECT {named}{_PER_JOB} FROM ledger l LEFT JOIN jobs j ON j.id = l.job_id"  # noqa: S608  constants
        f" LEFT JOIN slices s ON s.id = l.slice_id WHERE {where} GROUP BY {', '.join([*keys, 'l.job_id'])}"
    )
    listed = ", ".join(keys)
    grouping = f" GROUP BY {listed} ORDER BY {listed}" if by else ""
    return f"SELECT {', '.join([*keys, _SUMS])} FROM ({per_job}){grouping}"  # noqa: S608  constants


def _filter(which: ReportFilter) -> tuple[str, tuple[Any, ...]]:
    clauses = ["1"]
    parameters: list[Any] = []
    for group, wanted in (
        (Group.USER, which.user_ids),
        (Group.ACCOUNT, which.accounts),
        (Group.QUEUE, which.queues),
        (Group.RESOURCE, which.resources),
        (Group.SESSION, which.sessions),
        (Group.SLURM_JOB, which.slurm_jobs),
    ):
        if wanted:
            clauses.append(f"{_KEYS[group]} IN ({', '.join('?' * len(wanted))})")
            parameters.extend(wanted)
    for clause, at in (("l.at >= ?", which.start), ("l.at < ?", which.end)):
        if at is not None:
            clauses.append(clause)
            parameters.append(at)
    return " AND ".join(clauses), tuple(parameters)


def _row(by: tuple[Group, ...], row: Row) -> ReportRow:
    key = dict(zip(by, row, strict=False))
    if Group.DAY in key:
        key[Group.DAY] = datetime.fromtimestamp(key[Group.DAY] * DAY_SECONDS, UTC).date()
    return ReportRow(key=key, charges=_charges(row[len(by) :]))


def _charges(row: Row) -> Charges:
    return Charges(**dict(zip(Charges.__struct_fields__, row, strict=True)))
