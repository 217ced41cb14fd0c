"""The policy: what an administrator writes in qpud.conf, as values.

A key `SliceSeconds` of a section `[queue NAME]` is the field `slice_seconds` of QueuePolicy: the CamelCase name is
derived, never listed twice. Each field has its one-line help in FIELD_HELP-style comments in etc/qpud.conf and
its default here; `qpud/config.py` reads, checks and prints.
"""

from __future__ import annotations

import enum
from pathlib import Path

import msgspec


class AuthType(enum.StrEnum):
    """What proves an identity on TCP, besides session tokens."""

    NONE = "none"
    MUNGE = "munge"


class OpenSessions(enum.StrEnum):
    """Who may open sessions."""

    ANY = "any"  # every user his own
    ADMIN = "admin"  # root, AdminUsers and the Slurm hooks, for users


class PreemptMode(enum.StrEnum):
    """What a job of this queue does when a higher tier waits."""

    OFF = "OFF"  # keeps the resource until its last shot
    SLICE = "SLICE"  # yields at the next slice boundary


class DriverKind(enum.StrEnum):
    """The drivers a resource may name."""

    EMULATOR = "emulator"
    SIMULATED = "simulated"
    PASQAL_QPU = "pasqal-qpu"


class Counts(enum.StrEnum):
    """Where a simulated QPU takes its counts from."""

    EMULATION = "emulation"
    PRODUCT = "product"  # independent atoms: cheap at any size, no blockade


class UnixListen(msgspec.Struct, frozen=True, kw_only=True, tag="unix"):
    """A Unix socket that the daemon binds itself."""

    path: Path


class TcpListen(msgspec.Struct, frozen=True, kw_only=True, tag="tcp"):
    """A TCP address."""

    host: str
    port: int  # 0: any free port


Listen = UnixListen | TcpListen


class DaemonPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section [qpud]. Durations are seconds, sizes bytes."""

    listen: tuple[Listen, ...] = (UnixListen(path=Path("/run/qpud/qpud.sock")),)
    socket_mode: int = 0o660
    socket_group: str | None = None
    auth_type: AuthType = AuthType.NONE
    admin_users: tuple[str, ...] = ("root",)
    open_sessions: OpenSessions = OpenSessions.ANY
    state_save_location: Path = Path("/var/lib/qpud")
    worker_python: Path | None = None  # None: the daemon's own interpreter
    default_resource: str | None = None  # None: the first resource of the file
    default_queue: str | None = None  # None: the queue of the lowest tier
    session_idle_timeout: float = 3600.0
    session_max_lifetime: float = 30 * 86400.0
    max_body_size: int = 1 << 20
    validation_wait: float = 1.0
    validation_timeout: float = 30.0
    validation_memory: int = 2 << 30
    log_level: str = "info"


class QueuePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section [queue NAME]: a class of service."""

    name: str
    priority_tier: int = 1
    partitions: tuple[str, ...] = ()  # Slurm partitions that feed it; empty: the one of the same name
    preempt_mode: PreemptMode = PreemptMode.SLICE
    slice_seconds: float = 20.0
    max_shots: int | None = None  # per job
    max_submit_jobs: int | None = None  # unfinished jobs per user


class ResourcePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section [resource NAME]: a QPU or an emulator. Keys of other drivers are refused by the config reader."""

    name: str
    driver: DriverKind
    device: str | None = None  # a Pulser device (AnalogDevice…) or a file with its abstract representation
    shot_rate: float = 1.0  # shots per QPU second: simulated: kept; pasqal-qpu: first guess, then measured
    setup_seconds: float = 0.0  # simulated: on a register change
    speed_up: float = 1.0  # simulated: QPU seconds per wall second
    counts: Counts = Counts.EMULATION  # simulated
    seed: int | None = None  # emulator, simulated
    max_atoms: int = 20  # emulator: refused above, before memory runs out
    max_memory: int = 8 << 30  # emulator, simulated: RLIMIT_AS of a job's process
    max_run_time: float = 3600.0  # emulator: wall seconds one emulation may take
    url: str | None = None  # pasqal-qpu: http://[user:password@]host:port[/prefix]
    token_file: Path | None = None  # pasqal-qpu: Bearer token
    request_timeout: float = 10.0  # pasqal-qpu
    poll_min: float = 0.2  # pasqal-qpu: bounds of the adaptive polling
    poll_max: float = 30.0


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    daemon: DaemonPolicy
    queues: dict[str, QueuePolicy]
    resources: dict[str, ResourcePolicy]

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
