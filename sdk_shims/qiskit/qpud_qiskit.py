"""Qiskit on qpud: `SamplerV2()` runs a circuit of one HamiltonianGate where qpud_pulser.connect() finds a place.

Copy it with qpud_pulser.py (and qpud_local.py) beside a script; needs qiskit-pasqal-provider, which brings Pulser, and
the standard library. Bit strings are as the provider's: character i is qubit i.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from pulser.backend.remote import JobStatus as PulserStatus
from pulser.backend.remote import RemoteConnection, RemoteResults
from pulser.devices import Device
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterExpression
from qiskit.primitives import BasePrimitiveJob, BaseSamplerV2, DataBin, PrimitiveResult, SamplerPubResult
from qiskit.providers import JobStatus
from qiskit.providers.jobstatus import JOB_FINAL_STATES
from qiskit_pasqal_provider.providers.gate import HamiltonianGate, InterpolatePoints
from qiskit_pasqal_provider.providers.pulse_utils import gen_seq, get_register_from_circuit, place_register
from qpud_pulser import QpudBackend as PulserBackend
from qpud_pulser import QpudError, connect

DEFAULT_SHOTS = 1000
STATUS = {
    PulserStatus.PENDING: JobStatus.QUEUED,
    PulserStatus.RUNNING: JobStatus.RUNNING,
    PulserStatus.DONE: JobStatus.DONE,
    PulserStatus.CANCELED: JobStatus.CANCELLED,
    PulserStatus.ERROR: JobStatus.ERROR,
}


class QpudJob(BasePrimitiveJob[PrimitiveResult[SamplerPubResult], JobStatus]):
    """A qpud batch for each set of parameter values of each pub.

    Args:
        connection: Where it runs.
        batches: For each pub its results to come, and whether a list of sets was given.
    """

    def __init__(self, connection: Any, batches: Sequence[tuple[Sequence[RemoteResults], bool]]) -> None:
        self._connection = connection
        self._batches = batches
        super().__init__("|".join(results.batch_id for results in self._all()))

    def result(self) -> PrimitiveResult[SamplerPubResult]:
        """Wait, and give for each pub `data.counts`: one mapping, or a list where a list of values was given.

        Raises:
            RemoteResultsError: A job did not end well.
        """
        metadata = {"job_id": self.job_id(), "resource": self._connection.qpu}
        return PrimitiveResult([_pub_result(*batch) for batch in self._batches], metadata)

    def status(self) -> JobStatus:
        """The state of its job that is furthest from its end."""
        found = {state for results in self._all() for state in self._states(results)}
        order = (PulserStatus.RUNNING, PulserStatus.PENDING, PulserStatus.ERROR, PulserStatus.CANCELED)
        return STATUS[next((state for state in order if state in found), PulserStatus.DONE)]

    def _states(self, results: RemoteResults) -> list[PulserStatus]:
        return [state for state, _ in self._connection._query_job_progress(results.batch_id).values()]

    def done(self) -> bool:
        """Whether all jobs ended well."""
        return self.status() == JobStatus.DONE

    def running(self) -> bool:
        """Whether a job is on the resource."""
        return self.status() == JobStatus.RUNNING

    def cancelled(self) -> bool:
        """Whether it was canceled."""
        return self.status() == JobStatus.CANCELLED

    def in_final_state(self) -> bool:
        """Whether all jobs have ended."""
        return self.status() in JOB_FINAL_STATES

    def cancel(self) -> None:
        """Stop what has not ended."""
        for results in self._all():
            self._connection.cancel(results)

    def _all(self) -> list[RemoteResults]:
        return [results for batches, _ in self._batches for results in batches]


class QpudBackend:
    """A resource, or an emulator in this process, that runs circuits of one HamiltonianGate.

    Args:
        qpu: Name of the resource. Default: as qpud_pulser.choose finds it.
        local: Whether to emulate in this process, see qpud_pulser.connect.
        connection: In place of both: any connection of Pulser's.
    """

    def __init__(
        self, qpu: str | None = None, *, local: str | None = None, connection: RemoteConnection | None = None
    ) -> None:
        self.connection: Any = connection or connect(qpu, local=local)
        self.name: str = self.connection.qpu

    @property
    def device(self) -> Device:
        """Pulser's device as it is now."""
        (device,) = self.connection.fetch_available_devices().values()
        return device

    def run(
        self, run_input: QuantumCircuit, shots: int | None = None, values: Mapping[str, Any] | None = None, **_: Any
    ) -> QpudJob:
        """Run one circuit with one set of values, as qiskit-pasqal-provider's own backends do."""
        return QpudJob(self.connection, [([self.submit(run_input, values or {}, shots or DEFAULT_SHOTS)], False)])

    def submit(self, circuit: QuantumCircuit, values: Mapping[str, Any], shots: int) -> RemoteResults:
        """Submit a circuit with one set of values."""
        device, register = self.device, get_register_from_circuit(circuit)
        placed = place_register(register, device)
        sequence = gen_seq(analog_register=placed, device=device, circuit=_with_numbers(circuit, values, register))
        return PulserBackend(sequence, self.connection).run([{"runs": shots}])


