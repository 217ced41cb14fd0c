"""Start of the worker: called by the one-line bootstrap of `qpud/drivers/launch.py` under the worker's interpreter.

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
import warnings

from qpud.worker.wire import Lines, Message

REQUIRED = "pulser"


def main(descriptor: int, settings: str) -> None:
    """Import Pulser and the emulators, report ready, serve until the daemon hangs up.

    Args:
        descriptor: The inherited end of the daemon's socket pair.
        settings: JSON of parent.Settings.
    """
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's to handle
    daemon = Lines(socket.socket(fileno=descriptor))
    warnings.simplefilter("ignore")
    try:
        daemon.send({"ready": _preload()})
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
