"""Runs under the worker's interpreter with no daemon: what connect() does then, as JSON."""

import json
import os
import sys

import pulser
import qpud_local
from qpud_pulser import QpudBackend, connect


def flip(qubits):
    """A pi pulse on far atoms, its area a variable; not measured."""
    places = {name: (30.0 * number, 0.0) for number, name in enumerate(qubits)}
    register = pulser.Register(places).with_automatic_layout(pulser.AnalogDevice)
    sequence = pulser.Sequence(register, pulser.AnalogDevice)
    sequence.declare_channel("ising", "rydberg_global")
    area = sequence.declare_variable("area", dtype=float)
    sequence.add(pulser.Pulse.ConstantDetuning(pulser.BlackmanWaveform(1000, area), 0.0, 0.0), "ising")
    return sequence


def error_of(action, **environ):
    """The text of what an action raises under further variables."""
    os.environ.update(environ)
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        for name in environ:
            del os.environ[name]
    return ""


def counts(connection, qubits=("a", "b")):
    """Of a full flip."""
    params = [{"runs": 20, "variables": {"area": 3.14159}}]
    return dict(QpudBackend(flip(qubits), connection).run(params, wait=True)[0].final_bitstrings)


def adaptively(connection):
    """Two jobs in an open batch, one after it is closed."""
    backend = QpudBackend(flip("ab"), connection)
    with backend.open_batch():
        results = [backend.run([{"runs": n, "variables": {"area": 0.0}}]) for n in (5, 7)]
    batch = results[0].batch_id
    late = error_of(lambda: connection.submit(flip("ab"), batch_id=batch, job_params=[{"runs": 1}]))
    progress = [list(connection.progress(one).values()) for one in results]
    return [len(connection._get_job_ids(batch)), progress, results[0].get_batch_status().name, late]


first = connect()
emulators = {name: counts(connect(local=name)) for name in qpud_local.MODULES}
os.environ["QPUD_QPU"] = "EMU_MPS"
named = type(connect()).__name__
del os.environ["QPUD_QPU"]
away = {"QPUD_URL": "http://127.0.0.1:9", "QPUD_TOKEN": "t"}
seen = {
    "first": first.emulator,
    "atoms": list(QpudBackend(flip("ab"), first).run([{"runs": 1, "variables": {"area": 0.0}}])[0].atom_order),
    "emulators": emulators,
    "one atom": counts(first, ("a",)),
    "open batch": adaptively(connect(local="qutip")),
    "an emulator's name": named,
    "a QPU without a daemon": error_of(connect, QPUD_QPU="FRESNEL"),
    "a daemon that is away": error_of(connect, **away),
    "never": error_of(lambda: connect(local="never")),
    "forced": error_of(connect, QPUD_LOCAL="qutip", **away),
    "unknown": error_of(connect, QPUD_LOCAL="emu-xyz"),
}
qpud_local.find_spec = lambda _: None  # as where none is installed
seen["none installed"] = error_of(connect)
print(json.dumps(seen), file=sys.stdout)
