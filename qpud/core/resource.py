"""A section [resource NAME] of the policy; see policy.py for how fields become keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from qpud.core.terms import (
    EMULATOR,
    IN_WORKER,
    PASQAL,
    PASQAL_CLOUD,
    PULSER_TYPES,
    QRMI,
    REAL,
    SIMULATED,
    Counts,
    DriverKind,
    Key,
    Launcher,
    QrmiType,
    Unit,
)


class ResourcePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section [resource NAME]: a QPU or an emulator. Keys of other drivers are refused by the config reader."""

    name: str
    slurm_licenses: Annotated[
        tuple[str, ...],
        Key("With SlurmControl: its licences in Slurm, as in qpu:10; reserved while it is drained or down"),
    ] = ()
    slurm_partitions: Annotated[
        tuple[str, ...],
        Key("With SlurmControl: partitions that are DOWN while all resources that list them are drained or down"),
    ] = ()
    driver: Annotated[
        DriverKind, Key("What speaks to it: emulator, simulated, pasqal-qpu, pasqal-cloud or qrmi", restart=True)
    ]
    device: Annotated[
        str,
        Key(
            "A Pulser device (AnalogDevice…) or a file with its abstract representation",
            drivers=IN_WORKER,
            restart=True,
        ),
    ] = "AnalogDevice"
    shot_rate: Annotated[
        float,
        Key(
            "Shots per QPU second; of a real QPU the first guess, then measured",
            above=0,
            at_most=1e9,
            drivers=SIMULATED + REAL,
            restart=True,
        ),
    ] = 1.0
    setup_seconds: Annotated[
        float,
        Key(
            "QPU time that a change of register takes", unit=Unit.SECONDS, at_least=0, drivers=SIMULATED, restart=True
        ),
    ] = 0.0
    speed_up: Annotated[
        float, Key("QPU seconds per second of the clock", above=0, at_most=1e9, drivers=SIMULATED, restart=True)
    ] = 1.0
    counts: Annotated[
        Counts,
        Key(
            "Where counts come from: emulation, or product (independent atoms: cheap at any size, no blockade)",
            drivers=SIMULATED,
            restart=True,
        ),
    ] = Counts.EMULATION
    seed: Annotated[
        int | None,
        Key(
            "Seed of the samples; empty: a new one each time",
            at_least=0,
            at_most=2**63 - 1,
            drivers=IN_WORKER,
            restart=True,
        ),
    ] = None
    max_atoms: Annotated[
        int,
        Key(
            "More atoms are refused, before memory runs out",
            at_least=1,
            at_most=10_000,
            drivers=IN_WORKER,
            restart=True,
        ),
    ] = 20
    max_memory: Annotated[
        int,
        Key("Memory limit of one job's process", unit=Unit.BYTES, at_least=256 << 20, drivers=IN_WORKER, restart=True),
    ] = 8 << 30
    max_run_time: Annotated[
        float,
        Key(
            "Time that one emulation may take",
            unit=Unit.SECONDS,
            above=0,
            unlimited=True,
            drivers=IN_WORKER,
            restart=True,
        ),
    ] = 3600.0
    cloud_name: Annotated[
        str | None, Key("Device type under which clients of the cloud dialect know it; empty: its own name")
    ] = None
    launcher: Annotated[
        Launcher,
        Key(
            "Where its workers run: local (this machine), or slurm: each as a Slurm job, started when needed",
            drivers=EMULATOR,
            restart=True,
        ),
    ] = Launcher.LOCAL
    launcher_options: Annotated[
        str | None,
        Key(
            "With Launcher = slurm: options of srun (-p gpu -c 8 -t 60), quoted as for a shell; empty: none",
            unit=Unit.WORDS,
            drivers=EMULATOR,
            restart=True,
        ),
    ] = None
    workers: Annotated[
        int,
        Key(
            "With Launcher = slurm: Slurm jobs at once; the next jobs in line are emulated ahead on them",
            at_least=1,
            at_most=256,
            drivers=EMULATOR,
            restart=True,
        ),
    ] = 1
    worker_idle_time: Annotated[
        float,
        Key(
            "With Launcher = slurm: a worker without work is cancelled after this",
            unit=Unit.SECONDS,
            above=0,
            unlimited=True,
            drivers=EMULATOR,
            restart=True,
        ),
    ] = 300.0
    worker_python: Annotated[
        Path | None,
        Key(
            "With Launcher = slurm: the nodes' interpreter that has Pulser; empty: WorkerPython of [qpud]",
            drivers=EMULATOR,
            restart=True,
        ),
    ] = None
    url: Annotated[
        str | None,
        Key(
            "Its API: http://[user:password@]host:port[/prefix], https://apis.pasqal.cloud/core-fast; required",
            unit=Unit.URL,
            drivers=PASQAL,
            restart=True,
        ),
    ] = None
    token_file: Annotated[
        Path | None,
        Key("File with the Bearer token of its API; empty: none", drivers=PASQAL, restart=True),
    ] = None
    auth_url: Annotated[
        str | None,
        Key(
            "Where its tokens come from, with CredentialsFile: https://pasqal.eu.auth0.com/oauth/token",
            unit=Unit.URL,
            drivers=PASQAL_CLOUD,
            restart=True,
        ),
    ] = None
    credentials_file: Annotated[
        Path | None,
        Key(
            "File, mode 600, with username and password or client_id and client_secret, as lines: name = value",
            drivers=PASQAL_CLOUD,
            restart=True,
        ),
    ] = None
    project_id: Annotated[
        str | None, Key("Project of the cloud that pays; required", drivers=PASQAL_CLOUD, restart=True)
    ] = None
    device_type: Annotated[
        str | None,
        Key("Device of the cloud: FRESNEL, EMU_MPS…; required", drivers=PASQAL_CLOUD, restart=True),
    ] = None
    qrmi_type: Annotated[
        QrmiType | None,
        Key("Kind of the resource in the words of the package qrmi; required", drivers=QRMI, restart=True),
    ] = None
    qrmi_name: Annotated[
        str | None,
        Key(
            "Its name for qrmi: that of a backend, the NAME of NAME_QRMI_…; empty: as here", drivers=QRMI, restart=True
        ),
    ] = None
    qrmi_python: Annotated[
        Path | None,
        Key("Interpreter that has the package qrmi; empty: WorkerPython", drivers=QRMI, restart=True),
    ] = None
    qrmi_environment_file: Annotated[
        Path | None,
        Key(
            "File, mode 600, with the variables that qrmi reads, as lines: NAME_QRMI_…=value",
            drivers=QRMI,
            restart=True,
        ),
    ] = None
    request_timeout: Annotated[
        float,
        Key(
            "A request without an answer is given up after this",
            unit=Unit.SECONDS,
            above=0,
            drivers=REAL,
            restart=True,
        ),
    ] = 10.0
    poll_min: Annotated[
        float, Key("Shortest pause between two polls", unit=Unit.SECONDS, above=0, drivers=REAL, restart=True)
    ] = 0.2
    poll_max: Annotated[
        float, Key("Longest pause between two polls", unit=Unit.SECONDS, above=0, drivers=REAL, restart=True)
    ] = 30.0

    @property
    def is_opaque(self) -> bool:
        """Whether its programs are payloads of another kind than Pulser's: handed on, run whole, never looked into."""
        return self.qrmi_type is not None and self.qrmi_type not in PULSER_TYPES
