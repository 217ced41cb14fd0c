"""QRMI calls one after another, each with what it returned or raised; for error texts.

`python qrmi_steps.py RESOURCE < STEPS`: a JSON list of [method, argument...]. `task_start` takes a sequence and
shots, `wait` a task; "$session" and "$task" stand for what acquire and task_start returned last.
"""

import json
import os
import sys
import time

from qrmi import Payload, QuantumResource, ResourceType, TaskStatus


def wait(qpu, task):
    """Poll a task until it has ended."""
    while (status := qpu.task_status(task)) in (TaskStatus.Queued, TaskStatus.Running):
        time.sleep(0.05)
    return status


def call(qpu, method, arguments):
    """One call, as text or None."""
    if method == "wait":
        return str(wait(qpu, *arguments))
    if method == "task_start":
        sequence, shots = arguments
        arguments = [Payload.PasqalCloud(sequence=sequence, job_runs=shots)]
    answer = getattr(qpu, method)(*arguments)
    if answer is None or isinstance(answer, (str, bool)):
        return answer
    return str(getattr(answer, "value", answer))


def main(name, steps):
    """Run the steps; an error ends none of them."""
    qpu = QuantumResource(name, ResourceType.PasqalLocal)
    last, outcomes = {}, []
    for method, *arguments in steps:
        try:
            ok = call(qpu, method, [last.get(item, item) if isinstance(item, str) else item for item in arguments])
            last[{"acquire": "$session", "task_start": "$task"}.get(method, "$answer")] = ok
            if method == "acquire":
                os.environ[f"{name}_QRMI_JOB_ACQUISITION_TOKEN"] = ok
            outcomes.append({"method": method, "ok": ok})
        except Exception as error:
            outcomes.append({"method": method, "error": type(error).__name__, "text": str(error)})
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1], json.load(sys.stdin))
