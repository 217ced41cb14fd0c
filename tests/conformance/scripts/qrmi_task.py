"""An ordinary QRMI script: acquire, target, task_start, poll, result, logs, stop, release over pasqal-local.

`python qrmi_task.py RESOURCE SHOTS < SEQUENCE` in the environment that Slurm's plugin sets.
"""

import json
import os
import sys
import time

from qrmi import Payload, QuantumResource, ResourceType, TaskStatus

UNFINISHED = (TaskStatus.Queued, TaskStatus.Running)


def stop_error(qpu, task):
    """What task_stop says about a task that has ended."""
    try:
        qpu.task_stop(task)
    except RuntimeError as error:
        return f"{type(error).__name__}: {error}"
    return None


def main(name, sequence, shots):
    """Run one task and print what was seen."""
    qpu = QuantumResource(name, ResourceType.PasqalLocal)
    seen = {"accessible": qpu.is_accessible()}
    session = qpu.acquire()
    seen["session"] = os.environ[f"{name}_QRMI_JOB_ACQUISITION_TOKEN"] = session
    qpu_specs = json.loads(qpu.target().value)
    seen["device"] = json.loads(qpu_specs[0]["specs"])["name"]
    task = qpu.task_start(Payload.PasqalCloud(sequence=sequence, job_runs=shots))
    seen["task"], seen["statuses"] = task, []
    while (status := qpu.task_status(task)) in UNFINISHED:
        seen["statuses"].append(str(status))
        time.sleep(0.05)
    seen["statuses"].append(str(status))
    seen["counter"] = json.loads(qpu.task_result(task).value)["counter"]
    seen["logs"] = qpu.task_logs(task)
    seen["stop_after_end"] = stop_error(qpu, task)
    qpu.release(session)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin.read(), int(sys.argv[2]))
