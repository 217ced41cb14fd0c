"""What a submission with `then_release` needs: the Slurm job checked, and a session that outlives the submitting one.

A session of a Slurm job ends with that job, and its jobs with it. So jobs that are to be followed by another Slurm job
belong to a session of their own, `after-4242` of Slurm job 4242: on the terms that Slurm vouched for, with one unit
and one node, since its licences and nodes go back to Slurm. Nobody submits with it directly, and it ends a minute
after its last job.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from weakref import WeakValueDictionary

import msgspec

from qpud.context import Context, new_uuid
from qpud.core.errors import BadRequest, Conflict, Forbidden
from qpud.core.identity import Identity
from qpud.core.job import Job
from qpud.core.session import AFTER_PREFIX, Session
from qpud.core.slurm import job_number, not_releasable
from qpud.core.verbs import JobRequest
from qpud.service.sessions import SessionVerbs

MOST_HELD = 16
"""Slurm jobs that one request may name: each is a question to Slurm."""


class HeldVerbs(SessionVerbs):
    """Held Slurm jobs."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._releasing: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    def release_turn(self, number: int) -> asyncio.Lock:
        """Who releases a Slurm job, or adds a job that it waits for, has its turn: neither sees half of the other."""
        return self._releasing.setdefault(number, asyncio.Lock())

    async def to_release(self, turns: AsyncExitStack, who: Identity, session: Session, held: set[int]) -> Session:
        """Check that the Slurm jobs can be released later; the session whose jobs they may wait for.

        Args:
            turns: Their turns are entered here, and end with it.
            who: The caller, whose they must be.
            session: With which he submits.
            held: Their numbers.

        Raises:
            Conflict: SlurmControl is off, or one is not held, or by an administrator.
            Forbidden: One is unknown or another user's.
            BadRequest: Too many of them.
            Unavailable: Slurm does not answer.
        """
        if len(held) > MOST_HELD:
            raise BadRequest(f"then_release names {len(held)} Slurm jobs in one request: at most {MOST_HELD}")
        for number in sorted(held):
            await turns.enter_async_context(self.release_turn(number))
            await self._check_held(who, number)
        return await self._outliving(session)

    async def _check_held(self, who: Identity, number: int) -> None:
        slurm, control = self._context.slurm, self._context.slurm_control
        if slurm is None or control is None:
            raise Conflict(f"Slurm job {number} cannot be released by qpud: this site has SlurmControl = no")
        hold = await slurm.hold_of(number)
        why = not_releasable(number, who.user_id, who.user, hold)
        if why and (hold is None or hold.user_id != who.user_id):
            raise Forbidden(why)
        if why:
            raise Conflict(why)

    async def _outliving(self, session: Session) -> Session:
        """The session itself if it is no Slurm job's, else the one that goes on after it."""
        number = job_number(session.slurm_job_id)
        if number is None:
            return session
        name = f"{AFTER_PREFIX}{number}"
        found = self._context.book.session_of(session.user_id, name)
        if found is not None and (found.queue, found.account) != (session.queue, session.account):
            raise Conflict(f"jobs of Slurm job {number} in queue {found.queue} are still to end: wait for them first")
        return found or await self._open_after(session, name)

    async def _open_after(self, session: Session, name: str) -> Session:
        now = self._context.clock()
        terms = {"slurm_job_id": name, "share": 1, "nodes": 1, "slurm_started_at": None}
        times = {"opened_at": now, "last_used_at": now, "expires_at": now + self.policy.daemon.session_max_lifetime}
        after = msgspec.structs.replace(session, id=new_uuid(), **terms, **times)
        try:
            return (await self._grant(after, created=True, with_token=False)).session
        except Conflict:  # two were opened at once: the other one won
            if (found := self._context.book.session_of(session.user_id, name)) is None:
                raise
            return found


def promised(asks: Sequence[JobRequest], jobs: Sequence[Job]) -> dict[int, list[int]]:
    """The ids of the jobs after whose ends a Slurm job is to be released, by its number."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for ask, job in zip(asks, jobs, strict=True):
        if isinstance(ask.then_release, int):
            found[ask.then_release].append(job.id)
    return found
