"""Verbs on resources and on the daemon itself: look, drain, down, resume, reconfigure, health."""

from __future__ import annotations

import asyncio
import logging

from qpud import config
from qpud.core import verbs
from qpud.core.errors import BadRequest, Conflict, QpudError, Unavailable
from qpud.core.identity import Identity, require_admin
from qpud.core.job import JobState
from qpud.core.policy import Policy
from qpud.core.session import SHARE_UNITS
from qpud.core.terms import DriverKind
from qpud.drivers.base import DeviceSpec, Fault, foresighted
from qpud.drivers.workers import WorkerFault
from qpud.service.base import Verbs
from qpud.store import admin as sql
from qpud.store.writer import Transaction

log = logging.getLogger(__name__)

STALE_HEARTBEAT_SECONDS = 30.0
FIRST_SPEC_SECONDS = 10.0


class ResourceVerbs(Verbs):
    """Resources, and the daemon."""

    @property
    def urls(self) -> tuple[str, ...]:
        """The TCP addresses that the daemon listens on, as http:// URLs."""
        return self._context.urls

    async def resources(self) -> list[verbs.ResourceView]:
        """All resources with their state."""
        return [self._view(name) for name in self.policy.resources]

    async def spec(self, resource: str | None, session_ref: str | None = None) -> DeviceSpec:
        """The current device spec; of the QPU whose place an emulator takes in that session.

        Raises:
            Unavailable: The resource never told it.
        """
        name = self._played_by(self.resource_name(resource), session_ref)
        spec = self._context.specs.get(name)
        return spec if spec is not None else await self._first_spec(name)

    async def accessible(self, resource: str | None) -> tuple[bool, str]:
        """Whether the resource takes work now, and a sentence: the wire's `is_accessible` and `message`."""
        name = self.resource_name(resource)
        flight = self._context.book.flights[name]
        state = flight.shown_state
        if state == "up":
            return True, f"{name} is accessible"
        return False, f"{name} is {state}: {flight.drained or flight.message or 'no reason was given'}"

    def slots(self, resource: str | None) -> tuple[int, int, int]:
        """Share units total (10), held by open sessions (at most 10), available."""
        self.resource_name(resource)
        used = min(SHARE_UNITS, sum(session.share for session in self._context.book.sessions.values()))
        return SHARE_UNITS, used, SHARE_UNITS - used

    async def drain(self, who: Identity, resource: str, reason: str) -> verbs.ResourceView:
        """Start nothing more on the resource, across restarts too; the slice in flight ends.

        Raises:
            Forbidden: Not an administrator on the Unix socket.
            BadRequest: No reason.
        """
        require_admin(who, f"drain {resource}")
        return await self._stop_starting(who, "drain", resource, reason)

    async def down(self, who: Identity, resource: str, reason: str) -> verbs.ResourceView:
        """Take the resource out of service, across restarts too; the slice in flight is cut.

        The shots that were obtained count, those that are left run again after a resume.

        Raises:
            Forbidden: Not an administrator on the Unix socket.
            BadRequest: No reason.
        """
        require_admin(who, f"take {resource} down")
        return await self._stop_starting(who, "down", resource, reason)

    async def degrade(self, who: Identity, resource: str, units: int, reason: str) -> verbs.ResourceView:
        """Let Slurm give out `units` of the resource's ten no more, across restarts too; sessions go on.

        Raises:
            Forbidden: Not an administrator on the Unix socket.
            BadRequest: No reason, or units outside 1 … 9.
            Conflict: Nothing would come of it: no SlurmControl, or no SlurmLicenses.
        """
        require_admin(who, f"degrade {resource}")
        name = self.resource_name(resource)
        if not 1 <= units < SHARE_UNITS:
            raise BadRequest(f"{units} units of {name} are outside 1 … {SHARE_UNITS - 1}: to stop it, drain it")
        if self._context.slurm_control is None or not self.policy.resources[name].slurm_licenses:
            raise Conflict(f"{name} has no licences that qpud may reserve: set SlurmControl and its SlurmLicenses")
        reason = _reason(reason, f"degrading {name}")
        now = self._context.clock()

        def operation(transaction: Transaction) -> None:
            sql.set_degradation(transaction, name, units, reason, who.user, now)
            sql.record(transaction, now, who.user, "degrade", name, f"{units} units: {reason}")

        await self._context.store.write(operation, lambda _none: self._set_degraded(name, units, reason))
        log.info("degraded", extra={"resource": name, "units": units, "user": who.user, "reason": reason})
        return self._view(name)

    async def resume(self, who: Identity, resource: str) -> verbs.ResourceView:
        """Undo drain, down and degrade.

        Raises:
            Forbidden: Not an administrator on the Unix socket.
            Conflict: It is neither drained nor down by an administrator's word, nor degraded.
        """
        require_admin(who, f"resume {resource}")
        name = self.resource_name(resource)
        flight = self._context.book.flights[name]
        if flight.drained is None and not flight.units_out:
            raise Conflict(f"{name} is neither drained nor taken down nor degraded")
        now = self._context.clock()

        def operation(transaction: Transaction) -> None:
            sql.clear_drain(transaction, name)
            sql.clear_degradation(transaction, name)
            sql.record(transaction, now, who.user, "resume", name)

        def then(_none: None) -> None:
            self._set_drained(name, None, is_down=False)
            self._set_degraded(name, 0, None)

        await self._context.store.write(operation, then)
        log.info("resumed", extra={"resource": name, "user": who.user})
        return self._view(name)

    async def reconfigure(self, who: Identity) -> list[str]:
        """Reload the policy file whole, or refuse it whole.

        Returns:
            Warnings: keys whose change needs a restart, and what looks unwise.

        Raises:
            Forbidden: Not an administrator on the Unix socket.
            Invalid: The file has mistakes; the policy in force stays.
        """
        require_admin(who, "reconfigure")
        try:
            notes = await self.reload(who.user)
        except QpudError as refusal:
            log.error(
                "the policy file was refused, the policy in force stays",
                extra={"user": who.user, "why": str(refusal)},
            )
            raise
        log.info("policy reloaded", extra={"user": who.user})
        return notes

    async def reload(self, user: str) -> list[str]:
        """Reload the policy file for `user`, or for a SIGHUP; see `reconfigure`."""
        context = self._context
        if context.policy_path is None:
            raise Conflict("qpud serve --dev has no policy file: start it with --config to reconfigure")
        new, notes = config.keep_running_parts(context.policy, config.load(context.policy_path))
        now = context.clock()
        await context.store.write(
            lambda transaction: sql.record(transaction, now, user, "reconfigure", str(context.policy_path)),
            lambda _none: self._apply(new),
        )
        return [*notes, *config.warnings(new)]

    def slurm_trouble(self) -> str:
        """Why Slurm does not show what it should, in a sentence; empty if it does."""
        return "; ".join(self._context.slurm_troubles.values())

    def health(self) -> verbs.Health:
        """The scheduler's heartbeat and the store's readiness."""
        age = self._context.heartbeat()
        alive = age < STALE_HEARTBEAT_SECONDS
        trouble = self._context.store.trouble if alive else f"the scheduler's loop last turned {age:.0f} s ago"
        ready = alive and not trouble and self._context.waiters.open
        return verbs.Health(alive=alive, ready=ready, heartbeat_age_seconds=age, message=trouble or "ok")

    # -- parts
    async def _stop_starting(self, who: Identity, verb: str, resource: str, reason: str) -> verbs.ResourceView:
        name = self.resource_name(resource)
        reason = _reason(reason, f"a {verb} of {name}")
        now, is_down = self._context.clock(), verb == "down"

        def operation(transaction: Transaction) -> None:
            sql.set_drain(transaction, name, reason, who.user, now, is_down=is_down)
            sql.record(transaction, now, who.user, verb, name, reason)

        await self._context.store.write(operation, lambda _none: self._set_drained(name, reason, is_down=is_down))
        log.info("resource stopped", extra={"resource": name, "by": verb, "user": who.user, "reason": reason})
        return self._view(name)

    def _played_by(self, name: str, session_ref: str | None) -> str:
        session = None if session_ref is None else self._open_session_of(session_ref)
        if session is None or session.rehearsal is None or not session.rehearsal.like:
            return name
        is_emulator = self.policy.resources[name].driver is DriverKind.EMULATOR
        return session.rehearsal.like if is_emulator else name

    async def _first_spec(self, name: str) -> DeviceSpec:
        """The spec just after the start, when the worker is still loading Pulser."""
        try:
            async with asyncio.timeout(FIRST_SPEC_SECONDS):
                return await self._context.drivers[name].spec()
        except TimeoutError:
            why = f"nothing came in {FIRST_SPEC_SECONDS:.0f} s"
        except (Fault, WorkerFault) as fault:
            why = fault.message
        raise Unavailable(f"the device spec of {name} is not known yet: {why}")

    def _apply(self, policy: Policy) -> None:
        self._context.policy = policy
        self._context.book.reorder(policy)
        self._context.metrics.cover(tuple(policy.resources), tuple(policy.queues))
        for name in policy.resources:
            self._context.wake(name)
        self._context.touch()
        self._context.reshow()
        self._context.retain()

    def _set_drained(self, name: str, reason: str | None, *, is_down: bool) -> None:
        flight = self._context.book.flights[name]
        flight.drained, flight.is_down = reason, is_down
        self._context.show_state(name)
        self._context.wake(name)

    def _set_degraded(self, name: str, units: int, reason: str | None) -> None:
        flight = self._context.book.flights[name]
        flight.degraded, flight.units_out = reason, units
        self._context.reshow()

    def _view(self, name: str) -> verbs.ResourceView:
        flight, driver = self._context.book.flights[name], foresighted(self._context.drivers.get(name))
        spec = self._context.specs.get(name)
        pending = sum(
            number
            for (resource, _queue, state), number in self._context.book.depths.items()
            if resource == name and state == JobState.PENDING
        )
        return verbs.ResourceView(
            name=name,
            driver=self.policy.resources[name].driver,
            state=flight.shown_state,
            message=flight.message or _about_checks(flight.unchecked),
            device=spec.name if spec else None,
            spec_hash=spec.hash if spec else None,
            pending=pending,
            running_job=flight.job_id,
            drained_reason=flight.drained,
            workers=driver.crew() if driver else [],
            degraded_units=flight.units_out,
            degraded_reason=flight.degraded,
        )


def _about_checks(why: str) -> str:
    return f"submissions cannot be checked: {why}" if why else ""


def _reason(text: str, what: str) -> str:
    """The text on one line. Raises: BadRequest."""
    if not (reason := " ".join(text.split())) or len(reason) > 500:
        raise BadRequest(f"{what} needs a reason of 1 … 500 characters")
    return reason
