"""Unpack the zipapp once into a private folder, then run `qpud.cli:main` from there.

Compiled modules cannot be imported from a zip, so shiv's `extract_site_packages` (file lock, atomic move) unpacks
them into a cache. Whoever can write that cache runs code as the daemon; shiv's own rule, `~/.shiv` or $SHIV_ROOT
unchecked, does not look. Here:

- Only a folder that the user (or root) owns, that nobody else can write and whose parents nobody else can exchange
  is taken; see `why_not`. A given $SHIV_ROOT is binding; otherwise the first usable of $CACHE_DIRECTORY (systemd),
  $XDG_CACHE_HOME/qpud, ~/.cache/qpud, /run/user/UID/qpud-cache, /var/tmp/qpud-cache-UID,
  /tmp/qpud-cache-UID.
- A process holds a shared lock on `.NAME.use` beside its cache for as long as it lives. At a start, the caches of
  other builds are removed unless somebody holds theirs; one spare, the last used, stays for going back a version.
- A cache with missing files (tmpfiles(5) ages /tmp file by file) is unpacked again.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import stat
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from _bootstrap import extract_site_packages  # type: ignore[import-not-found]

CANNOT_START = 78  # EX_CONFIG of sysexits(3): trying again will not help
SPARE_CACHES = 1
FILES = "site-packages/"


def main(archive: str, build_id: str) -> int:
    """Run qpud; returns its exit code.

    Args:
        archive: The zipapp's path.
        build_id: sha256 of what site-packages holds.
    """
    root = cache_root()
    cache = root / f"qpud_{build_id}"
    lock = hold(root, cache)
    try:
        unpack(archive, cache)
    except OSError as error:
        give_up(f"cannot unpack into {cache}: {error.strerror or error}")
    prune(root, keep=cache)
    sys.path.insert(0, str(cache / FILES))
    sys.path_importer_cache.clear()
    from qpud.cli import main as qpud

    try:
        return qpud()
    finally:
        del lock


def give_up(sentence: str) -> NoReturn:
    """End with one sentence."""
    print(f"qpud: {sentence}", file=sys.stderr)
    raise SystemExit(CANNOT_START)


def cache_root() -> Path:
    """The folder to unpack into; ends with one sentence naming every folder tried if there is none."""
    given = os.environ.get("SHIV_ROOT")
    refused = []
    for folder in [Path(given)] if given else candidates():
        reason = why_not(folder)
        if not reason:
            return folder
        refused.append(f"{folder} {reason}")
    advice = "set SHIV_ROOT to a folder of your own on a file system that allows programs"
    give_up(f"no private folder to unpack into ({'; '.join(refused)}): {advice}.")


def candidates() -> Iterator[Path]:
    """Folders to try, best first; `~` is $HOME's and, if that is somebody else's, the password file's."""
    uid = os.geteuid()
    if systemd := os.environ.get("CACHE_DIRECTORY"):
        yield Path(systemd.split(":")[0]) / "zipapp"
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        yield Path(xdg) / "qpud"
    if home := os.environ.get("HOME"):
        yield Path(home) / ".cache" / "qpud"
    with suppress(KeyError):
        yield Path(pwd.getpwuid(uid).pw_dir) / ".cache" / "qpud"
    yield Path(f"/run/user/{uid}/qpud-cache")
    yield Path(f"/var/tmp/qpud-cache-{uid}")  # noqa: S108 - ownership, mode and link are checked
    yield Path(f"/tmp/qpud-cache-{uid}")  # noqa: S108


def why_not(folder: Path) -> str:
    """Why a folder, made with mode 0700 if missing, cannot hold the cache; "" if it can."""
    if not folder.is_absolute():
        return "is not an absolute path"
    try:
        parent = folder.parent.resolve()
        if exposed := first_exposed(existing(parent)):
            return f"lies in {exposed}, which others may change"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return unfit(parent / folder.name)
    except OSError as error:
        return f"cannot be used ({error.strerror})"


def existing(folder: Path) -> Path:
    """The nearest existing ancestor, or the folder itself."""
    while not folder.exists():
        folder = folder.parent
    return folder


def first_exposed(folder: Path) -> Path | None:
    """The first of a folder and its ancestors in which another user could exchange an entry.

    Sticky folders such as /tmp are safe: there only an entry's owner may move it. The owner of "/" counts as root,
    since root's files show another owner inside a user namespace.
    """
    trusted = {0, os.geteuid(), Path("/").stat().st_uid}
    for ancestor in (folder, *folder.parents):
        found = ancestor.stat()
        open_to_all = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
        if open_to_all or found.st_uid not in trusted:
            return ancestor
    return None


def unfit(folder: Path) -> str:
    """What is wrong with the folder itself, not following a link; "" if nothing is."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return "is not a folder"
    if found.st_uid not in (os.geteuid(), 0):
        return f"belongs to uid {found.st_uid}"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"is writable by others (mode {stat.S_IMODE(found.st_mode):04o})"
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return "is on a noexec mount"
    if not os.access(folder, os.W_OK | os.X_OK) and not any(folder.glob("qpud_*")):
        return "is not writable"
    return ""


def hold(root: Path, cache: Path) -> list[int]:
    """Mark the cache as in use for as long as this process (or a fork of it) lives.

    Returns:
        The open file descriptors that hold the locks. The second is on the folder itself: tmpfiles(5) leaves
        everything below a locked folder alone.
    """
    mark = root / f".{cache.name}.use"
    while True:
        try:
            held = os.open(mark, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError:
            return []  # unpacked before by root and read-only: root prunes only what it marked
        fcntl.flock(held, fcntl.LOCK_SH)
        if os.fstat(held).st_nlink:
            break
        os.close(held)  # pruned between the two calls
    with suppress(OSError):
        os.utime(held)
    folder = os.open(root, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_SH)
    return [held, folder]


def unpack(archive: str, cache: Path) -> None:
    """Bring the files of site-packages into the cache, unless they are all there."""
    with zipfile.ZipFile(archive) as zipped:
        if not whole(zipped, cache):
            extract_site_packages(zipped, cache, force=cache.exists())


def whole(zipped: zipfile.ZipFile, cache: Path) -> bool:
    """Whether every file is there with its size."""
    sizes = {info.filename: info.file_size for info in zipped.infolist() if info.filename.startswith(FILES)}
    try:
        return all(os.stat(f"{cache}/{name}").st_size == size for name, size in sizes.items())  # noqa: PTH116 - half the time
    except OSError:
        return False


def prune(root: Path, keep: Path) -> None:
    """Remove caches of other builds that nobody runs, but for the last used ones."""
    marks = [mark for mark in root.glob(".qpud_*.use") if mark.name != f".{keep.name}.use"]
    marks.sort(key=last_used, reverse=True)
    for mark in marks[SPARE_CACHES:]:
        with suppress(OSError):  # in use, or somebody else is removing it
            remove(root, mark)


def last_used(mark: Path) -> float:
    """When a cache was last started from, in seconds since the epoch."""
    try:
        return mark.stat().st_mtime
    except OSError:
        return 0.0


def remove(root: Path, mark: Path) -> None:
    """Remove one cache. Raises: OSError (BlockingIOError if it is in use)."""
    held = os.open(mark, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        name = mark.name.removeprefix(".").removesuffix(".use")
        for leftover in (name, f"{name}.tmp"):
            shutil.rmtree(root / leftover, ignore_errors=True)
        (root / f".{name}_lock").unlink(missing_ok=True)  # shiv's own
        mark.unlink()
    finally:
        os.close(held)
