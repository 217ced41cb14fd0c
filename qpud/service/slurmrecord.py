"""The record of what qpud did to Slurm: the audit table and a counter."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from qpud.core.errors import QpudError
from qpud.site.slurmcontrol import Deed
from qpud.store import admin as sql
from qpud.store.store import Store
from qpud.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


def recorder(store: Store, metrics: Metrics, clock: Callable[[], float]) -> Callable[[Deed], Awaitable[None]]:
    """What SlurmControl hands its deeds to. Slurm being away is counted only: nothing was done, and it is tried again.

    A full disk takes nothing back that Slurm did: then the log line is the record.
    """

    async def record(deed: Deed) -> None:
        metrics.slurm_action(deed.action, deed.outcome)
        if deed.outcome == "away":
            return
        detail = f"{deed.detail} {deed.outcome}: {deed.why}" if deed.why else f"{deed.detail} {deed.outcome}"
        what = (deed.by, f"slurm {deed.action}", deed.target, detail.strip())
        try:
            await store.write(lambda transaction: sql.record(transaction, clock(), *what))
        except QpudError as failure:
            log.warning("an action on Slurm is not on record", extra={"target": deed.target, "why": failure.message})

    return record
