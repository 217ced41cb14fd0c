"""What a site needs beside the policy, out of the zipapp itself: files, a system user, units, and their removal.

Nothing here decides whether to act: `plan` looks, the steps say what they would do and why, and `do` does it.
A second run finds everything right. All paths may be staged below another root, where no command is run.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from qpud.core.errors import Conflict, Unavailable

PROGRAM = "/usr/local/bin/qpud"
POLICY = "/etc/qpud/qpud.conf"
SLURM_FOLDER = "/usr/local/lib/qpud/slurm"
VERSIONS = "/usr/local/lib/qpud/constraints.txt"
USER = "qpud"
CARRIED = "install/"  # where packaging/zipapp/build.py puts them
SYSTEMD = {
    "qpud.service": ("/usr/local/lib/systemd/system/qpud.service", "the unit, confined, watched by the heartbeat"),
    "qpud.slice": ("/usr/local/lib/systemd/system/qpud.slice", "limits of daemon and emulators together"),
    "qpud.sysusers": ("/etc/sysusers.d/qpud.conf", "the system user and group qpud, also after a reinstallation"),
    "qpud.tmpfiles": ("/etc/tmpfiles.d/qpud.conf", "/run/qpud after a boot, /var/lib/qpud for the database"),
}
OWN_FOLDERS = ("/etc/qpud", "/usr/local/lib/qpud")
CACHE, STATE, RUNTIME = "/var/cache/qpud", "/var/lib/qpud", "/run/qpud"
COMMAND_SECONDS = 120.0


class Step(Protocol):
    """One thing to do: `verb` and `what` say it in a line, `why` says what for; a step that is done says `have`."""

    @property
    def verb(self) -> str:
        """make, replace, have, keep, remove or run."""

    @property
    def what(self) -> str:
        """The file, folder or command."""

    @property
    def why(self) -> str:
        """What it is for, or why nothing is done."""

    def do(self) -> None:
        """Do it. Raises: OSError, Unavailable."""


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing to do: it is right as it is (`have`), or not ours to change (`keep`)."""

    verb: str
    what: str
    why: str

    def do(self) -> None:
        """Nothing."""


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """Put a file in place; whoever opens the path sees the old one or the new one, whole."""

    verb: str
    what: str
    why: str
    content: bytes
    mode: int

    def do(self) -> None:
        """Write beside it, sync, rename."""
        path = Path(self.what)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        arriving = path.with_name(f".{path.name}.qpud-install")
        arriving.unlink(missing_ok=True)
        descriptor = os.open(arriving, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            target.write(self.content)
            os.fchmod(target.fileno(), self.mode)  # whatever the umask
            os.fsync(target.fileno())
        arriving.replace(path)


class Remove(msgspec.Struct, frozen=True, kw_only=True):
    """Take a file away, or a folder with all that is in it, and empty folders around it up to `own`."""

    what: str
    why: str
    own: str
    verb: str = "remove"

    def do(self) -> None:
        """Remove it; a link is removed, not followed."""
        path = Path(self.what)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        for folder in path.parents:
            if not folder.is_relative_to(self.own) or any(folder.iterdir()):
                break
            folder.rmdir()


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A command of the system's."""

    argv: tuple[str, ...]
    why: str
    verb: str = "run"

    @property
    def what(self) -> str:
        """As it would be typed."""
        return " ".join(self.argv)

    def do(self) -> None:
        """Run it. Raises: Unavailable with what it said."""
        try:
            done = subprocess.run(self.argv, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"`{self.what}` cannot be run: {error}") from None
        if done.returncode:
            raise Unavailable(f"`{self.what}` failed: {' '.join(done.stderr.split()) or f'exit {done.returncode}'}")


def carried(archive: Path, folder: str) -> dict[str, bytes]:
    """Files that the zipapp holds for the site, by name below `folder` ("systemd", "slurm").

    Raises:
        Conflict: This qpud does not run from a zipapp, so there is nothing to copy.
    """
    if not zipfile.is_zipfile(archive):
        raise Conflict(f"{archive} is no zipapp: take the file that `make pyz` builds, it installs itself")
    prefix = f"{CARRIED}{folder}/"
    with zipfile.ZipFile(archive) as held:
        names = [name for name in held.namelist() if name.startswith(prefix)]
        return {name.removeprefix(prefix): held.read(name) for name in names}


def plan_install(archive: Path, policy: str, root: Path | None, *, slurm: bool) -> list[Step]:
    """What is to be done, in order.

    Args:
        archive: The zipapp that runs.
        policy: The commented default policy; an existing one is never touched.
        root: Stage into this folder; None for the machine itself.
        slurm: Lay down the Slurm pieces too.

    Raises:
        Conflict: This qpud is no zipapp, or holds no Slurm pieces.
    """
    files = [_write(root, path, content, why) for path, content, why in _files(archive, slurm=slurm)]
    files.insert(1, _policy(root, policy))
    return files if root else [*files, *_commands(changed=any(isinstance(step, Write) for step in files))]


def plan_uninstall(archive: Path, policy: str, root: Path | None, *, purge: bool) -> list[Step]:
    """What is to be undone, in order; state, an edited policy and the user stay unless `purge`.

    Raises:
        Conflict: This qpud is no zipapp, so it does not know what it laid down.
    """
    paths = [path for path, _, _ in _files(archive, slurm=True, demand=False)]
    steps = [_remove(root, path) for path in paths[1:]]
    steps += [_remove_policy(root, policy, purge=purge), _remove(root, CACHE), _remove(root, RUNTIME)]
    steps += [_remove(root, STATE) if purge else Idle(verb="keep", what=_at(root, STATE), why="jobs, results, ledger")]
    steps += [_remove(root, paths[0])]  # last: until then it can be repeated
    return steps if root else [*_farewell(), *steps, *_forget(purge=purge)]


def _files(archive: Path, *, slurm: bool, demand: bool = True) -> Iterator[tuple[str, bytes, str]]:
    """Path, content and purpose of each file but the policy."""
    units = carried(archive, "systemd")
    yield PROGRAM, archive.read_bytes(), "the program: this file"
    for name, (path, why) in SYSTEMD.items():
        yield path, units[name], why
    yield VERSIONS, carried(archive, "worker")["constraints.txt"], "versions for pip to make the worker's Python"
    if slurm:
        pieces = carried(archive, "slurm")
        if demand and not pieces:
            raise Conflict(f"{archive} holds no Slurm pieces: leave --slurm out")
        for name, content in sorted(pieces.items()):
            yield f"{SLURM_FOLDER}/{name}", content, "for Slurm; nothing uses it until slurm.conf names it"


def _at(root: Path | None, path: str) -> str:
    return str(root / path.lstrip("/")) if root else path


def _write(root: Path | None, path: str, content: bytes, why: str) -> Step:
    place, mode = Path(_at(root, path)), 0o755 if content.startswith(b"#!") else 0o644
    if not os.path.lexists(place):
        return Write(verb="make", what=str(place), why=why, content=content, mode=mode)
    if _is_right(place, content, mode):
        return Idle(verb="have", what=str(place), why="already right")
    return Write(verb="replace", what=str(place), why=why, content=content, mode=mode)


def _is_right(place: Path, content: bytes, mode: int) -> bool:
    found = place.lstat()
    return stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == mode and place.read_bytes() == content


def _policy(root: Path | None, text: str) -> Step:
    place = _at(root, POLICY)
    if os.path.lexists(place):
        return Idle(verb="have", what=place, why="already there, and never overwritten")
    return Write(verb="make", what=place, why="the policy: defaults, commented", content=text.encode(), mode=0o644)


def _commands(*, changed: bool) -> list[Step]:
    steps: list[Step] = []
    if _has_user():
        steps.append(Idle(verb="have", what=f"user {USER}", why="already there"))
    else:
        steps.append(Run(argv=("systemd-sysusers", "qpud.conf"), why=f"makes the system user and group {USER}"))
    if changed:
        steps.append(Run(argv=("systemd-tmpfiles", "--create", "qpud.conf"), why="makes /run/qpud and /var/lib/qpud"))
        steps.extend(_reload())
    return steps


def _reload() -> list[Step]:
    if not Path("/run/systemd/system").is_dir():
        return [Idle(verb="keep", what="systemd", why="does not run here: it reads the units when it starts")]
    return [Run(argv=("systemctl", "daemon-reload"), why="lets systemd read the units; nothing is started")]


def _has_user() -> bool:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True


def _remove(root: Path | None, path: str) -> Step:
    place = _at(root, path)
    if os.path.lexists(place):
        own = next((folder for folder in OWN_FOLDERS if path.startswith(f"{folder}/")), path)
        return Remove(what=place, why="install or the daemon made it", own=_at(root, own))
    return Idle(verb="have", what=place, why="is not there")


def _remove_policy(root: Path | None, text: str, *, purge: bool) -> Step:
    place = Path(_at(root, POLICY))
    if os.path.lexists(place) and not purge and place.read_bytes() != text.encode():
        return Idle(verb="keep", what=str(place), why="edited, or of another version")
    return _remove(root, POLICY)


def _farewell() -> list[Step]:
    is_there = Path(SYSTEMD["qpud.service"][0]).exists() and Path("/run/systemd/system").is_dir()
    return [Run(argv=("systemctl", "disable", "--now", "qpud.service"), why="ends the daemon")] if is_there else []


def _forget(*, purge: bool) -> Sequence[Step]:
    if not _has_user():
        return _reload()
    if purge:
        return [*_reload(), Run(argv=("userdel", USER), why="nothing of it is left")]
    return [*_reload(), Idle(verb="keep", what=f"user {USER}", why=f"{STATE} belongs to it")]
