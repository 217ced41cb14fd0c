"""An ordinary Pulser script over the cloud connection: QPU, emulator, open batch, OVH's connection.

`python cloud_pulser.py URL SHOTS qpu|emulator|open|ovh` with a token in PASQAL_PULSER_ACCESS_TOKEN; works with
pulser-pasqal 0.24 and with the connection that pasqal-cloud 0.24 brings itself.
"""

import json
import os
import sys
import time
import warnings

warnings.simplefilter("ignore")

import afm  # noqa: E402
import pulser  # noqa: E402
from pasqal_cloud import Endpoints  # noqa: E402
from pasqal_cloud.authentication import TokenProvider  # noqa: E402
from pulser.backend.remote import BatchStatus  # noqa: E402

try:
    from pulser_pasqal import EmuMPSBackend, OVHConnection
    from pulser_pasqal import PasqalCloud as Connection
except ImportError:
    from pasqal_cloud import OVHConnection
    from pasqal_cloud import PasqalCloudConnection as Connection
    from pasqal_cloud import RemoteMPSBackend as EmuMPSBackend


class FromEnvironment(TokenProvider):
    """The token that the site gave."""

    def get_token(self):
        """It."""
        return os.environ["PASQAL_PULSER_ACCESS_TOKEN"]


def main(url, shots, kind):
    """Run and print one counts object per job."""
    endpoints = Endpoints(core=f"{url}/core-fast", account=f"{url}/account")
    if kind == "ovh":
        connection = OVHConnection(endpoints=endpoints)
    else:
        connection = Connection(project_id="p", endpoints=endpoints, token_provider=FromEnvironment())
    device = connection.fetch_available_devices()["FRESNEL"]
    if kind == "emulator":
        results = EmuMPSBackend(afm.sequence(device), connection).run(job_params=[{"runs": shots}], wait=True)
    elif kind == "open":
        results = open_batch(connection, afm.parametrised(device), shots)
    else:
        results = pulser.QPUBackend(afm.sequence(device), connection).run(job_params=[{"runs": shots}], wait=True)
    counts = [dict(one.final_bitstrings) for one in results.results]
    print(json.dumps({"device": device.name, "counts": counts, "batch": results.batch_id}))


def open_batch(connection, sequence, shots):
    """Two points of a sweep, one after the other, in one batch; its results once it is over."""
    backend = pulser.QPUBackend(sequence, connection)
    with backend.open_batch():
        for end in ([-30.0, -30.0, 22.0, 22.0], [-30.0] * 4):
            last = backend.run(job_params=[{"runs": shots, "variables": {"detuning": end}}], wait=True)
    while last.get_batch_status() in (BatchStatus.PENDING, BatchStatus.RUNNING):
        time.sleep(0.1)
    return connection.get_results(last.batch_id)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
