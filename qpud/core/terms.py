"""The words of the policy: enumerations, units, addresses, drivers, and what a key of the file says of itself."""

from __future__ import annotations

import enum
from pathlib import Path

import msgspec

UNLIMITED_SECONDS = 36_500 * 86_400.0
"""What UNLIMITED means for a duration, in seconds: a hundred years."""


class Unit(enum.StrEnum):
    """How the number of a key is written in the file."""

    PLAIN = "plain"
    SECONDS = "seconds"  # 30, 0.2, MM:SS, H:MM:SS, D-HH[:MM[:SS]]
    BYTES = "bytes"  # 1048576, 512K, 1M, 2G
    MODE = "mode"  # octal, as chmod takes it
    URL = "url"  # http://host:port or https://…
    WORDS = "words"  # command-line options, quoted as for a shell


class Launcher(enum.StrEnum):
    """Where an emulator's workers run."""

    LOCAL = "local"  # on the access node
    SLURM = "slurm"  # on the cluster's nodes, each as a Slurm job


class AuthType(enum.StrEnum):
    """What proves an identity on TCP, besides session tokens."""

    NONE = "none"
    MUNGE = "munge"


class OpenSessions(enum.StrEnum):
    """Who may open sessions."""

    ANY = "any"  # every user his own
    ADMIN = "admin"  # root, AdminUsers and the Slurm hooks, for users


class SlurmUnavailable(enum.StrEnum):
    """What becomes of a session that names a Slurm job while slurmctld does not answer."""

    REFUSE = "refuse"
    LOWEST_QUEUE = "lowest-queue"  # one unit of the lowest tier, until Slurm can be asked


class PreemptMode(enum.StrEnum):
    """What a job of this queue does when a higher tier waits."""

    OFF = "OFF"  # keeps the resource until its last shot
    SLICE = "SLICE"  # yields at the next slice boundary
    REQUEUE = "REQUEUE"  # the slice in flight is canceled where the driver can; finished slices are kept
    CANCEL = "CANCEL"  # the same, and the job ends as CANCELED


class FairShareBy(enum.StrEnum):
    """Between whom the resource is shared first; below that always between sessions, by their units."""

    SESSION = "session"
    USER = "user"
    ACCOUNT = "account"


class UsageReset(enum.StrEnum):
    """When recorded usage is forgotten at once, at 00:00 UTC of a day."""

    NONE = "NONE"
    DAILY = "DAILY"
    WEEKLY = "WEEKLY"  # on Mondays
    MONTHLY = "MONTHLY"
    QUARTERLY = "QUARTERLY"
    YEARLY = "YEARLY"


class DriverKind(enum.StrEnum):
    """The drivers a resource may name."""

    EMULATOR = "emulator"
    SIMULATED = "simulated"
    PASQAL_QPU = "pasqal-qpu"
    PASQAL_CLOUD = "pasqal-cloud"
    QRMI = "qrmi"


class QrmiType(enum.StrEnum):
    """The kinds of resources that the package qrmi knows, in its own words."""

    PASQAL_LOCAL = "pasqal-local"
    PASQAL_CLOUD = "pasqal-cloud"
    IBM_QUANTUM_SYSTEM = "ibm-quantum-system"
    IBM_QUANTUM_COMPUTE_SERVICE = "ibm-quantum-compute-service"
    QISKIT_RUNTIME_SERVICE = "qiskit-runtime-service"
    IQM_SERVER = "iqm-server"
    ALICE_BOB_FELIS = "alice-bob-felis"
    OQTOPUS = "oqtopus"


PULSER_TYPES = frozenset({QrmiType.PASQAL_LOCAL, QrmiType.PASQAL_CLOUD})
"""Those that take Pulser's sequences and give counts."""


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


class Key(msgspec.Struct, frozen=True):
    """What the config reader knows about a field, beside its type and default."""

    help: str
    """One line for etc/qpud.conf."""
    unit: Unit = Unit.PLAIN
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    none: str = ""
    """The word that stands for None; empty: `Key =` without a value."""
    unlimited: bool = False
    """Whether UNLIMITED may be written for a duration."""
    choices: tuple[str, ...] = ()
    """The words allowed, for text that is not an enum."""
    later: tuple[str, ...] = ()
    """Slurm's words for what this version does not do: refused with a sentence of their own."""
    drivers: tuple[DriverKind, ...] = ()
    """The drivers that have this key; empty: all."""
    restart: bool = False
    """Whether a change needs a restart of the daemon; `qpud reconfigure` warns."""


EMULATOR = (DriverKind.EMULATOR,)
SIMULATED = (DriverKind.SIMULATED,)
PASQAL_QPU = (DriverKind.PASQAL_QPU,)
PASQAL_CLOUD = (DriverKind.PASQAL_CLOUD,)
PASQAL = PASQAL_QPU + PASQAL_CLOUD
"""The drivers that speak to an API over HTTP themselves."""
QRMI = (DriverKind.QRMI,)
REAL = PASQAL + QRMI
"""The drivers of QPUs that are elsewhere: they are polled."""
IN_WORKER = EMULATOR + SIMULATED
"""The drivers that may run emulations in the worker."""
