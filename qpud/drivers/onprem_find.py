"""Where is the slice with this tag? Asked of an on-prem QPU after a lost reply or a restart; None needs a proof.

1. By the id that the slice row holds, if its context carries the tag.
2. By `GET /jobs?pasqman_job_id=TAG`, which another qpud's dialect answers with a list.
3. By probing uids: they are consecutive integers from 0 or 1, and an unknown one is answered with 400 or 404.

A QPU that answers none of these leaves the slice UNKNOWN: running it again could spend its shots twice, and submitting
cancels whatever runs. Where it answers and proves nothing, a person looks there and cancels the job (`Undecided`).
"""

from __future__ import annotations

from typing import Any

from qpud.drivers.base import SliceRequest, Undecided, Unreachable
from qpud.drivers.exchange import Answer
from qpud.drivers.onprem import OnPremClient, job_path
from qpud.drivers.onprem_job import BadAnswer, QpuJob, read_job

FIRST_UIDS = 8
"""An unused QPU has none of the uids 0 to 7."""
GAP = 4
"""So many unknown uids in a row are the end."""
WINDOW = 64
"""Newest jobs that are looked at when no earlier uid is known."""
LONGEST_UID = 18
"""Digits of a uid that is a number; more are a name."""
LARGEST_UID = 2**32
"""A QPU that knows jobs beyond it knows none: it answers whatever it is asked for."""
MOST = 1000
"""Jobs that are looked at before giving up."""


class Finder:
    """Finds slices at one QPU.

    Args:
        name: The resource, for messages.
        client: Its API.
    """

    def __init__(self, name: str, client: OnPremClient) -> None:
        self._name = name
        self._client = client

    async def find(self, request: SliceRequest, newest: str | None) -> str | None:
        """The uid of the slice's job, or None if the QPU certainly has no such job.

        Args:
            request: The slice; its `device_id` is looked at first.
            newest: The newest uid known from before this slice, if any.

        Raises:
            Unreachable: No answer, or only refusals.
            Undecided: Answers that prove nothing.
        """
        if request.device_id is not None:
            job = await self.look(request.device_id)
            if job is not None and job.tag == request.tag:
                return job.uid
        listed = await self._client.get("/jobs", pasqman_job_id=request.tag)
        if listed.ok and isinstance(listed.data, list):
            mine = _with_tag(request.tag, listed.data)
            if mine or not listed.data:
                return mine[-1] if mine else None
        return await self._probe(request.tag, newest)  # it does not list, or ignores the filter

    async def look(self, uid: str) -> QpuJob | None:
        """A job, or None if the QPU says that it has no such job. Raises: Unreachable."""
        answer = await self._client.get(job_path(uid))
        if answer.ok:
            return self._read(answer.data)
        if answer.unknown:
            return None
        raise Unreachable(f"resource {self._name}: job {uid}: {self.sentence(answer)}")

    def sentence(self, answer: Answer) -> str:
        """What a refusal means, in words."""
        if answer.status in (401, 403):
            return f"it refuses our credentials ({answer.status}): check TokenFile, or user and password in Url"
        return f"it answered {answer.status}{': ' + answer.reason if answer.reason else ''}"

    def _read(self, data: Any) -> QpuJob:
        try:
            return read_job(data)
        except BadAnswer as bad:
            raise Unreachable(f"resource {self._name} reports {bad.message}") from None

    async def _probe(self, tag: str, newest: str | None) -> str | None:
        if newest is not None and not (newest.isdecimal() and len(newest) <= LONGEST_UID):
            raise self._undecided(tag, f"its job ids are not numbers (such as {newest[:40]})")
        await self._check_alive(tag)
        first = int(newest) + 1 if newest is not None else await self._first_of_window(tag)
        return None if first is None else await self._scan(tag, first)

    async def _check_alive(self, tag: str) -> None:
        """An API that knows nothing at all, say behind a wrong prefix, proves nothing."""
        answer = await self._client.get("/system/operational")
        if not answer.ok:
            raise Unreachable(
                f"resource {self._name}: nobody can tell whether it has slice {tag}: {self.sentence(answer)}"
            )

    async def _scan(self, tag: str, first: int) -> str | None:
        """Look at the jobs from `first` on, in the order of their uids, until GAP are unknown."""
        missing, nameless = 0, False
        for uid in range(first, first + MOST):
            job = await self.look(str(uid))
            if job is None:
                missing += 1
            elif job.tag == tag:
                return job.uid
            else:
                missing, nameless = 0, nameless or job.tag is None
            if missing == GAP and not nameless:
                return None
            if missing == GAP:
                raise self._undecided(tag, "its newer jobs carry no context")
        raise self._undecided(tag, f"it is not among the {MOST} jobs after {first}")

    async def _first_of_window(self, tag: str) -> int | None:
        """Where to scan from when no uid is known; None if the QPU has no jobs."""
        for uid in range(FIRST_UIDS):
            if await self.look(str(uid)) is not None:
                return max(uid, await self._last(tag, uid) - WINDOW)
        return None

    async def _last(self, tag: str, known: int) -> int:
        """The newest uid, by doubling steps and bisection; uids are consecutive."""
        low, step = known, 1
        while await self.look(str(low + step)) is not None:
            low, step = low + step, 2 * step
            if step > LARGEST_UID:
                raise self._undecided(tag, f"it answers for any job id (such as {low})")
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if await self.look(str(middle)) is not None else (low, middle)
        return low

    def _undecided(self, tag: str, why: str) -> Undecided:
        return Undecided(
            f"resource {self._name}: nobody can tell whether it has slice {tag}, as {why}: "
            f"look there for a job with pasqman_job_id {tag}, end it, and cancel the job here"
        )


def _with_tag(tag: str, entries: list[Any]) -> list[str]:
    """The uids of the listed jobs that carry the tag; what cannot be read is not ours."""
    found = []
    for entry in entries:
        try:
            job = read_job(entry)
        except BadAnswer:
            continue
        if job.tag == tag:
            found.append(job.uid)
    return found
