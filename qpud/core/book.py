"""The in-memory mirror of everything unfinished: rebuilt from the store at start, changed only after a commit.

The book decides nothing and does no I/O. Service and scheduler share it; both run on one event loop, so each method
is atomic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice

import msgspec

from qpud.core.batch import Batch
from qpud.core.hints import Watch
from qpud.core.job import Job, Reason
from qpud.core.load import Load
from qpud.core.order import Order, Rule
from qpud.core.pace import Pace
from qpud.core.plan import Rank, may_run, rank, tier
from qpud.core.policy import Policy
from qpud.core.queue import PendingQueue
from qpud.core.reservations import Outlook, Reservation
from qpud.core.resource import ResourcePolicy
from qpud.core.schedulers import make_order
from qpud.core.session import Hint, Session
from qpud.core.slices import Slice
from qpud.core.slicing import SliceLengths
from qpud.core.tally import Tally
from qpud.core.usage import Usage


class Flight:
    """What a resource is doing: one slice in flight at most.

    Attributes:
        job_id: The job that has the resource, claimed before the intent is committed; None when idle.
        leaving: The job that had it before, while the end of its last slice is being committed.
        slice: The committed slice in flight.
        state: up, down, unreachable: the driver's word. `message` says more.
        drained: The administrator's reason why nothing starts, or None; `is_down` if the slice in flight is cut too.
        units_out: Share units, of 10, that Slurm does not give out while it is degraded; `degraded` says why.
        pace: How fast it is.
        register: Hash of the loaded register; None if it is not known.
        sets_up: Whether the slice in flight had to load it.
        began: The job whose slices it has run in a row, `since` when (seconds since the epoch).
        lengths: How long its slices are, as far as it is worked out.
        contested_at: When a higher tier came that will cut the slice; None if none did.
        is_unmanned: Whether the slice in flight waits for a worker; after its end, whether it was cut while it did.
        unchecked: Why submissions cannot be checked now: a worker that does not start, say. "" if they can.
        manned_at: When the slice in flight got the worker that it had waited for; None if it did not wait.
    """

    __slots__ = (
        "began",
        "contested_at",
        "degraded",
        "drained",
        "is_down",
        "is_unmanned",
        "job_id",
        "leaving",
        "lengths",
        "manned_at",
        "message",
        "pace",
        "register",
        "sets_up",
        "since",
        "slice",
        "state",
        "unchecked",
        "units_out",
    )

    def __init__(self, policy: ResourcePolicy) -> None:
        self.pace = Pace.of(policy)
        self.register: str | None = None
        self.sets_up = False
        self.began: int | None = None
        self.since = 0.0
        self.contested_at: float | None = None
        self.is_unmanned = False
        self.manned_at: float | None = None
        self.lengths: SliceLengths | None = None
        self.job_id: int | None = None
        self.leaving: int | None = None
        self.slice: Slice | None = None
        self.state = "up"
        self.message = ""
        self.unchecked = ""
        self.drained: str | None = None
        self.is_down = False
        self.degraded: str | None = None
        self.units_out = 0

    def see_worker(self, *, is_missing: bool, now: float) -> None:
        """Take in whether the slice in flight waits for a worker, at `now` in seconds since the epoch."""
        if self.is_unmanned and not is_missing:
            self.manned_at = now
        self.is_unmanned = is_missing

    @property
    def shown_state(self) -> str:
        """The state as people see it: up, down, unreachable or drained."""
        if self.drained is None:
            return self.state
        return "down" if self.is_down else "drained"


class Book:
    """Open sessions, unfinished jobs, and one order of the pending ones and one flight for each resource.

    Args:
        policy: In force: gives resources, queues and the scheduler.
        rule: The site's own scheduler, if the policy names one.
    """

    def __init__(self, policy: Policy, rule: Rule | None = None) -> None:
        self.policy = policy
        self.usage = Usage(policy.daemon.priority_decay_half_life, policy.daemon.priority_usage_reset_period)
        self.sessions: dict[str, Session] = {}
        self.tokens: dict[bytes, str] = {}  # sha256 of a session token → session id
        self.batches: dict[str, Batch] = {}  # the open ones
        self.jobs: dict[int, Job] = {}
        self.stopping: dict[int, Reason] = {}  # why jobs in reason Canceling will end
        self.depths: Counter[tuple[str, str, str]] = Counter()  # (resource, queue, state) → unfinished jobs
        self.tally = Tally()
        self.reservations: dict[str, Reservation] = {}
        self.watches: dict[str, Watch] = {}  # session → what it did, of those that gave a hint
        self.loads: dict[tuple[str, int], Load] = {}  # (resource, tier) → what is submitted
        self.promises: dict[int, tuple[float, float | None]] = {}  # job → start foreseen at submission, and latest
        self.adrift: set[int] = set()  # jobs with a slice in flight at a resource that left the policy
        self._slurm: dict[tuple[int, str], str] = {}
        self.interleaving: set[str] = set()  # open sessions that said that their nodes wait between short jobs
        self._of_session: dict[str, dict[int, None]] = {}
        self._in_batch: Counter[str] = Counter()  # unfinished jobs of each batch that has any
        self._rule = rule
        self._rank = partial(rank, queues=policy.queues)
        self.pending: dict[str, Order] = {name: self._order() for name in policy.resources}
        self.unvalidated: dict[str, PendingQueue[Rank]] = {name: PendingQueue(self._rank) for name in policy.resources}
        self.flights = {name: Flight(resource) for name, resource in policy.resources.items()}

    # -- sessions
    def add_session(self, session: Session) -> None:
        """Take in an open session, or its new version."""
        self.sessions[session.id] = session
        if session.hint or session.expected_qpu_seconds or session.expected_classical_seconds:
            self.watches.setdefault(session.id, Watch())
        if session.hint in (Hint.CC_HEAVY, Hint.QC_BALANCED):
            self.interleaving.add(session.id)
        if session.slurm_job_id is not None:
            self._slurm[(session.user_id, session.slurm_job_id)] = session.id

    def renew_session(self, session: Session) -> None:
        """Take in the new version of an open session whose Slurm job has another number of nodes, or another end."""
        self.sessions[session.id] = session
        for order in self.pending.values():
            order.renew(session)

    def remove_session(self, session_id: str) -> None:
        """Forget a closed session and its tokens."""
        session = self.sessions.pop(session_id, None)
        self.watches.pop(session_id, None)
        self.interleaving.discard(session_id)
        if session is not None and session.slurm_job_id is not None:
            self._slurm.pop((session.user_id, session.slurm_job_id), None)
        for token in [token for token, owner in self.tokens.items() if owner == session_id]:
            del self.tokens[token]
        for order in self.pending.values():
            order.forget(session_id)

    def remove_batch(self, batch_id: str) -> None:
        """Forget a closed batch; its unfinished jobs stay."""
        self.batches.pop(batch_id, None)

    def batches_of_session(self, session_id: str) -> list[Batch]:
        """The open batches of a session."""
        return [batch for batch in self.batches.values() if batch.session_id == session_id]

    def touch(self, job: Job, now: float) -> None:
        """A job was submitted or has ended: its session and its batch, if they are open, are used."""
        if (session := self.sessions.get(job.session_id)) is not None:
            self.sessions[session.id] = msgspec.structs.replace(session, last_used_at=now)
        if job.batch_id is not None and (batch := self.batches.get(job.batch_id)) is not None:
            self.batches[batch.id] = msgspec.structs.replace(batch, last_used_at=now)

    def is_batch_busy(self, batch: Batch) -> bool:
        """Whether any job of the batch is PENDING or RUNNING."""
        return batch.id in self._in_batch

    def session_of(self, user_id: int, slurm_job_id: str) -> Session | None:
        """The open session of a user's Slurm job."""
        return self.sessions.get(self._slurm.get((user_id, slurm_job_id), ""))

    def sessions_of_user(self, user_id: int) -> list[Session]:
        """The open sessions of a user, oldest first."""
        return [session for session in self.sessions.values() if session.user_id == user_id]

    # -- jobs
    def add_job(self, job: Job) -> None:
        """Take in an unfinished job and queue it if it may run."""
        self.jobs[job.id] = job
        if job.reason is Reason.CANCELING:  # asked to stop before a restart: by whom is in the job's story
            self.stopping[job.id] = Reason.USER
        self._weigh(job)
        self._of_session.setdefault(job.session_id, {})[job.id] = None
        if job.batch_id is not None:
            self._in_batch[job.batch_id] += 1
        if (watch := self.watches.get(job.session_id)) is not None:
            watch.submitted(job.submitted_at)
        self.depths[(job.resource, job.queue, job.state)] += 1
        session = self.sessions.get(job.session_id)
        self.tally.add(job, (session.account if session else None) or "")
        self._file(job)

    def update_job(self, job: Job) -> None:
        """Replace a job by its new version; ended ones leave the book."""
        old = self.jobs[job.id]
        if job.is_terminal:
            self._remove_job(old)
            return
        self.jobs[job.id] = job
        self.tally.replace(old, job)
        if (old.queue, old.state) != (job.queue, job.state):
            self.depths[(job.resource, old.queue, old.state)] -= 1
            self.depths[(job.resource, job.queue, job.state)] += 1
        if old.queue != job.queue and job.id not in self.adrift and self.has_resource(job):
            self.pending[job.resource].quit(job.id)  # it competes in the tier of its new queue from now on
            self.pending[job.resource].take(job)
        self._file(job)

    def claim(self, resource: str, job_id: int | None) -> None:
        """Give the resource to a job, which leaves the pending queue; None: to nobody.

        The job that had it is leaving until `leave`: the end of its slice is not committed yet.
        """
        flight = self.flights[resource]
        if flight.job_id not in (None, job_id):
            flight.leaving = flight.job_id
        flight.job_id = job_id
        if job_id is not None:
            self.pending[resource].take(self.jobs[job_id])

    def add_slice(self, left: Slice) -> None:
        """Take in a slice that an earlier daemon left in flight: its job has the resource until it is settled."""
        flight = self.flights.get(left.resource)
        if left.job_id not in self.jobs:
            return
        if flight is None:
            self.adrift.add(left.job_id)
        else:
            self.claim(left.resource, left.job_id)
            flight.slice = left
            flight.began, flight.since = left.job_id, left.started_at or left.intended_at
            flight.register = self.jobs[left.job_id].register_hash

    def give_up(self, resource: str) -> None:
        """The claimed job does not start after all; who is leaving still is."""
        flight = self.flights[resource]
        job_id, flight.job_id = flight.job_id, None
        if job_id is not None:
            self._part(resource, job_id)

    def leave(self, resource: str) -> None:
        """The leaving job has left for good: it is queued again if it may still run."""
        flight = self.flights[resource]
        job_id, flight.leaving = flight.leaving, None
        if job_id is not None:
            self._part(resource, job_id)

    def _part(self, resource: str, job_id: int) -> None:
        if job_id in self.jobs:
            self._file(self.jobs[job_id])
        if job_id != self.flights[resource].job_id:
            self.pending[resource].quit(job_id)

    @property
    def resources_gone(self) -> list[str]:
        """Resources of unfinished jobs that are not configured any more."""
        waiting = {resource for (resource, _queue, _state), number in self.depths.items() if number}
        return sorted(waiting - set(self.flights))

    def current(self, resource: str) -> Job | None:
        """The job that has the resource, as it is now; None if it is idle or the job has ended."""
        return self.jobs.get(self.flights[resource].job_id or 0)

    def has_resource(self, job: Job) -> bool:
        """Whether a slice of the job is in flight, about to be, or not committed yet."""
        flight = self.flights.get(job.resource)
        if flight is None:
            return job.id in self.adrift
        return job.id in (flight.job_id, flight.leaving)

    def stranded(self, resource: str) -> list[Job]:
        """Jobs that are asked to stop while the resource does not have them (any more)."""
        jobs = (self.jobs[job_id] for job_id in tuple(self.stopping))
        return [job for job in jobs if job.resource == resource and not self.has_resource(job)]

    def jobs_of_session(self, session_id: str) -> Iterator[Job]:
        """The unfinished jobs of a session, oldest first."""
        return (self.jobs[job_id] for job_id in tuple(self._of_session.get(session_id, ())))

    def newest_jobs_of_session(self, session_id: str, most: int) -> list[Job]:
        """The unfinished jobs of a session that were submitted last, the newest first."""
        return [self.jobs[job_id] for job_id in islice(reversed(self._of_session.get(session_id, {})), most)]

    def outlook(self, resource: str, now: float) -> Outlook | None:
        """What reservations leave of a resource from now on; None if there are none."""
        return Outlook(self.reservations.values(), resource, now) if self.reservations else None

    def is_only_job(self, job: Job) -> bool:
        """Whether its session has no other unfinished job."""
        return len(self._of_session.get(job.session_id, ())) <= 1

    def orphaned(self) -> list[str]:
        """Ended sessions that still have unfinished jobs."""
        return [session_id for session_id in self._of_session if session_id not in self.sessions]

    def has_unfinished(self, session_id: str) -> bool:
        """Whether any job of the session is PENDING or RUNNING."""
        return bool(self._of_session.get(session_id))

    def head(self, resource: str) -> Job | None:
        """The best pending job of a resource."""
        job_id = self.pending[resource].head()
        return None if job_id is None else self.jobs[job_id]

    def reorder(self, policy: Policy) -> None:
        """Order every queue by a new policy; new resources get a queue.

        Shares start even again: nobody was ahead or behind by more than a slice.
        """
        self.policy = policy
        self.usage.half_life = policy.daemon.priority_decay_half_life
        self.usage.period = policy.daemon.priority_usage_reset_period
        self._rank = partial(rank, queues=policy.queues)
        for name, resource in policy.resources.items():
            self.unvalidated.setdefault(name, PendingQueue(self._rank)).rebuild(self._rank, self.jobs.values())
            self.flights.setdefault(name, Flight(resource))
        self.pending = {name: self._order() for name in self.flights}
        for job in self.jobs.values():
            self._file(job)
        for name, flight in self.flights.items():
            for job_id in (flight.job_id, flight.leaving):
                if job_id in self.jobs:
                    self.pending[name].take(self.jobs[job_id])

    def ranks(self, job: Job) -> Rank:
        """The sort key of a job that waits for its verdict, under the policy in force."""
        return self._rank(job)

    def _order(self) -> Order:
        return make_order(self.policy, self.sessions.get, self.usage, self._rule)

    def _weigh(self, job: Job) -> None:
        flight = self.flights.get(job.resource)
        if flight is None:
            return
        where = (job.resource, tier(job, self.policy.queues))
        load = self.loads.get(where)
        if load is None:
            load = self.loads[where] = Load()
        is_idle = job.session_id not in self._of_session
        load.submitted(job, flight.pace.seconds(job.shots - job.shots_done, is_idle) * flight.pace.wall)

    def _file(self, job: Job) -> None:
        if job.resource not in self.pending:
            return  # a resource that left the policy: the job waits until it comes back
        pending, unvalidated = self.pending[job.resource], self.unvalidated[job.resource]
        can_run = may_run(job)
        if not can_run:
            self.promises.pop(job.id, None)  # held: the promise is not to be kept any more
        if can_run and not self.has_resource(job):
            pending.put(job)
        else:
            pending.drop(job.id)
        if job.reason is Reason.VALIDATING:
            unvalidated.put(job)
        else:
            unvalidated.drop(job.id)

    def _remove_job(self, job: Job) -> None:
        del self.jobs[job.id]
        self.tally.remove(job)
        self.stopping.pop(job.id, None)
        self.promises.pop(job.id, None)
        self.adrift.discard(job.id)
        self.depths[(job.resource, job.queue, job.state)] -= 1
        if job.batch_id is not None:
            self._in_batch[job.batch_id] -= 1
            if not self._in_batch[job.batch_id]:
                del self._in_batch[job.batch_id]
        siblings = self._of_session.get(job.session_id, {})
        siblings.pop(job.id, None)
        if not siblings:
            self._of_session.pop(job.session_id, None)
        if job.resource in self.pending:
            self.pending[job.resource].drop(job.id)
            self.unvalidated[job.resource].drop(job.id)
