"""The policy: what an administrator writes in qpud.conf, as values.

A key `SliceSeconds` of a section `[queue NAME]` is the field `slice_seconds` of QueuePolicy: the CamelCase name is
derived, never listed twice. Each field carries its `Key` (one-line help, unit, range, whom it concerns) and its
default here; `qpud/config/` reads, checks and prints. A new key is a field here; `python -m qpud.config.sample`
writes the line of etc/qpud.conf, and a test checks the rest.

Durations are seconds. UNLIMITED as a duration is a hundred years (`UNLIMITED_SECONDS`), so that sums of times and
dates stay ordinary numbers; as a limit (`MaxShots`) it is None.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from qpud.core.resource import ResourcePolicy
from qpud.core.terms import (
    UNLIMITED_SECONDS,
    AuthType,
    DriverKind,
    FairShareBy,
    Key,
    Listen,
    OpenSessions,
    PreemptMode,
    SlurmUnavailable,
    Unit,
    UnixListen,
    UsageReset,
)


class DaemonPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section [qpud]. Durations are seconds, sizes bytes."""

    listen: Annotated[
        tuple[Listen, ...], Key("Where to listen, comma-separated: unix:/path, http://host:port", restart=True)
    ] = (UnixListen(path=Path("/run/qpud/qpud.sock")),)
    socket_mode: Annotated[
        int, Key("Mode of the Unix socket, octal", unit=Unit.MODE, at_least=0o600, at_most=0o777, restart=True)
    ] = 0o660
    socket_group: Annotated[str | None, Key("Group of the Unix socket; empty: the daemon's own", restart=True)] = None
    auth_type: Annotated[
        AuthType, Key("What proves an identity on TCP, besides session tokens: none or munge", restart=True)
    ] = AuthType.NONE
    admin_users: Annotated[
        tuple[str, ...], Key("Users who may administer, on the Unix socket only; root always may")
    ] = ("root",)
    open_sessions: Annotated[
        OpenSessions, Key("Who may open sessions: any (users their own) or admin (root, AdminUsers, Slurm hooks)")
    ] = OpenSessions.ANY
    slurm_lookup: Annotated[
        bool,
        Key(
            "Whether a session that names a Slurm job takes user, queue, share, account, nodes and end from Slurm",
            restart=True,
        ),
    ] = False
    slurm_conf: Annotated[
        Path | None, Key("slurm.conf of the cluster that SlurmLookup asks; empty: Slurm's own", restart=True)
    ] = None
    slurm_rest_socket: Annotated[
        Path | None,
        Key("Unix socket of a slurmrestd that SlurmLookup asks first; empty: squeue alone", restart=True),
    ] = None
    slurm_unavailable: Annotated[
        SlurmUnavailable, Key("While Slurm does not answer, sessions of Slurm jobs: refuse or lowest-queue")
    ] = SlurmUnavailable.REFUSE
    slurm_control: Annotated[
        bool,
        Key("Whether qpud may act on Slurm: licence reservations, partition states, comments, releases", restart=True),
    ] = False
    slurm_comments: Annotated[
        bool, Key("With SlurmControl: a Slurm job's admin comment says when its QPU work ends")
    ] = True
    slurm_priority: Annotated[
        bool,
        Key("With SlurmLookup: of sessions whose share lets them be next, that of the highest Slurm priority is"),
    ] = False
    slurm_grace_time: Annotated[
        float,
        Key("A session outlives the time limit of its Slurm job by this", unit=Unit.SECONDS, at_least=0),
    ] = 60.0
    state_save_location: Annotated[Path, Key("Folder of the database; only the daemon may read it", restart=True)] = (
        Path("/var/lib/qpud")
    )
    worker_python: Annotated[
        Path | None,
        Key("Interpreter with Pulser and the emulators; empty: the daemon's own", restart=True),
    ] = None
    default_resource: Annotated[
        str | None, Key("Resource of requests that name none; empty: the first of this file")
    ] = None
    default_queue: Annotated[
        str | None, Key("Queue of sessions that name none; empty: the one of the lowest tier")
    ] = None
    scheduler_type: Annotated[
        str,
        Key("Order of jobs: share, priority, fifo, exclusive, or a class of your own: module:Class", restart=True),
    ] = "share"
    fair_share_by: Annotated[
        FairShareBy,
        Key("Between whom a resource is shared first: session, user or account; then between their sessions"),
    ] = FairShareBy.SESSION
    priority_decay_half_life: Annotated[
        float,
        Key(
            "Usage of users and accounts counts half after this; 0: it never fades",
            unit=Unit.SECONDS,
            at_least=0,
            unlimited=True,
        ),
    ] = 7 * 86400.0
    priority_usage_reset_period: Annotated[
        UsageReset,
        Key("Usage is forgotten at 00:00 UTC: NONE, DAILY, WEEKLY, MONTHLY, QUARTERLY or YEARLY"),
    ] = UsageReset.NONE
    starvation_limit: Annotated[
        float,
        Key(
            "A job that waits longer counts as of the next higher tier, and so on; UNLIMITED: tiers are strict",
            unit=Unit.SECONDS,
            above=0,
            unlimited=True,
        ),
    ] = UNLIMITED_SECONDS
    session_idle_timeout: Annotated[
        float,
        Key(
            "A session without requests or jobs expires after this; one that Slurm vouched for, with its job",
            unit=Unit.SECONDS,
            above=0,
            unlimited=True,
        ),
    ] = 3600.0
    session_max_lifetime: Annotated[
        float, Key("A session expires this long after its opening", unit=Unit.SECONDS, above=0, unlimited=True)
    ] = 30 * 86400.0
    batch_idle_timeout: Annotated[
        float,
        Key("An open batch without requests or jobs closes after this", unit=Unit.SECONDS, above=0, unlimited=True),
    ] = 900.0
    purge_job_after: Annotated[
        float,
        Key(
            "A job, its result and its logs are deleted this long after its end; UNLIMITED: never",
            unit=Unit.SECONDS,
            at_least=3600,
            unlimited=True,
        ),
    ] = UNLIMITED_SECONDS
    max_body_size: Annotated[
        int, Key("Largest request body, after decompression", unit=Unit.BYTES, at_least=1 << 10, at_most=1 << 30)
    ] = 1 << 20
    validation_wait: Annotated[
        float,
        Key("A submission waits this long for Pulser's verdict, then is accepted", unit=Unit.SECONDS, at_least=0),
    ] = 1.0
    validation_timeout: Annotated[
        float, Key("A validation that takes longer fails the job", unit=Unit.SECONDS, above=0)
    ] = 30.0
    validation_memory: Annotated[
        int, Key("A validation that needs more memory fails the job", unit=Unit.BYTES, at_least=256 << 20)
    ] = 2 << 30
    log_level: Annotated[
        str,
        Key(
            "Least severe log line to write: debug, info, warning, error or critical",
            choices=("debug", "info", "warning", "error", "critical"),
        ),
    ] = "info"


class QueuePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section [queue NAME]: a class of service."""

    name: str
    priority_tier: Annotated[
        int, Key("A higher tier always goes first, at the next slice boundary", at_least=0, at_most=1_000_000)
    ] = 1
    partitions: Annotated[
        tuple[str, ...], Key("Slurm partitions that feed the queue; empty: the one of the queue's name")
    ] = ()
    qos: Annotated[
        tuple[str, ...], Key("Slurm QOS that feed the queue, whatever the partition of the Slurm job; empty: none")
    ] = ()
    preempt_mode: Annotated[
        PreemptMode,
        Key(
            "When a higher tier waits: OFF (run on), SLICE (end the slice), REQUEUE (cut it) or CANCEL (end the job)",
            later=("SUSPEND", "GANG", "WITHIN"),
        ),
    ] = PreemptMode.SLICE
    preempt_exempt_time: Annotated[
        float,
        Key(
            "A job keeps the resource at least this long once it has it, whoever waits",
            unit=Unit.SECONDS,
            at_least=0,
            unlimited=True,
        ),
    ] = 0.0
    grace_time: Annotated[
        float,
        Key(
            "With REQUEUE and CANCEL: the slice may go on so long after a higher tier came",
            unit=Unit.SECONDS,
            at_least=0,
        ),
    ] = 0.0
    slice_seconds: Annotated[
        float, Key("A slice holds at most this many seconds of shots", unit=Unit.SECONDS, above=0, at_most=86400)
    ] = 20.0
    max_preempt_delay: Annotated[
        float,
        Key(
            "Slices of lower tiers are made so short that a job of this queue waits no longer for one",
            unit=Unit.SECONDS,
            above=0,
            unlimited=True,
        ),
    ] = UNLIMITED_SECONDS
    max_slice_overhead: Annotated[
        float,
        Key("Slices are made longer while more than this part of their time is overhead, 0 to 1", above=0, at_most=1),
    ] = 0.05
    time_limit: Annotated[
        float,
        Key(
            "Most QPU seconds of one job: it is refused if it needs more, and ends once it had so many",
            unit=Unit.SECONDS,
            above=0,
            unlimited=True,
        ),
    ] = UNLIMITED_SECONDS
    max_shots: Annotated[int | None, Key("Most shots of one job, or UNLIMITED", at_least=1, none="UNLIMITED")] = None
    max_submit_jobs: Annotated[
        int | None, Key("Most unfinished jobs of one user, or UNLIMITED", at_least=1, none="UNLIMITED")
    ] = None
    max_jobs_per_user: Annotated[
        int | None,
        Key("Most jobs of one user that have begun and not ended, or UNLIMITED", at_least=1, none="UNLIMITED"),
    ] = None
    max_qpu_seconds_per_day: Annotated[
        float, Key("Most QPU seconds of one user and day (UTC)", unit=Unit.SECONDS, above=0, unlimited=True)
    ] = UNLIMITED_SECONDS
    allow_accounts: Annotated[
        tuple[str, ...], Key("Accounts that may use the queue, a session without account then may not; empty: all")
    ] = ()
    deny_accounts: Annotated[
        tuple[str, ...], Key("Accounts that may not use the queue; a session without account may")
    ] = ()
    allow_groups: Annotated[tuple[str, ...], Key("Groups whose users may use the queue; empty: all")] = ()
    deny_groups: Annotated[tuple[str, ...], Key("Groups whose users may not use the queue")] = ()

    @property
    def fed_by(self) -> tuple[str, ...]:
        """The Slurm partitions that feed the queue."""
        return self.partitions or (self.name,)


class OverallLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user or an account may have over all queues."""

    name: str
    max_shots: Annotated[int | None, Key("Most shots of one job, or UNLIMITED", at_least=1, none="UNLIMITED")] = None
    max_submit_jobs: Annotated[int | None, Key("Most unfinished jobs, or UNLIMITED", at_least=1, none="UNLIMITED")] = (
        None
    )
    max_qpu_seconds_per_day: Annotated[
        float, Key("Most QPU seconds of one day (UTC)", unit=Unit.SECONDS, above=0, unlimited=True)
    ] = UNLIMITED_SECONDS


