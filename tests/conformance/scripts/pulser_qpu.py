"""An ordinary Pulser script: QPUBackend over PulserQRMIConnection, the resource found as in a Slurm job.

`python pulser_qpu.py plain SHOTS` runs the sweep once, `python pulser_qpu.py variables SHOTS SHOTS` the
parametrised one with two job_params (antiferromagnet, then nothing excited).
"""

import json
import sys

import afm
import pulser
from qrmi.pulser import PulserQRMIConnection


def main(kind, shots):
    """Run and print one counts object per job."""
    connection = PulserQRMIConnection()
    device = next(iter(connection.fetch_available_devices().values()))
    if kind == "plain":
        sequence, params = afm.sequence(device), [{"runs": shots[0]}]
    else:
        ends = ([-30.0, -30.0, 22.0, 22.0], [-30.0] * 4)
        sequence = afm.parametrised(device)
        params = [{"runs": n, "variables": {"detuning": end}} for n, end in zip(shots, ends, strict=True)]
    results = pulser.QPUBackend(sequence, connection).run(job_params=params, wait=True)
    counts = [dict(result.final_bitstrings) for result in results.results]
    logs = connection.get_batch_logs()
    print(json.dumps({"device": device.name, "counts": counts, "logs": list(logs), "batch": results.batch_id}))


if __name__ == "__main__":
    main(sys.argv[1], [int(text) for text in sys.argv[2:]])
