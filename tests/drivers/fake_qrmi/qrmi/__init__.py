"""A stand-in for the package qrmi 0.26.4: its documented classes, over a folder instead of a vendor's API.

FAKE_FOLDER holds what happens: `status` (Online…), `ends` (Completed, Failed…), `fail` (OPERATION KIND text), `hang`
(OPERATION), `rate` (shots per second); calls are appended to `calls`, tasks are files task-N.json.
"""

import enum
import json
import os
import time
from pathlib import Path

FOLDER = Path(os.environ["FAKE_FOLDER"])
(FOLDER / "pid").write_text(str(os.getpid()))


class QrmiError(RuntimeError):
    pass


class UnsupportedPayloadError(QrmiError):
    pass


class AuthenticationFailedError(QrmiError):
    pass


class TaskNotFoundError(QrmiError):
    pass


class TaskStatus(enum.Enum):
    Queued = 0
    Running = 1
    Completed = 2
    Failed = 3
    Cancelled = 4

    def __str__(self):
        return f"TaskStatus.{self.name}"


class ResourceType(enum.Enum):
    IBMQuantumSystem = 0
    IBMQuantumComputeService = 1
    IBMQiskitRuntimeService = 2
    IQMServer = 3
    AliceBobFelis = 4
    OQTOPUS = 5
    PasqalCloud = 6
    PasqalLocal = 7


class Payload:
    class QiskitPrimitive:
        def __init__(self, input, program_id):
            self.document = {"input": input, "program_id": program_id}

    class IQMServer:
        def __init__(self, iqmjson, job_type, use_timeslot, tag):
            self.document = {"iqmjson": iqmjson, "job_type": job_type, "use_timeslot": use_timeslot, "tag": tag}

    class AliceBobFelis:
        def __init__(self, human_qir, input_params):
            self.document = {"human_qir": human_qir, "input_params": input_params}

    class Oqtopus:
        def __init__(self, job_spec):
            self.document = {"job_spec": job_spec}

    class PasqalCloud:
        def __init__(self, sequence, job_runs):
            self.document = {"sequence": sequence, "job_runs": job_runs}


class Valued:
    def __init__(self, value):
        self.value = value


class ResourceStatus:
    def __init__(self, word, reason):
        self.status, self.status_reason = f"ResourceStatusCode.{word}", reason


def said(name, default=""):
    path = FOLDER / name
    return path.read_text().strip() if path.exists() else default


def happen(operation):
    with (FOLDER / "calls").open("a") as calls:
        calls.write(f"{operation}\n")
    if said("hang") == operation:
        (FOLDER / "hang").unlink()
        time.sleep(600)
    wanted, _, rest = said("fail").partition(" ")
    if wanted == operation:
        (FOLDER / "fail").unlink()
        kind, _, text = rest.partition(" ")
        raise globals()[kind](text)


class QuantumResource:
    def __init__(self, resource_id, resource_type):
        self.name, self.type = resource_id, resource_type
        if f"{resource_id}_QRMI_URL" not in os.environ:
            raise QrmiError(f"{resource_id}_QRMI_URL environment variable is not set")

    def status(self):
        happen("status_of_resource")
        return ResourceStatus(said("status", "Online"), said("reason") or None)

    def acquire(self):
        happen("acquire")
        return "token-7"

    def release(self, id):
        happen(f"release {id}")

    def target(self):
        happen("target")
        return Valued(said("target", '{"num_qubits": 5}'))

    def task_start(self, payload):
        happen("start")
        number = len(list(FOLDER.glob("task-*.json")))
        document = {"type": self.type.name, "payload": payload.document, "at": time.time()}
        document["session"] = os.environ.get(f"{self.name}_QRMI_JOB_ACQUISITION_TOKEN")
        (FOLDER / f"task-{number}.json").write_text(json.dumps(document))
        happen("started")
        return f"task-{number}"

    def _task(self, task_id):
        path = FOLDER / f"{task_id}.json"
        if not path.exists():
            raise TaskNotFoundError(f"no task {task_id}")
        return json.loads(path.read_text())

    def _shots(self, task_id):
        return int(self._task(task_id)["payload"].get("job_runs", 10))

    def task_status(self, task_id):
        happen("status")
        task = self._task(task_id)
        if "stopped" in task:
            return TaskStatus.Cancelled
        is_over = time.time() >= task["at"] + self._shots(task_id) / float(said("rate", "2000"))
        return TaskStatus[said("ends", "Completed")] if is_over else TaskStatus.Running

    def task_result(self, task_id):
        happen("result")
        task = self._task(task_id)
        if "stopped" in task:
            raise QrmiError("no result")
        counts = {"counter": {"0000": self._shots(task_id)}}
        is_counts = self.type in (ResourceType.PasqalCloud, ResourceType.PasqalLocal)
        return Valued(json.dumps(counts) if is_counts else '{"results": [{"data": {"c": [1, 0]}}]}')

    def task_stop(self, task_id):
        happen("stop")
        task = self._task(task_id)
        is_over = time.time() >= task["at"] + self._shots(task_id) / float(said("rate", "2000"))
        if is_over:
            raise QrmiError("Status: 409 Conflict, Fail it has ended")
        (FOLDER / f"{task_id}.json").write_text(json.dumps({**task, "stopped": True}))

    def task_logs(self, task_id):
        happen("logs")
        return said("logs", "the fridge is warm")
