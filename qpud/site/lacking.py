"""What a policy names and this machine does not have: a typing error, or a policy checked on another machine."""

from __future__ import annotations

import grp
import os
import shutil
from pathlib import Path

from qpud.core.policy import DaemonPolicy, Policy
from qpud.core.resource import ResourcePolicy
from qpud.core.terms import Launcher
from qpud.site.peer import user_id


def lacking(policy: Policy) -> list[str]:
    """Users, group, interpreter and Slurm's programs that this machine lacks, one sentence each.

    Files are not opened: the daemon's user may read what the one who checks may not.
    """
    daemon = policy.daemon
    found = [
        f"AdminUsers names {name}, a user whom this machine does not know." for name in _unknown(daemon.admin_users)
    ]
    if daemon.socket_group is not None and not _has_group(daemon.socket_group):
        found.append(f"SocketGroup = {daemon.socket_group}: this machine has no such group.")
    if daemon.worker_python is not None and _is_missing(daemon.worker_python):
        found.append(f"WorkerPython = {daemon.worker_python}: there is no such file.")
    found += _of_slurm(daemon) if daemon.slurm_lookup else []
    return found + [sentence for resource in policy.resources.values() for sentence in _of(resource)]


def _of_slurm(daemon: DaemonPolicy) -> list[str]:
    found = [
        f"SlurmLookup = yes: this machine has no {program} on its PATH."
        for program in ("squeue", "scontrol")
        if shutil.which(program) is None
    ]
    if daemon.slurm_conf is not None and _is_missing(daemon.slurm_conf):
        found.append(f"SlurmConf = {daemon.slurm_conf}: there is no such file.")
    if daemon.slurm_rest_socket is not None and _is_missing(daemon.slurm_rest_socket):
        found.append(f"SlurmRestSocket = {daemon.slurm_rest_socket}: there is no such socket.")
    return found


def _of(resource: ResourcePolicy) -> list[str]:
    if resource.launcher is Launcher.SLURM:
        return [
            f"Launcher = slurm of resource {resource.name}: this machine has no {program} on its PATH."
            for program in ("srun", "squeue", "scancel")
            if shutil.which(program) is None
        ]
    files = {
        "TokenFile": resource.token_file,
        "CredentialsFile": resource.credentials_file,
        "QrmiPython": resource.qrmi_python,
        "QrmiEnvironmentFile": resource.qrmi_environment_file,
    }
    return [
        f"{key} = {path} of resource {resource.name}: there is no such file."
        for key, path in files.items()
        if path is not None and _is_missing(path)
    ]


def _unknown(users: tuple[str, ...]) -> list[str]:
    return [name for name in users if user_id(name) is None]


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _is_missing(path: Path) -> bool:
    """Whether it is certainly not there; a folder that we may not enter tells nothing."""
    try:
        os.stat(path)  # noqa: PTH116  Path.exists answers otherwise from one Python to the next
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
