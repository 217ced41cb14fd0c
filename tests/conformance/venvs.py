"""Virtual environments with exactly one released client each: `python3 tests/conformance/venvs.py [NAME...]`.

They lie in .venv/clients/NAME (or $QPUD_CLIENT_VENVS/NAME), are made on demand from requirements/NAME.txt, and
again when that file changes. Standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = Path(os.environ.get("QPUD_CLIENT_VENVS", ROOT / ".venv" / "clients"))
CLIENTS = ("qrmi", "qiskit", "myqlm", "pasqal_cloud", "pulser_pasqal", "cudaq")
SYSTEM_PYTHON = "/usr/bin/python3"
INSTALL_SECONDS = 900


def python_of(name: str) -> Path:
    """The interpreter of a client's environment, made or refreshed first.

    Raises:
        RuntimeError: pip failed; the message ends with its last lines.
    """
    venv = FOLDER / name
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may want it at once
        if not _is_fresh(name, venv):
            _make(name, venv)
    return venv / "bin" / "python"


def base_python() -> str:
    """The interpreter to build on: the system's where it will do, since ordinary users can run that one.

    One below /root cannot be executed by the user whom the tests impersonate.
    """
    ask = f"import sys, ensurepip, venv; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    if (
        Path(SYSTEM_PYTHON).exists()
        and subprocess.run([SYSTEM_PYTHON, "-c", ask], capture_output=True).returncode == 0
    ):
        return SYSTEM_PYTHON
    return sys.executable


def _stamp(name: str) -> str:
    requirements = (HERE / "requirements" / f"{name}.txt").read_bytes()
    return hashlib.sha256(requirements + base_python().encode()).hexdigest()


def _is_fresh(name: str, venv: Path) -> bool:
    stamp = venv / "stamp"
    return stamp.exists() and stamp.read_text() == _stamp(name)


def _make(name: str, venv: Path) -> None:
    began = time.monotonic()
    shutil.rmtree(venv, ignore_errors=True)
    _run([base_python(), "-m", "venv", str(venv)])
    requirements = HERE / "requirements" / f"{name}.txt"
    _run([str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(requirements)])
    _run([str(venv / "bin" / "python"), "-m", "compileall", "-q", str(venv / "lib")], must=False)
    (venv / "stamp").write_text(_stamp(name))
    print(f"{venv} made in {time.monotonic() - began:.0f} s", file=sys.stderr)


def _run(command: list[str], must: bool = True) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if must and done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise RuntimeError(f"{' '.join(command)} failed:\n{tail}")


if __name__ == "__main__":
    for client in sys.argv[1:] or CLIENTS:
        print(python_of(client))
