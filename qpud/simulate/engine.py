"""The discrete-event run: sessions of a trace against the daemon's own mind, in virtual time.

What decides is `core.turns` and `core.book`, the very code of the daemon, called in the daemon's order. This file
keeps the clock, lets the sessions act and the machines run, and tells `tally.py` what happened.

Of one moment, what sessions do comes before what slices end: a job that is submitted as a slice ends takes part in the
decision. What a session does because a slice ended comes after that decision, as in the daemon, which has decided
before the client has its answer.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Any

from qpud.core import turns
from qpud.core.bars import freed
from qpud.core.book import Book
from qpud.core.errors import BadRequest
from qpud.core.job import Job, Reason
from qpud.core.order import Rule
from qpud.core.plan import tier
from qpud.core.policy import Policy
from qpud.core.session import Session
from qpud.core.slices import Charge, Slice
from qpud.core.terms import FairShareBy
from qpud.simulate.machine import Machine
from qpud.simulate.player import Player, session_of
from qpud.simulate.tally import Contender, Flown, JobTally, SessionTally, Tally
from qpud.simulate.trace import Classical, SessionTrace, Shots

Event = tuple[float, int, int, Callable[[Any], None], Any]  # at, rank, number, what, of whom

_SESSION, _MACHINE = 0, 1  # ranks of one moment


class Owner:
    """A job's own: what to tell when it gets on."""

    __slots__ = ("contender", "player", "tally")

    def __init__(self, player: Player, tally: JobTally, contender: Contender) -> None:
        self.player = player
        self.tally = tally
        self.contender = contender


