"""A Rabi pulse on three atoms by the cloud SDK: its addresses can be given in code only, in `on_qpud`.

qpud run --qpu=FRESNEL -- python batch.py
"""

import math
import os
from pathlib import Path

import pulser
from pasqal_cloud import PasqalCloudConnection
from pasqal_cloud.authentication import TokenProvider
from pasqal_cloud.endpoints import Endpoints


class SessionToken(TokenProvider):
    """The token of the qpud session."""

    def get_token(self):
        """What `qpud run` has set, or what lies in the file of a Slurm job."""
        return os.environ.get("QPUD_TOKEN") or Path(os.environ["QPUD_TOKEN_FILE"]).read_text().strip()


def on_qpud():
    """The cloud's connection, to qpud's addresses; the project is kept and shown, and any name will do."""
    url = f"{os.environ['QPUD_URL']}/r/{os.environ['QPUD_QPU']}"  # devices of the same name are told apart by the QPU
    endpoints = Endpoints(core=f"{url}/core-fast", account=f"{url}/account")
    return PasqalCloudConnection(project_id="qpud", endpoints=endpoints, token_provider=SessionToken())


connection = on_qpud()
device = connection.fetch_available_devices()[os.environ["QPUD_QPU"]]
atoms = pulser.Register({"a": (-20.0, 0.0), "b": (0.0, 0.0), "c": (20.0, 0.0)}).with_automatic_layout(device)
sequence = pulser.Sequence(atoms, device)
sequence.declare_channel("ising", "rydberg_global")
sequence.add(pulser.Pulse.ConstantDetuning(pulser.BlackmanWaveform(1000, math.pi), 0.0, 0.0), "ising")
results = pulser.QPUBackend(sequence, connection).run(job_params=[{"runs": 200}], wait=True)
counts = results.results[0].final_bitstrings
best = max(counts, key=counts.get)
print(f"{best} in {counts[best]} of {sum(counts.values())} shots")
