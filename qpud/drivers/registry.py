"""Which driver serves which resource: the one list to extend when a driver is added."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from qpud.core.resource import ResourcePolicy
from qpud.core.terms import DriverKind, Launcher
from qpud.drivers.base import Clock, Driver, SlurmProtocol, WorkersProtocol
from qpud.drivers.emulator_slurm import SlurmEmulatorDriver

Maker = Callable[[ResourcePolicy, WorkersProtocol, Clock], Driver]


class DriverMissing(Exception):
    """A driver cannot be loaded; `message` is one sentence that names the driver, the resource and what is missing."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def make_driver(
    policy: ResourcePolicy, workers: WorkersProtocol, clock: Clock, slurm: SlurmProtocol | None = None
) -> Driver:
    """Make the driver of a resource; nothing is opened yet.

    Args:
        policy: The resource's section; its Driver chooses the class.
        workers: The worker process, shared by all drivers.
        clock: Wall time.
        slurm: Starts workers on the cluster's nodes, for Launcher = slurm.

    Raises:
        DriverMissing: The driver's libraries are not installed: only resources that use it suffer.
    """
    if policy.launcher is Launcher.SLURM and slurm is not None:
        return SlurmEmulatorDriver(policy, workers, clock, slurm)
    module, name = _CLASSES[policy.driver]
    try:
        maker = cast("Maker", getattr(import_module(module), name))
    except ImportError as error:
        raise DriverMissing(f"resource {policy.name}: driver {policy.driver} cannot be loaded: {error}") from error
    return maker(policy, workers, clock)


_CLASSES = {
    DriverKind.EMULATOR: ("qpud.drivers.emulator", "EmulatorDriver"),
    DriverKind.SIMULATED: ("qpud.drivers.simulated", "SimulatedDriver"),
    DriverKind.PASQAL_QPU: ("qpud.drivers.pasqal_qpu", "PasqalQpuDriver"),
    DriverKind.QRMI: ("qpud.drivers.qrmi", "QrmiDriver"),
    DriverKind.PASQAL_CLOUD: ("qpud.drivers.pasqal_cloud", "PasqalCloudDriver"),
}
"""Where each driver lives; imported when first used, so that a missing library is told then."""
