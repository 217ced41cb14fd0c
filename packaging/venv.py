"""Make or refresh a virtual environment of the repository: `python3 packaging/venv.py dev|worker`.

Needs only the standard library, since it runs before anything is installed. What goes in is read from
pyproject.toml, in which version from constraints.txt. An environment that is there already is only brought up to date.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "packaging" / "constraints.txt"
OLDEST_PYTHON = (3, 11)


def steps(name: str) -> list[list[str]]:
    """What to hand to pip, one list per call.

    The worker's torch comes in a call of its own: emu-mps asks for any torch, and pip would then take the newest
    one with several gigabytes of CUDA; the pinned one, installed before, satisfies it.
    """
    import tomllib  # not in the Pythons that `refuse_old_python` turns away

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    if name == "worker":
        return [["torch"], extras["worker"]]
    return [[*project["dependencies"], *extras["dev"]]]


def refuse_old_python() -> None:
    """Stop with one sentence under a Python that cannot run qpud."""
    if sys.version_info < OLDEST_PYTHON:
        needed = ".".join(map(str, OLDEST_PYTHON))
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(
            f"qpud needs Python {needed} or newer, {sys.executable} is {found}: make PYTHON=/path/to/python{needed}"
        )


def create(folder: Path) -> None:
    """Make the environment unless it has an interpreter that runs."""
    python = folder / "bin" / "python"
    if python.exists() and subprocess.run([python, "-c", ""], check=False).returncode == 0:
        return
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=False)
    if made.returncode:
        sys.exit(f"{sys.executable} -m venv failed: on Debian, apt-get install python3-venv")


def install(folder: Path, requirements: list[str]) -> None:
    """Let pip bring the requirements in, quietly; its own words appear only when it fails."""
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS)]
    quiet = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", "PIP_NO_INPUT": "1"}
    done = subprocess.run([*pip, *requirements], env=quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}pip could not install {', '.join(requirements)} into {folder}")


def main(name: str) -> None:
    """Bring `.venv/NAME` to what pyproject.toml and constraints.txt say; one caller at a time."""
    refuse_old_python()
    folder = ROOT / ".venv" / name
    folder.parent.mkdir(exist_ok=True)
    print(f"setting up .venv/{name} …", end=" ", flush=True)
    began = time.monotonic()
    with (folder.parent / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        create(folder)
        for requirements in steps(name):
            install(folder, requirements)
        (folder / ".ready").touch()
    print(f"{time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
