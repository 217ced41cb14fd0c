"""An ordinary QRMI script over pasqal-cloud: target, task_start, poll, result, stop.

`python qrmi_cloud.py RESOURCE SHOTS < SEQUENCE` in the environment that names address, project and credential.
"""

import json
import sys
import time

from qrmi import Payload, QuantumResource, ResourceType, TaskStatus

UNFINISHED = (TaskStatus.Queued, TaskStatus.Running)


def main(name, sequence, shots):
    """Run one task and print what was seen."""
    qpu = QuantumResource(name, ResourceType.PasqalCloud)
    seen = {"accessible": qpu.is_accessible()}
    seen["session"] = qpu.acquire()
    seen["target"] = json.loads(qpu.target().value)
    task = qpu.task_start(Payload.PasqalCloud(sequence=sequence, job_runs=shots))
    while (status := qpu.task_status(task)) in UNFINISHED:
        time.sleep(0.05)
    seen["status"] = str(status)
    seen["result"] = json.loads(qpu.task_result(task).value)
    qpu.task_stop(task)
    other = qpu.task_start(Payload.PasqalCloud(sequence=sequence, job_runs=shots))
    qpu.task_stop(other)
    while (stopped := qpu.task_status(other)) in UNFINISHED:
        time.sleep(0.05)
    seen["stopped"] = str(stopped)
    try:
        qpu.task_start(Payload.PasqalCloud(sequence=sequence, job_runs=10_000_000))
    except RuntimeError as error:
        seen["refusal"] = str(error)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin.read(), int(sys.argv[2]))
