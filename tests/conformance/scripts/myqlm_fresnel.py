"""An ordinary myQLM script: the sweep as a job for FresnelQPU.

`python myqlm_fresnel.py BASE_URI SHOTS`; the URI carries uid and session token, `latest` is the default version.
"""

import json
import sys

import afm
from pulser.json.abstract_repr.deserializer import deserialize_device
from pulser_myqlm import FresnelQPU, IsingAQPU
from qat.comm.exceptions.ttypes import QPUException


def main(uri, shots):
    """Run and print the counts, or the error."""
    qpu = FresnelQPU(uri)
    device = deserialize_device(qpu.get_specs().description)
    job = IsingAQPU.convert_sequence_to_job(afm.sequence(device), nbshots=shots)
    try:
        result = qpu.submit_job(job)
    except QPUException as error:
        print(json.dumps({"error": error.message}))
        return
    print(json.dumps({"device": device.name, "counts": dict(IsingAQPU.convert_result_to_samples(result))}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
