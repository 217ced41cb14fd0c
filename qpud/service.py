"""One method per verb a client can ask for (skeleton: signatures are the contract, bodies follow)."""

from __future__ import annotations

from qpud.core import verbs
from qpud.core.identity import Identity
from qpud.core.job import Job
from qpud.core.policy import Policy
from qpud.core.session import Session
from qpud.drivers.base import DeviceSpec


class Service:
    """The verbs. Each takes the caller first, decides whether he may, and raises a QpudError otherwise.

    Job references are the integer id or the uuid, as text. Session references are the session id or a token.
    """

    policy: Policy

    # -- identity and sessions
    def identify_token(self, token: str) -> Identity:
        """The owner of a session token. Raises: Unauthenticated."""
        raise NotImplementedError

    async def open_session(self, who: Identity, ask: verbs.OpenSession) -> verbs.Grant:
        """Open a session, or return the open one of the same user and Slurm job."""
        raise NotImplementedError

    async def close_session(self, who: Identity, ref: str) -> Session:
        """Close it and cancel its unfinished jobs; closing twice keeps the first closing time. Raises: NotFound."""
        raise NotImplementedError

    def get_session(self, who: Identity, ref: str) -> Session:
        """One session. Raises: NotFound, also for others' sessions."""
        raise NotImplementedError

    async def list_sessions(self, who: Identity, which: verbs.SessionFilter) -> list[Session]:
        """The caller's sessions, newest first; everybody's for an administrator."""
        raise NotImplementedError

    # -- jobs
    async def submit(
        self, who: Identity, session_ref: str | None, asks: list[verbs.JobRequest], key: str | None = None
    ) -> list[Job]:
        """Accept jobs (several are one batch) durably. On return they are committed and fsynced.

        `session_ref` None means the session of the caller's token, else his only open one. A repeated `key` of the
        same user returns the jobs of the first call. Raises: Forbidden, NotFound, Invalid, LimitExceeded, Conflict,
        BadRequest, Unavailable, StorageFull.
        """
        raise NotImplementedError

    async def get_job(self, who: Identity, ref: str, wait_seconds: float = 0.0) -> Job:
        """One job; with `wait_seconds` > 0 returns as soon as its state changes, or after that time."""
        raise NotImplementedError

    async def list_jobs(self, who: Identity, which: verbs.JobFilter) -> verbs.JobPage:
        """The caller's jobs, newest first; everybody's for an administrator."""
        raise NotImplementedError

    async def cancel_job(self, who: Identity, ref: str) -> verbs.Cancellation:
        """Stop a job; tells what had already run. Ended jobs stay as they are (no error here; dialects decide)."""
        raise NotImplementedError

    async def job_logs(self, who: Identity, ref: str) -> list[verbs.LogLine]:
        """The job's story in sentences, oldest first."""
        raise NotImplementedError

    async def result(self, who: Identity, ref: str, wait_seconds: float = 0.0) -> verbs.Result:
        """Counts so far and provenance; with `wait_seconds` > 0 waits for the job's end at most so long."""
        raise NotImplementedError

    async def hold_job(self, who: Identity, ref: str) -> Job:
        """Keep a job from starting further slices, until released. Raises: Conflict if it has ended."""
        raise NotImplementedError

    async def release_job(self, who: Identity, ref: str) -> Job:
        """Undo a hold; a user cannot release an administrator's hold. Raises: Conflict if it is not held."""
        raise NotImplementedError

    # -- resources
    def resource_name(self, name: str | None) -> str:
        """Resolve a resource name or None (the default one). Raises: NotFound naming the nearest valid name."""
        raise NotImplementedError

    async def queue(self, who: Identity, resource: str | None) -> list[verbs.QueueEntry]:
        """Unfinished jobs of one resource (None: all) in the scheduler's order, at most 1000."""
        raise NotImplementedError

    async def resources(self) -> list[verbs.ResourceView]:
        """All resources with their state."""
        raise NotImplementedError

    async def spec(self, resource: str | None) -> DeviceSpec:
        """The current device spec. Raises: Unavailable."""
        raise NotImplementedError

    async def accessible(self, resource: str | None) -> tuple[bool, str]:
        """Whether the resource takes work now, and a sentence: the wire's `is_accessible` and `message`."""
        raise NotImplementedError

    def slots(self, resource: str | None) -> tuple[int, int, int]:
        """Share units total (10), held by open sessions (at most 10), available."""
        raise NotImplementedError

    async def drain(self, who: Identity, resource: str, reason: str) -> verbs.ResourceView:
        """Start nothing more on the resource, across restarts too; the slice in flight ends. Administrators only."""
        raise NotImplementedError

    async def resume(self, who: Identity, resource: str) -> verbs.ResourceView:
        """Undo a drain. Administrators only."""
        raise NotImplementedError

    # -- administration
    async def reconfigure(self, who: Identity) -> list[str]:
        """Reload the policy file whole, or refuse it whole. Returns warnings (what needs a restart). Raises: Invalid."""
        raise NotImplementedError

    async def account_users(self, who: Identity, which: verbs.AccountingFilter) -> tuple[list[verbs.UserSum], int]:
        """Sums per user over closed sessions, and the total number of rows. Administrators, or oneself."""
        raise NotImplementedError

    async def account_sessions(
        self, who: Identity, which: verbs.AccountingFilter
    ) -> tuple[list[verbs.SessionSum], int]:
        """Closed sessions, and the total number of rows."""
        raise NotImplementedError

    async def account_jobs(self, who: Identity, which: verbs.AccountingFilter) -> tuple[list[verbs.JobSum], int]:
        """Jobs of closed sessions, and the total number of rows."""
        raise NotImplementedError

    def health(self) -> verbs.Health:
        """The scheduler's heartbeat and the store's readiness."""
        raise NotImplementedError
