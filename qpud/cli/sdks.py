"""Which variables one SDK reads, and what its script says; each line tried in tests/conformance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Sdk(NamedTuple):
    """One SDK."""

    reads: str  # pattern of the variables' names
    script: str  # what a script says, for people


SDKS: dict[str, Sdk] = {
    "pulser": Sdk(r"QPUD_(?!MYQLM_).*", "QpudBackend(sequence) of qpud_pulser.py"),
    "qiskit": Sdk(r"QPUD_(?!MYQLM_).*", "SamplerV2() of qpud_qiskit.py"),
    "qrmi": Sdk(r"(QRMI|SLURM)_JOB_.*|.*_QRMI_(WARDEN|JOB)_.*", "QRMIService().resources()[0]"),
    "cudaq": Sdk(
        r"(QRMI|SLURM)_JOB_QPU_.*|.*_QRMI_PASQAL_CLOUD_.*", 'only these: cudaq.set_target("pasqal", machine="qrmi")'
    ),
    "myqlm": Sdk(r"QPUD_MYQLM_URI", 'FresnelQPU(os.environ["QPUD_MYQLM_URI"])'),
    "cloud": Sdk(
        r"QPUD_(URL|TOKEN|QPU)", "PasqalCloudConnection(endpoints=…, token_provider=…), see sdk_shims/cloud/batch.py"
    ),
}
_WITHOUT_PROXY = r"|NO_PROXY|no_proxy"


def of(sdk: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    """What an SDK reads of an environment; all of it without an SDK."""
    if sdk is None:
        return dict(environment)
    wanted = re.compile(SDKS[sdk].reads + _WITHOUT_PROXY)
    found = {name: value for name, value in environment.items() if wanted.fullmatch(name)}
    if sdk != "cudaq":
        return found
    return {name: _as_cloud(name, value) for name, value in found.items()}


def _as_cloud(name: str, value: str) -> str:
    """CUDA-Q 0.16 takes any resource for the cloud's; later ones believe the type."""
    return value.replace("pasqal-local", "pasqal-cloud") if name.endswith("_QPU_TYPES") else value
