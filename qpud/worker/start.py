"""Start of the worker: called by the bootstrap of `qpud/drivers/launch.py`, or on a node by that of
`qpud/drivers/launch_slurm.py`, under the worker's interpreter.

Descriptor 1 goes to stderr before anything is imported, since the emulators print. matplotlib, which Pulser
imports, wants a folder to write to: the daemon makes one and removes it; if the daemon was killed, we do.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable

from qpud.worker.wire import Lines, Message, Pipes

REQUIRED = "pulser"


def main(descriptor: int, settings: str) -> None:
    """Import Pulser and the emulators, report ready, serve until the daemon hangs up.

    Args:
        descriptor: The inherited end of the daemon's socket pair.
        settings: JSON of parent.Settings.
    """
    os.dup2(2, 1)
    _run(Lines(socket.socket(fileno=descriptor)), settings)


def main_on_node(settings: str) -> None:
    """The same on a node of the cluster, where standard input and output lead to the daemon.

    Says first where it is: {"started": {"slurm_job", "node"}}. The streams get other numbers, which children close.
    """
    daemon = Lines(Pipes(os.dup(0), os.dup(1)))
    with open(os.devnull) as null:  # noqa: PTH123
        os.dup2(null.fileno(), 0)
    os.dup2(2, 1)
    place = {"slurm_job": os.environ.get("SLURM_JOB_ID", ""), "node": os.environ.get("SLURMD_NODENAME", "")}
    daemon.send({"started": place})
    folder = os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="qpud-worker-")
    # removed as soon as matplotlib has looked at it: Slurm ends workers by SIGKILL
    _run(daemon, settings, lambda: shutil.rmtree(folder, ignore_errors=True))


def _run(daemon: Lines, settings: str, loaded: Callable[[], None] = lambda: None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's to handle
    warnings.simplefilter("ignore")
    try:
        versions = _preload()
        loaded()
        daemon.send({"ready": versions})
        _serve(daemon, json.loads(settings))
    except ImportError as missing:
        daemon.send({"failed": _missing(missing)})
    finally:
        shutil.rmtree(os.environ["MPLCONFIGDIR"], ignore_errors=True)


def _preload() -> dict[str, str]:
    """Import everything that children need; emulators may be missing. Returns versions by package."""
    from importlib import import_module, metadata

    import_module(REQUIRED)
    found = {"python": sys.version.split()[0]}
    for module, package in (("pulser_simulation", "pulser-simulation"), ("emu_sv", "emu-sv"), ("emu_mps", "emu-mps")):
        try:
            import_module(module)
            found[package] = metadata.version(package)
        except ImportError:
            continue  # said when a job needs it
    found["pulser"] = metadata.version("pulser-core")
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # children of a parent with torch threads hang
        found["torch"] = metadata.version("torch")
    return found


def _missing(error: ImportError) -> str:
    name = error.name or str(error)
    return (
        f"the interpreter {sys.executable} (WorkerPython, --worker-python) cannot import the package {name}: {error}"
    )


def _serve(daemon: Lines, settings: Message) -> None:
    from qpud.worker import parent

    parent.serve(daemon, parent.Settings(**settings))
