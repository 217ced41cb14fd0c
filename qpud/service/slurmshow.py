"""Lets Slurm show how the QPUs are, so that new Slurm jobs wait with a reason instead of failing; running ones go on.

Level-triggered: what Slurm should show follows from the daemon's state, is compared with what it shows and corrected,
at the start, at each change and once a minute. That a mark is qpud's own is committed before it is made
(`slurm_marks`), so what a crash left is found and what others made is left alone. Slurm being away costs a retry.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from qpud.context import Context
from qpud.core.errors import QpudError
from qpud.core.slurm import SlurmAway, SlurmRefused
from qpud.core.slurmmarks import Condition, Kind, Mark, Steadiness, Step, Verb, concerns_slurm, steps, wanted
from qpud.site.slurmcontrol import SlurmControl
from qpud.store import admin as sql
from qpud.store import queries

log = logging.getLogger(__name__)

EVERY_SECONDS = 60.0
"""Between two comparisons when nothing changes: somebody may have changed Slurm by hand."""
PAUSE_SECONDS = 1.0
"""Between two comparisons at least; what changes meanwhile is one change."""
RETRY_SECONDS = 5.0
"""After Slurm did not answer."""


class SlurmShow:
    """Watches the resources for Slurm.

    Args:
        context: The parts of the daemon; its `reshow` is set here.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._changed = asyncio.Event()
        self._steady: dict[str, Steadiness] = {}
        self._is_away = False
        context.reshow = self._changed.set

    async def run(self) -> None:
        """Watch until cancelled; without SlurmControl there is nothing to do."""
        if self._context.slurm_control is None:
            await self._tell_leftovers()
            return
        while True:
            self._changed.clear()
            seconds = await self._compare_or_log(self._context.slurm_control)
            await asyncio.sleep(PAUSE_SECONDS)
            await self._until_changed(seconds)

    async def compare(self, control: SlurmControl) -> str:
        """Correct what Slurm shows.

        Returns:
            What could not be corrected, one sentence each; empty if all is well.

        Raises:
            SlurmAway: Some of it may be done.
        """
        self._observe()
        own = [Mark(Kind(kind), name) for kind, name in await queries.slurm_marks(self._context.store)]
        if not own and not concerns_slurm(self._context.policy):
            return ""
        want = wanted(self._context.policy, self._conditions())
        reservations, partitions = await control.reservations(), await control.partitions()
        found = [await self._take(control, step) for step in steps(want, reservations, partitions, own)]
        return "; ".join(trouble for trouble in found if trouble)

    async def _tell_leftovers(self) -> None:
        """SlurmControl was switched off while Slurm showed something: nobody will undo it now."""
        if left := await queries.slurm_marks(self._context.store):
            what = ", ".join(f"{kind} {name}" for kind, name in left)
            log.warning("without SlurmControl what qpud set in Slurm stays there", extra={"what": what})

    # -- one step
    async def _take(self, control: SlurmControl, step: Step) -> str:
        """Take a step; returns why it could not be taken. Raises: SlurmAway."""
        if step.verb is Verb.LEAVE:
            return _in_the_way(step.mark)
        if step.verb in (Verb.RESERVE, Verb.CLOSE):
            await self._own(step.mark)
        try:
            await _tell(control, step)
        except SlurmRefused as refusal:
            if step.verb in (Verb.RESERVE, Verb.CLOSE):
                await self._disown(step.mark)
            return refusal.message
        if step.verb in (Verb.UNRESERVE, Verb.OPEN, Verb.FORGET):
            await self._disown(step.mark)
        return ""

    async def _own(self, mark: Mark) -> None:
        now = self._context.clock()
        await self._context.store.write(lambda transaction: sql.own_mark(transaction, mark.kind, mark.name, now))

    async def _disown(self, mark: Mark) -> None:
        await self._context.store.write(lambda transaction: sql.disown_mark(transaction, mark.kind, mark.name))

    # -- how the resources are
    def _conditions(self) -> dict[str, Condition]:
        return {name: self._condition(name) for name in self._context.policy.resources}

    def _condition(self, name: str) -> Condition:
        """An administrator's word counts at once; a resource's own is told late, see `Steadiness`."""
        flight, is_well = self._context.book.flights[name], self._steadiness(name).is_well
        is_out = True if flight.drained is not None else None if is_well is None else not is_well
        return Condition(is_out=is_out, units_out=flight.units_out)

    def _observe(self) -> None:
        now = self._context.pulse()
        for name in self._context.policy.resources:
            is_well = self._context.book.flights[name].state == "up"
            if name in self._context.specs or not is_well:  # before its first word nothing is known
                self._steadiness(name).observe(is_well, now)

    def _steadiness(self, name: str) -> Steadiness:
        return self._steady.setdefault(name, Steadiness())

    # -- when
    async def _compare_or_log(self, control: SlurmControl) -> float:
        """Compare; returns the seconds until the next time."""
        was_away, self._is_away = self._is_away, False
        try:
            trouble, seconds = await self.compare(control), EVERY_SECONDS
        except SlurmAway as failure:
            trouble, seconds, self._is_away = failure.message, RETRY_SECONDS, True
        except QpudError as failure:  # a full disk, or a Slurm that shows nothing
            trouble, seconds = failure.message, EVERY_SECONDS
        self._complain(trouble, is_old=was_away and self._is_away)
        return seconds

    def _complain(self, trouble: str, *, is_old: bool) -> None:
        """Once for each reason, of which that Slurm is away is one: it is tried again, maybe all night."""
        if not trouble:
            self._context.slurm_troubles.pop("resources", None)
            return
        if not is_old and trouble != self._context.slurm_troubles.get("resources"):
            log.warning("Slurm does not show how the resources are", extra={"why": trouble})
        self._context.slurm_troubles["resources"] = trouble

    async def _until_changed(self, seconds: float) -> None:
        now = self._context.pulse()
        dues = [one.seconds_to_change(now) for one in self._steady.values()]
        seconds = min([seconds, *(due for due in dues if due is not None)])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


async def _tell(control: SlurmControl, step: Step) -> None:
    match step.verb:
        case Verb.RESERVE:
            await control.reserve(step.mark.name, step.value)
        case Verb.CHANGE:
            await control.change_reservation(step.mark.name, step.value)
        case Verb.UNRESERVE:
            await control.unreserve(step.mark.name)
        case Verb.CLOSE:
            await control.set_partition(step.mark.name, "DOWN")
        case Verb.OPEN:
            await control.set_partition(step.mark.name, "UP")


def _in_the_way(mark: Mark) -> str:
    if mark.kind is Kind.PARTITION:
        return f"Slurm has no partition {mark.name}, which SlurmPartitions names"
    return f"Slurm has a reservation {mark.name} that qpud did not make, so it is left alone: delete it"
