"""An emulator in this process, spoken to as if it were a QPU: what qpud_pulser.py uses where no daemon is reachable.

Jobs run one after another when they are submitted. Needs Pulser and one of emu-mps (tensor network; the first choice),
emu-sv (state vector) and pulser-simulation (qutip).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import pulser
from pulser.backend import BitStrings
from pulser.backend.remote import BatchStatus, JobParams, JobStatus, RemoteConnection, RemoteResults
from pulser.backend.results import Results
from pulser.devices import Device

MODULES = {"emu-mps": "emu_mps", "emu-sv": "emu_sv", "qutip": "pulser_simulation"}  # in the order of preference
PACKAGES = {"emu-mps": "emu-mps", "emu-sv": "emu-sv", "qutip": "pulser-simulation"}
FEW_ATOMS = 12  # up to here, emu-mps takes longer to order atoms than it gains by it


class LocalError(Exception):
    """What cannot be emulated here, in a sentence."""


class LocalConnection(RemoteConnection):
    """Emulates Pulser's AnalogDevice.

    Args:
        emulator: "emu-mps", "emu-sv" or "qutip"; default: the first that is installed.
        device: What to emulate in its place; a real device, as a QPU has.

    Raises:
        LocalError: It is not installed, or none is.
    """

    def __init__(self, emulator: str | None = None, device: Device = pulser.AnalogDevice) -> None:
        self.qpu = "local"
        self.emulator = _installed(emulator)
        self._device = device
        self._batches: dict[str, dict[str, Results]] = {}
        self._open: set[str] = set()

    def fetch_available_devices(self) -> dict[str, Device]:
        """The one device."""
        return {self.qpu: self._device}

    def submit(
        self,
        sequence: pulser.Sequence,
        wait: bool = False,
        open: bool = False,
        batch_id: str | None = None,
        *,
        job_params: list[JobParams] | None = None,
        **_: Any,
    ) -> RemoteResults:
        """Run each entry of `job_params` now, whether waited for or not; as QpudConnection.submit."""
        del wait
        if not (job_params or open):
            raise ValueError("job_params must hold at least one entry, such as {'runs': 500}")
        if batch_id and batch_id not in self._open:
            raise LocalError(f"batch {batch_id} is closed: open another")
        batch = batch_id or str(uuid.uuid4())
        jobs = self._batches.setdefault(batch, {})
        self._open |= {batch} if open else set()
        new = {str(uuid.uuid4()): self._run(sequence, params) for params in job_params or []}
        jobs.update(new)
        return RemoteResults(batch, self, list(new) if batch_id else None)

    def supports_open_batch(self) -> bool:
        """Yes."""
        return True

    def cancel(self, results: RemoteResults) -> None:
        """Nothing: jobs have ended when they are submitted."""

    def progress(self, results: RemoteResults) -> dict[str, tuple[int, int]]:
        """Shots done and shots asked for, by job id."""
        shots = {job: sum(self._batches[results.batch_id][job].final_bitstrings.values()) for job in results.job_ids}
        return {job: (number, number) for job, number in shots.items()}

    def _close_batch(self, batch_id: str) -> None:
        self._open.discard(batch_id)

    def _get_job_ids(self, batch_id: str) -> list[str]:
        return list(self._batches[batch_id])

    def _fetch_result(self, batch_id: str, job_ids: list[str] | None) -> list[Results]:
        return [self._batches[batch_id][job] for job in job_ids or self._get_job_ids(batch_id)]

    def _query_job_progress(self, batch_id: str) -> Mapping[str, tuple[JobStatus, Results | None]]:
        return {job: (JobStatus.DONE, results) for job, results in self._batches[batch_id].items()}

    def _get_batch_status(self, batch_id: str) -> BatchStatus:
        if batch_id not in self._open:
            return BatchStatus.DONE
        return BatchStatus.RUNNING if self._batches[batch_id] else BatchStatus.PENDING

    def _run(self, sequence: pulser.Sequence, params: JobParams) -> Results:
        measured = self._add_measurement_to_sequence(self.update_sequence_device(sequence))
        if measured.is_parametrized() or measured.is_register_mappable():
            measured = measured.build(**params.get("variables", {}))
        counts = _RUN[_fitting(self.emulator, measured)](measured, params["runs"])
        return Results.from_final_bitstrings(measured.register.qubit_ids, measured.get_duration(), counts)


def _installed(emulator: str | None) -> str:
    if emulator is not None and emulator not in MODULES:
        raise LocalError(f"there is no emulator {emulator!r}, known are {', '.join(MODULES)}")
    found = [name for name in MODULES if name == (emulator or name) and find_spec(MODULES[name])]
    if not found:
        wanted = PACKAGES[emulator] if emulator else "one of " + ", ".join(PACKAGES.values())
        raise LocalError(
            f"nothing can be emulated here: pip install {wanted}, or name a daemon (`qpud run -- python …`)"
        )
    return found[0]


def _fitting(emulator: str, sequence: pulser.Sequence) -> str:
    """A chain of one atom is no tensor network: the next installed emulator takes it."""
    if emulator != "emu-mps" or len(sequence.register.qubit_ids) > 1:
        return emulator
    others = [name for name in ("emu-sv", "qutip") if find_spec(MODULES[name])]
    if not others:
        raise LocalError("emu-mps needs at least 2 atoms: pip install emu-sv or pulser-simulation for one")
    return others[0]


def _tensor_network(sequence: pulser.Sequence, shots: int) -> dict[str, int]:
    from emu_mps import MPSBackend, MPSConfig

    many = len(sequence.register.qubit_ids) > FEW_ATOMS
    config = MPSConfig(observables=_counts_of(shots), optimize_qubit_ordering=many, log_level=logging.WARNING)
    return _final(MPSBackend(sequence, config=config))


def _state_vector(sequence: pulser.Sequence, shots: int) -> dict[str, int]:
    from emu_sv import SVBackend, SVConfig

    return _final(SVBackend(sequence, config=SVConfig(observables=_counts_of(shots), log_level=logging.WARNING)))


def _qutip(sequence: pulser.Sequence, shots: int) -> dict[str, int]:
    from pulser_simulation import QutipBackendV2, QutipConfig

    return _final(QutipBackendV2(sequence, config=QutipConfig(observables=_counts_of(shots))))


def _counts_of(shots: int) -> list[BitStrings]:
    return [BitStrings(evaluation_times=[1.0], num_shots=shots)]


def _final(backend: Any) -> dict[str, int]:
    return {bits: int(number) for bits, number in backend.run().final_bitstrings.items()}


_RUN: dict[str, Callable[[pulser.Sequence, int], dict[str, int]]] = {
    "emu-mps": _tensor_network,
    "emu-sv": _state_vector,
    "qutip": _qutip,
}
