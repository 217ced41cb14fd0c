"""The helper of the driver `qrmi`: one resource of the `qrmi` package, under an interpreter that has it.

Standard library and qrmi only; started by `drivers/qrmi_process.py`, with the variables that qrmi reads in its
environment. One request at a time; qrmi waits without limit, so that the daemon keeps the time and ends us.

Requests  {id, op, …}: acquire, release, start, status, result, stop, logs, target, health.
Answers   {id, ok: {…}} | {id, error: text, kind: class of qrmi's exception}; first {ready: versions} | {failed: text}.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from qpud.worker.limits import die_with
from qpud.worker.wire import Lines, Message

TYPES = {
    "pasqal-local": "PasqalLocal",
    "pasqal-cloud": "PasqalCloud",
    "ibm-quantum-system": "IBMQuantumSystem",
    "ibm-quantum-compute-service": "IBMQuantumComputeService",
    "qiskit-runtime-service": "IBMQiskitRuntimeService",
    "iqm-server": "IQMServer",
    "alice-bob-felis": "AliceBobFelis",
    "oqtopus": "OQTOPUS",
}
"""QrmiType → the package's ResourceType."""
PAYLOADS = {
    "PasqalCloud": ("sequence", "job_runs"),
    "QiskitPrimitive": ("input", "program_id"),
    "IQMServer": ("iqmjson", "job_type", "use_timeslot", "tag"),
    "AliceBobFelis": ("human_qir", "input_params"),
    "Oqtopus": ("job_spec",),
}
"""The package's Payload classes and their arguments."""
PAYLOAD_OF = {
    "pasqal-local": "PasqalCloud",
    "pasqal-cloud": "PasqalCloud",
    "iqm-server": "IQMServer",
    "alice-bob-felis": "AliceBobFelis",
    "oqtopus": "Oqtopus",
}
"""QrmiType → class of its payload; the others are IBM's."""


def main(descriptor: int, settings: str) -> None:
    """Serve until the daemon hangs up.

    Args:
        descriptor: The inherited end of the daemon's socket pair.
        settings: JSON of {name, type, daemon: its process id}.
    """
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's to handle
    daemon = Lines(socket.socket(fileno=descriptor))
    shutil.rmtree(os.environ.pop("MPLCONFIGDIR"), ignore_errors=True)  # made for the worker; nobody here wants it
    asked = json.loads(settings)
    die_with(asked["daemon"])  # a call of qrmi may never end, and would not notice that nobody waits any more
    try:
        from importlib import metadata

        import qrmi
    except ImportError as missing:
        daemon.send({"failed": f"the interpreter {sys.executable} (QrmiPython) cannot import qrmi: {missing}"})
        return
    daemon.send({"ready": {"qrmi": metadata.version("qrmi")}})
    _serve(daemon, Resource(qrmi, asked["name"], asked["type"]))


def _serve(daemon: Lines, resource: Resource) -> None:
    while (requests := daemon.receive()) is not None:
        for request in requests:
            daemon.send({"id": request["id"], **_answer(resource, request)})


def _answer(resource: Resource, request: Message) -> Message:
    try:
        return {"ok": resource.do(request)}
    except Exception as error:
        return {"error": str(error)[:2000], "kind": type(error).__name__}


class Resource:
    """One resource of qrmi, made anew when its session changes: qrmi may read its variables only then.

    Args:
        qrmi: The package.
        name: The resource, as its variables name it.
        kind: A word of TYPES.
    """

    def __init__(self, qrmi: Any, name: str, kind: str) -> None:
        self._qrmi = qrmi
        self._name = name
        self._kind = kind
        self._made: Any = None

    def do(self, request: Message) -> Message:
        """One request. Raises: whatever qrmi raises."""
        operations: dict[str, Callable[[Message], Message]] = {
            "acquire": self._acquire,
            "release": lambda ask: {"done": self._resource().release(ask["token"]) is None},
            "start": lambda ask: {"task": self._resource().task_start(self._payload(ask["payload"]))},
            "status": lambda ask: {"status": _word(self._resource().task_status(ask["task"]))},
            "result": lambda ask: {"result": self._resource().task_result(ask["task"]).value},
            "stop": lambda ask: {"done": self._resource().task_stop(ask["task"]) is None},
            "logs": lambda ask: {"logs": self._resource().task_logs(ask["task"])},
            "target": lambda _ask: {"target": self._resource().target().value},
            "health": self._health,
        }
        return operations[request["op"]](request)

    def _resource(self) -> Any:
        if self._made is None:
            kind = getattr(self._qrmi.ResourceType, TYPES[self._kind])
            self._made = self._qrmi.QuantumResource(self._name, kind)
        return self._made

    def _acquire(self, _ask: Message) -> Message:
        token = self._resource().acquire()
        os.environ[f"{self._name}_QRMI_JOB_ACQUISITION_TOKEN"] = token
        self._made = None
        return {"token": token}

    def _health(self, _ask: Message) -> Message:
        found = self._resource().status()
        return {"status": _word(found.status), "reason": str(getattr(found, "status_reason", None) or "")}

    def _payload(self, fields: Message) -> Any:
        kind = PAYLOAD_OF.get(self._kind, "QiskitPrimitive")
        return getattr(self._qrmi.Payload, kind)(**{name: _text(fields[name]) for name in PAYLOADS[kind]})


def _word(value: Any) -> str:
    """The last word of an enum's name: TaskStatus.Running → Running."""
    return str(value).rpartition(".")[2]


def _text(value: Any) -> Any:
    """Documents go as JSON text, as task_runner sends them; plain values as they are."""
    return json.dumps(value) if isinstance(value, dict | list) else value