class UserPolicy(OverallLimits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section [user NAME]: limits of one user. Without a section: none but those of the queues."""


class AccountPolicy(OverallLimits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section [account NAME]: its part of every resource, and limits over all its users."""

    shares: Annotated[float, Key("Weight against other accounts, with FairShareBy=account", above=0, at_most=1e6)] = (
        1.0
    )


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    daemon: DaemonPolicy
    queues: dict[str, QueuePolicy]
    resources: dict[str, ResourcePolicy]
    accounts: dict[str, AccountPolicy] = {}
    users: dict[str, UserPolicy] = {}

    @property
    def default_resource(self) -> str:
        """The resource of requests that name none."""
        return self.daemon.default_resource or next(iter(self.resources))

    @property
    def default_queue(self) -> str:
        """The queue of sessions that name none: the lowest tier, unless configured."""
        if self.daemon.default_queue:
            return self.daemon.default_queue
        return min(self.queues.values(), key=lambda queue: queue.priority_tier).name


DEFAULT_QUEUES = {
    "production": QueuePolicy(
        name="production", priority_tier=100, partitions=("production",), preempt_mode=PreemptMode.OFF
    ),
    "test": QueuePolicy(name="test", priority_tier=50, partitions=("test",)),
    "development": QueuePolicy(name="development", priority_tier=10, partitions=("development",)),
}

DEFAULT_RESOURCES = {
    "FRESNEL": ResourcePolicy(name="FRESNEL", driver=DriverKind.SIMULATED, device="AnalogDevice"),
    "EMU_MPS": ResourcePolicy(name="EMU_MPS", driver=DriverKind.EMULATOR, device="AnalogDevice"),
}


def default_policy() -> Policy:
    """The policy of an empty file."""
    return Policy(daemon=DaemonPolicy(), queues=dict(DEFAULT_QUEUES), resources=dict(DEFAULT_RESOURCES))
