"""Run a script of an ordinary user in the venv of one released client, and read the JSON it prints last."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import munged
import venvs

SCRIPTS = Path(__file__).resolve().parent / "scripts"
CLIENT_SECONDS = 120.0


class ClientFailed(Exception):
    """The script ended with an error; the message holds what it printed."""


def run(
    client: str, script: str, *arguments: str, env: dict[str, str], stdin: str = "", user_id: int | None = None
) -> Any:
    """Run a script and return what it printed as JSON on its last line.

    Args:
        client: Name of the venv.
        script: File in scripts/.
        arguments: Its command line.
        env: Its whole environment besides PATH and the like: nothing of ours leaks in.
        stdin: What it reads.
        user_id: Run as this user (root only); None: as ourselves.

    Raises:
        ClientFailed: Its exit code was not 0.
    """
    command = [*munged.as_user(user_id), str(venvs.python_of(client)), "-B", str(SCRIPTS / script), *arguments]
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=CLIENT_SECONDS, env={**_basics(), **env}
    )
    if done.returncode != 0:
        raise ClientFailed(f"{script} {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def slurm_env(
    url: str, user_id: int = 0, token: str | None = None, slurm_job: int = 4242, resource: str = "FRESNEL"
) -> dict[str, str]:
    """What Slurm's plugin sets for a job with `--qpu=RESOURCE` (CONTRACTS §7)."""
    env = {
        f"{resource}_QRMI_WARDEN_URL": url,
        "QRMI_JOB_UID": str(user_id),
        "QRMI_JOB_ID": str(slurm_job),
        "QRMI_JOB_QPU_RESOURCES": resource,
        "QRMI_JOB_QPU_TYPES": "pasqal-local",
    }
    if token is not None:
        env[f"{resource}_QRMI_JOB_ACQUISITION_TOKEN"] = token
    return env


def _basics() -> dict[str, str]:
    marks = {name: value for name, value in os.environ.items() if name.startswith("QPUD_TEST_")}
    return {"PATH": "/usr/bin:/bin", "NO_PROXY": "*", "MPLBACKEND": "agg", "MPLCONFIGDIR": "/nonexistent", **marks}