class QpudProvider:
    """Backends by name: the resources of the daemon, and "local", this process."""

    def backends(self) -> list[str]:
        """The names that `get_backend` takes."""
        connection: Any = connect()
        return [*connection.resources(), "local"] if hasattr(connection, "resources") else ["local"]

    def get_backend(self, name: str | None = None) -> QpudBackend:
        """One backend; the usual one without a name."""
        return QpudBackend(local="always") if name == "local" else QpudBackend(name)


class SamplerV2(BaseSamplerV2):
    """Samples circuits of one HamiltonianGate; any number of pubs, each with one or many sets of parameter values.

    Args:
        backend: Default: `QpudBackend()`.
        default_shots: For pubs that say none.
    """

    def __init__(self, backend: QpudBackend | None = None, *, default_shots: int = DEFAULT_SHOTS) -> None:
        self._backend = backend or QpudBackend()
        self._default_shots = default_shots

    def backend(self) -> QpudBackend:
        """Where it samples."""
        return self._backend

    def run(self, pubs: Iterable[Any], *, shots: int | None = None) -> QpudJob:
        """Submit the pubs: circuit, (circuit, values) or (circuit, values, shots).

        Args:
            pubs: `values` is a mapping from parameters, or their names, to numbers; or a list of such mappings.
            shots: For pubs that say none.

        Raises:
            QpudError: A pub is of another form, or qpud refused it with its sentence.
        """
        read = [_pub(pub, shots or self._default_shots) for pub in pubs]
        submit = self._backend.submit
        batches = [([submit(circuit, one, number) for one in sets], many) for circuit, sets, many, number in read]
        return QpudJob(self._backend.connection, batches)


def _pub(pub: Any, shots: int) -> tuple[QuantumCircuit, list[dict[str, Any]], bool, int]:
    circuit, values, number = (*((pub,) if isinstance(pub, QuantumCircuit) else tuple(pub)), None, None)[:3]
    many = isinstance(values, (list, tuple))
    sets = list(values) if many else [values or {}]
    if not isinstance(circuit, QuantumCircuit) or not all(isinstance(one, Mapping) for one in sets):
        raise QpudError("a pub is a circuit, (circuit, values) or (circuit, values, shots), with values as a mapping")
    named = [{getattr(name, "name", name): value for name, value in one.items()} for one in sets]
    return circuit, named, many, number or shots


def _pub_result(batches: Sequence[RemoteResults], many: bool) -> SamplerPubResult:
    counts = [dict(results.results[0].final_bitstrings) for results in batches]
    return SamplerPubResult(DataBin(counts=counts if many else counts[0]), {"shots": sum(counts[0].values())})


def _with_numbers(circuit: QuantumCircuit, values: Mapping[str, Any], register: Any) -> QuantumCircuit:
    """The circuit without parameters: the provider itself takes them only where all points of a waveform are one."""
    gate, numbers = circuit.data[0].operation, partial(_number, values=values)
    phase = gate.phase if isinstance(gate.phase, InterpolatePoints) else numbers(gate.phase)
    amplitude, detuning = (_points(points, numbers) for points in (gate.amplitude, gate.detuning))
    phase = _points(phase, numbers) if isinstance(phase, InterpolatePoints) else phase
    bound = QuantumCircuit(circuit.num_qubits)
    bound.append(HamiltonianGate(amplitude, detuning, phase, list(register.qubits.values())), bound.qubits)
    return bound


def _points(points: InterpolatePoints, numbers: Callable[[Any], float]) -> InterpolatePoints:
    return InterpolatePoints(
        [numbers(value) for value in points.values],
        int(numbers(points.duration)),
        None if points.times is None else [numbers(time) for time in points.times],
        interpolator=points.interpolator,
        **points.interpolator_options,
    )


def _number(value: Any, values: Mapping[str, Any]) -> float:
    if not isinstance(value, ParameterExpression):
        return float(value)
    missing = sorted(one.name for one in value.parameters if one.name not in values)
    if missing:
        raise QpudError(f"the circuit's parameter {missing[0]} has no value")
    return float(value.bind({one: values[one.name] for one in value.parameters}))
