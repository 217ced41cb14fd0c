"""Verbs on what is on record: where the time of jobs went, and all that another run of a job needs."""

from __future__ import annotations

import msgspec

from qpud.core import verbs
from qpud.core.errors import BadRequest, Conflict, NotFound
from qpud.core.identity import Identity
from qpud.core.profile import Profile, profile
from qpud.core.rehearsal import Rehearsal
from qpud.service.jobs import JobVerbs
from qpud.store import queries, records

MOST_PROFILED = 1000  # jobs


class RecordVerbs(JobVerbs):
    """Profiles and bundles."""

    async def profile(self, who: Identity, jobs: tuple[str, ...], session: str | None) -> Profile:
        """Where the time of jobs went, or of a session's newest 1000 jobs.

        Raises:
            BadRequest: Neither, both, or more than 1000 jobs.
            NotFound: No such job or session, or another user's.
        """
        if bool(jobs) == (session is not None):
            raise BadRequest("a profile is of jobs or of one session: name either")
        if session is not None:
            return await self._profile_of_session(who, session)
        if len(jobs) > MOST_PROFILED:
            raise BadRequest(f"{len(jobs)} jobs in one profile: 1 … {MOST_PROFILED} are possible")
        ids = tuple([(await self._job(who, ref)).id for ref in jobs])
        return profile(await records.times_of_jobs(self._context.store, ids), self._context.clock())

    async def _profile_of_session(self, who: Identity, ref: str) -> Profile:
        found = await self._session(who, ref)
        if not who.may_see(found.user_id):  # root by munge may open for others, and see nothing
            raise NotFound(f"session {ref[:36]} does not exist")
        jobs = await records.times_of_session(self._context.store, found.id, MOST_PROFILED)
        return profile(jobs, self._context.clock(), found.opened_at, found.closed_at)

    async def bundle(self, who: Identity, ref: str) -> verbs.Bundle:
        """All that is stored of an ended job, but tokens and sessions.

        Raises:
            NotFound: No such job, or another user's.
            Conflict: It has not ended.
        """
        job = await self._job(who, ref)
        if not job.is_terminal:
            raise Conflict(f"job {job.id} is {job.state}: only a job that has ended can be bundled")
        store = self._context.store
        result = await self.result(who, str(job.id))
        text, _variables, _seed = await queries.program(store, job.id)
        session = await queries.session(store, job.session_id)
        return verbs.Bundle(
            result=result,
            sequence=text,
            spec=await records.spec(store, result.spec_hash) if result.spec_hash else None,
            slices=await records.slices_with_counts(store, job.id),
            story=[_without(job.session_id, line) for line in await self.job_logs(who, str(job.id))],
            rehearsal=_told(session.rehearsal if session else None),
        )


def _without(session_id: str, line: verbs.LogLine) -> verbs.LogLine:
    return verbs.LogLine(at=line.at, text=line.text.replace(f", session {session_id}", ""))


def _told(asked: Rehearsal | None) -> dict[str, object]:
    return {} if asked is None else msgspec.to_builtins({**msgspec.structs.asdict(asked), "faults": asked.faults.text})
