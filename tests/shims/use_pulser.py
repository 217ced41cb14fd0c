"""Runs under the worker's interpreter inside `qpud run`: uses the Pulser shim in every way, prints JSON of it."""

import json
import time

import numpy as np
import pulser
from pulser.backend import QPUBackend
from qpud_pulser import QpudBackend, QpudConnection, connect

connection = QpudConnection()
(device,) = connection.fetch_available_devices().values()


def pulse(duration=1000, qubits=("left", "right")):
    """Two far atoms and one pulse whose area is a variable; not measured."""
    register = pulser.Register(dict(zip(qubits, [(-15.0, 0.0), (15.0, 0.0)], strict=True)))
    sequence = pulser.Sequence(register.with_automatic_layout(device), device)
    sequence.declare_channel("ising", "rydberg_global")
    area = sequence.declare_variable("area", dtype=float)
    sequence.add(pulser.Pulse.ConstantDetuning(pulser.BlackmanWaveform(duration, area), 0.0, 0.0), "ising")
    return sequence


def error_of(action):
    """The text of what an action raises."""
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def with_ballast():
    """A batch whose variables alone are larger than qpud takes."""
    sequence = pulse()
    sequence.declare_variable("ballast", size=60_000)
    params = {"runs": 1, "variables": {"area": 1.0, "ballast": np.zeros(60_000)}}
    return connection.submit(sequence, job_params=[params] * 8)


def adaptively():
    """An open batch: the second job depends on what the first one measured; then it is closed."""
    with backend.open_batch():
        first = backend.run(job_params=areas[:1], wait=True)
        while_open = first.get_batch_status().name
        excited = "11" in first.results[0].final_bitstrings
        second = backend.run(job_params=areas[excited:][1:], wait=True)
    late = error_of(lambda: connection.submit(pulse(), job_params=areas[:1], batch_id=first.batch_id))
    return {
        "batches": len({first.batch_id, second.batch_id}),
        "jobs": len(connection._get_job_ids(first.batch_id)),
        "counts": [dict(one.results[0].final_bitstrings) for one in (first, second)],
        "progress": list(connection.progress(second).values()),
        "while open": while_open,
        "at the end": second.get_batch_status().name,
        "late": late,
    }


def canceled():
    """Long jobs, canceled."""
    results = backend.run(job_params=[{"runs": 2000, "variables": {"area": 1.0}}] * 4)
    connection.cancel(results)
    while (status := results.get_batch_status().name) in ("PENDING", "RUNNING"):
        time.sleep(0.05)
    return status


backend = QPUBackend(pulse(), connection)
areas = [{"runs": 40, "variables": {"area": np.float64(area)}} for area in (0.0, np.pi)]
batch = backend.run(job_params=areas, wait=True)
later = backend.run(job_params=areas[:1])
pending = [status.name for status, _ in connection._query_job_progress(later.batch_id).values()]
seen = {
    "counts": [dict(result.final_bitstrings) for result in batch.results],
    "atoms": list(batch.results[0].atom_order),
    "duration": batch.results[0].total_duration,
    "batch": batch.get_batch_status().name,
    "jobs": len(batch.job_ids),
    "pending": pending,
    "later": dict(later.results[0].final_bitstrings),
    "elsewhere": dict(QpudConnection()._fetch_result(later.batch_id, None)[0].final_bitstrings),
    "too much": error_of(with_ballast),
    "too many jobs": error_of(lambda: backend.run(job_params=areas[:1] * 1001)),
    "no runs": error_of(lambda: backend.run(job_params=[])),
    "open batch": adaptively(),
    "canceled": canceled(),
    "connected": [type(connect()).__name__, dict(QpudBackend(pulse()).run(areas[:1], True)[0].final_bitstrings)],
    "unknown resource": error_of(QpudConnection(qpu="NOWHERE").fetch_available_devices),
    "bad token": error_of(QpudConnection(token="wrong").fetch_available_devices),
    "no daemon": error_of(QpudConnection(url="http://127.0.0.1:9").fetch_available_devices),
    "too many shots": error_of(
        lambda: connection.submit(pulse(), job_params=[{"runs": 3000, "variables": {"area": 1.0}}])
    ),
}
print(json.dumps(seen))
