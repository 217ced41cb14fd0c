"""Who is at the other end of a Unix socket, and the sockets and folders that make the answer trustworthy (unix(7))."""

from __future__ import annotations

import contextlib
import errno
import functools
import grp
import os
import pwd
import socket
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from qpud.core.errors import Conflict, Invalid, Unavailable

_UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
_BACKLOG = 1024


class PeerCredentials(NamedTuple):
    """The process that connected, as the kernel recorded it at connect(2)."""

    pid: int
    uid: int
    gid: int


def peer_credentials(connection: socket.socket) -> PeerCredentials:
    """Ask the kernel who connected (SO_PEERCRED); only a connected Unix socket knows."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return PeerCredentials(pid, uid & 0xFFFFFFFF, gid & 0xFFFFFFFF)


def bind_unix(path: Path, mode: int = 0o660, group: str | None = None) -> socket.socket:
    """A listening Unix socket with the right permissions from its first moment.

    A socket left by a dead daemon is replaced; one that answers is not touched.

    Args:
        path: Absolute; its folder must exist.
        mode: Permission bits; connecting needs write permission.
        group: Name of the socket's group; None keeps the process's.

    Raises:
        Conflict: Another process listens there, or something that is no socket is in the way.
        Invalid: No such group, or this process may not give the socket to it.
        Unavailable: The socket cannot be made.
    """
    group_id = -1 if group is None else _group_id(group)
    if not path.parent.is_dir():
        raise Unavailable(f"cannot listen on {path}: there is no folder {path.parent}")
    with _failing_as(f"cannot listen on {path}"):
        _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _failing_as(f"cannot listen on {path}"):
            _bind(listener, path, mode, group_id)
    except BaseException:
        listener.close()
        raise
    return listener


def bound_at(path: Path) -> tuple[int, int] | None:
    """Which file is at the path, for `unbind`; None if there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def unbind(path: Path, ours: tuple[int, int] | None) -> None:
    """Remove our socket from the file system at a clean stop; one that a successor bound there stays."""
    if ours is not None and bound_at(path) == ours:
        with contextlib.suppress(OSError):
            path.unlink()


def bind_tcp(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes any free one.

    Raises:
        Conflict: The port is taken.
        Unavailable: The host has no such address, or the port is not ours to take.
    """
    with _failing_as(f"cannot listen on {host} port {port}"):
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    try:
        with _failing_as(f"cannot listen on {host} port {port}"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


@functools.lru_cache(maxsize=4096)
def user_name(user_id: int) -> str:
    """The user's name, or his number as text if the system does not know him.

    NSS may ask a directory server and block; answers are kept for the life of the process, so each user blocks
    at most once.
    """
    try:
        return pwd.getpwuid(user_id).pw_name
    except (KeyError, OverflowError):
        return str(user_id)


def user_id(name: str) -> int | None:
    """The number of a user by name or by number as text; None if there is none.

    Blocks as `user_name` does, once for each user found; a user added later is found without a restart.
    """
    try:
        return _known_user_id(name)
    except (KeyError, ValueError):
        is_number = name.isascii() and name.isdigit() and len(name) <= 10
        return int(name) if is_number else None


@functools.lru_cache(maxsize=4096)
def _known_user_id(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


class Groups:
    """The groups of users, by name, as the system knows them; each answer is kept for a minute.

    Args:
        pulse: Monotonic seconds.
    """

    KEPT_SECONDS = 60.0

    def __init__(self, pulse: Callable[[], float]) -> None:
        self._pulse = pulse
        self._known: dict[int, tuple[float, tuple[str, ...]]] = {}

    def __call__(self, user_id: int) -> tuple[str, ...]:
        """Names of a user's groups, the primary one too; nothing for a user whom the system does not know.

        NSS may ask a directory server and block: call it in a thread.
        """
        known_at, groups = self._known.get(user_id, (-self.KEPT_SECONDS, ()))
        now = self._pulse()
        if now - known_at < self.KEPT_SECONDS:
            return groups
        found = tuple(_groups_of(user_id))
        self._known[user_id] = (now, found)
        return found


def _groups_of(user_id: int) -> Iterator[str]:
    try:
        user = pwd.getpwuid(user_id)
        numbers = os.getgrouplist(user.pw_name, user.pw_gid)
    except (KeyError, OverflowError, OSError):
        return
    for number in numbers:
        with contextlib.suppress(KeyError):  # a group without a name
            yield grp.getgrgid(number).gr_name


def private_folder() -> Path:
    """The user's own folder for `serve --dev`, made if needed: $XDG_RUNTIME_DIR/qpud or /tmp/qpud-UID.

    Raises:
        Conflict: It exists but belongs to another user, others may enter or write it, or it is a link.
        Unavailable: It cannot be made.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and Path(runtime).is_dir() and os.access(runtime, os.W_OK):
        folder = Path(runtime) / "qpud"
    else:
        folder = Path(tempfile.gettempdir()) / f"qpud-{os.getuid()}"
    with _failing_as(f"cannot make {folder}"), contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _require_private(folder)
    return folder


def _require_private(folder: Path) -> None:
    # lstat, not stat: in /tmp another user can put a link in our place
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise Conflict(f"{folder} is no folder; remove it or set XDG_RUNTIME_DIR")
    if found.st_uid != os.getuid():
        raise Conflict(f"{folder} belongs to user {user_name(found.st_uid)}, not to {user_name(os.getuid())}")
    if found.st_mode & 0o077:
        raise Conflict(f"{folder} has mode {stat.S_IMODE(found.st_mode):04o}, but only its owner may use it (0700)")


def _group_id(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise Invalid(f"SocketGroup = {group}: this machine has no such group") from None


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens on."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise Conflict(f"{path} exists and is no socket")
    if _is_answered(path):
        raise Conflict(f"another process already listens on {path}")
    path.unlink(missing_ok=True)


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        error = probe.connect_ex(bytes(path))
    # a full backlog (EAGAIN) or a socket of another user (EACCES) is alive too
    return error not in {errno.ECONNREFUSED, errno.ENOENT}


def _bind(listener: socket.socket, path: Path, mode: int, group_id: int) -> None:
    """Bind and listen, in an order that lets nobody in before owner and mode are right: connecting needs listen(2)."""
    listener.bind(bytes(path))
    try:
        _give(path, group_id)
        path.chmod(mode)
        listener.listen(_BACKLOG)
    except BaseException:
        path.unlink()
        raise
    listener.setblocking(False)


def _give(path: Path, group_id: int) -> None:
    try:
        os.chown(path, -1, group_id)
    except PermissionError:
        me, group = user_name(os.geteuid()), grp.getgrgid(group_id).gr_name
        raise Invalid(
            f"SocketGroup = {group}: {me}, who runs the daemon, is no member: usermod -aG {group} {me}"
        ) from None


@contextlib.contextmanager
def _failing_as(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"{what}: {reason}") from error
        raise Unavailable(f"{what}: {reason}") from error
