"""A machine of its own for each test: private mounts, so that other users' folders and odd mounts can be real."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

NOBODY = 65534
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# The zipapp lies in a read-only folder, and every folder that it could unpack into is empty.
PRELUDE = """
mount -t tmpfs -o mode=755 none /mnt
touch /mnt/qpud.pyz
mount --bind "$PYZ" /mnt/qpud.pyz
mount -o remount,ro /mnt
for folder in /tmp /var/tmp; do mount -t tmpfs -o mode=1777 none $folder; done
for folder in /home /run/user /root; do mkdir -p $folder; mount -t tmpfs -o mode=755 none $folder; done
as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups env -i "$@"; }
"""


def on_a_machine(pyz: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script as root on private mounts that vanish with it; the zipapp is /mnt/qpud.pyz."""
    command = ["unshare", "--mount", "sh", "-euc", PRELUDE + script]
    return subprocess.run(command, env={"PATH": PATH, "PYZ": str(pyz)}, capture_output=True, text=True, timeout=60)


def start(pyz: Path, root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the zipapp with a cache of its own."""
    env = {"PATH": os.environ["PATH"], "SHIV_ROOT": str(root), **environment}
    return subprocess.run([pyz, *(arguments or ("version",))], env=env, capture_output=True, text=True, timeout=60)


def variant(pyz: Path, copy: Path, *, program: str | None = None, **build: str) -> Path:
    """A copy of the zipapp with other entries in build.json and, if given, another program as its command line."""
    replaced = {"build.json": json.dumps({**build_of(pyz), **build})}
    if program:
        replaced["site-packages/qpud/cli/__init__.py"] = program
    with zipfile.ZipFile(pyz) as source, zipfile.ZipFile(copy, "w") as target:
        for info in source.infolist():
            content = replaced.get(info.filename, source.read(info))
            info.compress_type = zipfile.ZIP_STORED  # for speed
            target.writestr(info, content)
    content = copy.read_bytes()
    copy.write_bytes(b"#!/usr/bin/env python3\n" + content)
    copy.chmod(0o755)
    return copy


def build_of(pyz: Path) -> dict[str, str]:
    """What the zipapp says about its build."""
    with zipfile.ZipFile(pyz) as archive:
        return json.loads(archive.read("build.json"))


def caches(root: Path) -> list[str]:
    """The build ids unpacked in a folder."""
    return sorted(path.name.removeprefix("qpud_") for path in root.glob("qpud_*"))