class Simulation:
    """One run of a trace under one policy.

    Args:
        policy: In force from beginning to end; its ShotRate and SetupSeconds are those of the machines too.
        trace: The sessions.
        rule: The site's own scheduler, if the policy names one.
        keeps_slices: Whether `tally.flown` shall hold each slice, which a plot needs.

    Raises:
        BadRequest: The trace names a queue or resource that the policy does not have.
    """

    def __init__(
        self,
        policy: Policy,
        trace: Sequence[SessionTrace],
        *,
        rule: Rule | None = None,
        keeps_slices: bool = False,
    ) -> None:
        used = resources_of(trace, policy)
        began = min(line.at for line in trace)
        self.tally = Tally(used, list(policy.queues), began)
        self._policy = policy
        self._book = Book(policy, rule)
        self._machines = {name: Machine(policy.resources[name]) for name in used}
        self._keeps_slices = keeps_slices
        self._now = began
        self._events: list[Event] = []
        self._number = 0
        self._stirred: dict[str, None] = {}  # resources that may have something to decide, each once
        self._owners: dict[int, Owner] = {}
        self._users: dict[str, int] = {}
        self._last_job = 0
        self._last_slice = 0
        for line in trace:
            self._at(line.at, _SESSION, self._open, line)

    def run(self, until_seconds: float = math.inf) -> Tally:
        """Run until every session has ended, or so many seconds after the first one's opening."""
        end, events = self.tally.began_at + until_seconds, self._events
        while events and events[0][0] <= end:
            at, _, _, act, of_whom = heapq.heappop(events)
            self._now = at
            act(of_whom)
            if self._stirred and (not events or events[0][:2] > (at, _SESSION)):
                self._attend()
        self._close(end if events else self._over_at())
        return self.tally

    def _over_at(self) -> float:
        """When the last session ended: a slice that was cut has left the event of its own end behind."""
        return max(self._now if one.ended_at is None else one.ended_at for one in self.tally.sessions)

    def _at(self, at: float, rank: int, act: Callable[[Any], None], of_whom: object) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, rank, self._number, act, of_whom))

    def _close(self, now: float) -> None:
        for machine in self._machines.values():
            if machine.flying is not None:
                self.tally.resources[machine.name].busy_seconds += now - machine.started_at
        self.tally.close(now)

    # -- sessions
    def _open(self, line: SessionTrace) -> None:
        session = session_of(line, self._users.setdefault(line.user, 1000 + len(self._users)))
        tally = SessionTally(session, self._now)
        self.tally.sessions.append(tally)
        self._book.add_session(session)
        self._go_on(Player(line, session, tally))

    def _go_on(self, player: Player) -> None:
        """Take the next step, or end the session."""
        step = player.step()
        if step is None:
            self._book.remove_session(player.session.id)
            self._stirred.update(dict.fromkeys(self._machines))  # it may have held one
            player.tally.close(self._now)
        elif isinstance(step, Classical):
            self._at(self._now + step.seconds, _SESSION, self._go_on, player)
        else:
            player.pending = len(step.jobs)
            for shots in step.jobs:
                if shots.after:
                    self._at(self._now + shots.after, _SESSION, self._submit_later, (player, shots))
                else:
                    self._submit(player, shots)

    def _submit_later(self, what: tuple[Player, Shots]) -> None:
        self._submit(*what)

    def _submit(self, player: Player, shots: Shots) -> None:
        job = self._job(player, shots)
        tally = JobTally(job.queue, self._now)
        self.tally.jobs.append(tally)
        owner = self._owners[job.id] = Owner(player, tally, self._contender(player.session, job))
        owner.contender.submit(self._now)
        player.tally.unfinished += 1
        player.tally.settle(self._now)
        self._book.add_job(job)
        self._stirred[job.resource] = None

    def _job(self, player: Player, shots: Shots) -> Job:
        line = player.line
        self._last_job += 1
        register = shots.register or f"of session {line.id}"
        return Job(
            id=self._last_job,
            uid="",
            session_id=line.id,
            user_id=player.session.user_id,
            queue=line.queue,
            resource=shots.resource or line.resource or self._policy.default_resource,
            sequence_hash=register,
            register_hash=register,
            shots=shots.shots,
            submitted_at=self._now,
        )

    def _contender(self, session: Session, job: Job) -> Contender:
        """Who is entitled: by FairShareBy the session by its units, the user, or the account by its Shares."""
        name, weight = session.id, float(session.share)
        if self._policy.daemon.fair_share_by is FairShareBy.USER:
            name, weight = session.user, 1.0
        elif self._policy.daemon.fair_share_by is FairShareBy.ACCOUNT:
            account = self._policy.accounts.get(session.account or "")
            name, weight = session.account or "-", account.shares if account else 1.0
        return self.tally.contender(job.resource, tier(job, self._policy.queues), name, weight)

    # -- machines
    def _attend(self) -> None:
        """What changed may start an idle resource, or cut the slice of a busy one."""
        stirred, self._stirred = self._stirred, {}
        for name in stirred:
            machine = self._machines[name]
            if machine.flying is None:
                self._decide(machine, None)
            elif machine.ends_at > self._now:
                self._interrupt(machine)

    def _interrupt(self, machine: Machine) -> None:
        wanted = turns.interruption(self._book, machine.name, self._now)
        if wanted is not None and machine.flying is not None:
            self._at(max(wanted.at, self._now), _MACHINE, self._cut, (machine, machine.flying.id))

    def _cut(self, which: tuple[Machine, int]) -> None:
        machine, slice_id = which
        if machine.flying is None or machine.flying.id != slice_id or machine.is_cut:
            return
        if turns.interruption(self._book, machine.name, self._now) is not None:
            machine.cut(self._now)
            self._at(machine.ends_at, _MACHINE, self._land, which)

    def _land(self, which: tuple[Machine, int]) -> None:
        machine, slice_id = which
        if machine.flying is None or machine.flying.id != slice_id or self._now < machine.ends_at:
            return  # it was cut, and has landed or will
        is_cut = machine.is_cut
        ended, outcome = machine.land()
        landing = turns.land(self._book, ended, outcome, attempts=0, stopping=None, now=self._now, is_cut=is_cut)
        job = landing.verdict.job
        owner = self._owners[job.id]
        self._count(machine, owner, landing.charge)
        if not self._decide(machine, job) and self._book.pending[machine.name]:
            self._decide(machine, None)  # as the runner does: what ended may have barred what waits
        if job.is_terminal:
            self._stirred.update(dict.fromkeys(name for name in freed(self._book, job) if name in self._machines))
            self._end_job(job, owner)

    def _decide(self, machine: Machine, ended: Job | None) -> bool:
        """One boundary: `ended` is the job after its slice, None if the resource was idle. Whether a slice started."""
        name, book = machine.name, self._book
        current = None if ended is None or ended.is_terminal else ended
        choice = turns.decide(book, name, current, self._now, machine.shots_for)
        book.claim(name, None if choice is None else choice.job.id)
        if ended is not None:
            book.update_job(ended)
            was_taken = ended.is_terminal and ended.reason is Reason.PREEMPTION
            self.tally.resources[name].preemptions += was_taken or (choice is not None and choice.yielding is not None)
        if choice is not None:
            self._start(machine, turns.begin(book, name, choice.job.id, self._now), choice.shots)
        book.leave(name)
        return choice is not None

    def _start(self, machine: Machine, job: Job, shots: int) -> None:
        self._last_slice += 1
        one = Slice(
            id=self._last_slice,
            job_id=job.id,
            number=0,
            resource=machine.name,
            tag="",
            shots=shots,
            first_shot=job.shots_done,
            seed=0,
            intended_at=self._now,
        )
        machine.start(one, job, self._now)
        self._at(machine.ends_at, _MACHINE, self._land, (machine, one.id))
        owner = self._owners[job.id]
        clock = owner.contender.clock
        clock.advance(self._now)
        clock.is_running = True
        session = owner.player.tally
        session.flying += 1
        session.settle(self._now)
        if owner.tally.started_at is None:
            owner.tally.started_at = self._now

    # -- counting
    def _count(self, machine: Machine, owner: Owner, charge: Charge) -> None:
        tally, session, clock = self.tally.resources[machine.name], owner.player.tally, owner.contender.clock
        tally.slices += 1
        tally.shots += charge.shots
        tally.busy_seconds += self._now - machine.started_at
        tally.setup_seconds += min(machine.setup, self._now - machine.started_at)
        tally.wasted_shots += charge.wasted_shots
        clock.advance(self._now)
        clock.is_running = False
        owner.contender.served_seconds += charge.qpu_seconds
        owner.tally.qpu_seconds += charge.qpu_seconds
        session.qpu_seconds += charge.qpu_seconds
        session.flying -= 1
        session.settle(self._now)
        if self._keeps_slices:
            self.tally.flown.append(
                Flown(machine.name, owner.tally.queue, machine.started_at, self._now, machine.setup)
            )

    def _end_job(self, job: Job, owner: Owner) -> None:
        del self._owners[job.id]
        owner.tally.ended_at = self._now
        owner.contender.end(self._now)
        player = owner.player
        player.tally.unfinished -= 1
        player.tally.settle(self._now)
        player.pending -= 1
        if player.pending == 0:
            self._go_on(player)


def resources_of(trace: Sequence[SessionTrace], policy: Policy) -> list[str]:
    """The resources that a trace uses, in the policy's order.

    Raises:
        BadRequest: It names a queue or resource that the policy does not have.
    """
    used: set[str] = set()
    for line in trace:
        if line.queue not in policy.queues:
            have = ", ".join(policy.queues)
            raise BadRequest(f"session {line.id} is of queue {line.queue}, the policy has the queues {have}")
        used |= line.resources(policy.default_resource)
    if unknown := sorted(used - set(policy.resources)):
        have = ", ".join(policy.resources)
        raise BadRequest(f"the trace uses resource {unknown[0]}, the policy has the resources {have}")
    return [name for name in policy.resources if name in used]
