"""Where the daemon is: flags, the environment, the user's file, then his own daemon, then the site's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from qpud.cli import userfile
from qpud.cli.choice import chosen
from qpud.cli.exits import Exit, Stop
from qpud.core.errors import QpudError
from qpud.site.peer import private_folder

SITE_SOCKET = Path("/run/qpud/qpud.sock")


class Place(NamedTuple):
    """One address to try: a Unix socket or a URL, and what named it."""

    socket: Path | None
    url: str | None
    named_by: str

    def __str__(self) -> str:
        return f"{self.socket or self.url} ({self.named_by})"


def dev_socket() -> Path | None:
    """The socket that `qpud serve --dev` of this user would have; None if his private folder is not usable."""
    try:
        return private_folder() / "qpud.sock"
    except (QpudError, OSError):
        return None


def places(socket: str | None, url: str | None, environ: Mapping[str, str], qpu: str | None = None) -> list[Place]:
    """List where to look, in order; whoever names a place gets that place only.

    Args:
        socket: The option --socket.
        url: The option --url.
        environ: For QPUD_SOCKET and QPUD_URL; the socket goes first, because it also administers.
        qpu: The option --qpu: the user's file may name a daemon for a resource.

    Raises:
        Stop: A URL that is not http://host:port or https://host:port, or a mistake in the user's file.
    """
    named = _pair(socket, url, "--socket", "--url")
    if not named:
        named = _pair(environ.get("QPUD_SOCKET"), environ.get("QPUD_URL"), "QPUD_SOCKET", "QPUD_URL")
    return named or _of_the_user(environ, qpu) or _usual_places()


def _of_the_user(environ: Mapping[str, str], qpu: str | None) -> list[Place]:
    settings = userfile.read(environ)
    url, _ = userfile.daemon_of(settings, chosen(qpu, environ, settings).name)
    return _pair(None, url.value, "", url.source) if url else []


def _pair(socket: str | None, url: str | None, socket_name: str, url_name: str) -> list[Place]:
    found = [Place(Path(socket), None, socket_name)] if socket else []
    if url:
        found.append(Place(None, _checked(url, url_name), url_name))
    return found


def _usual_places() -> list[Place]:
    mine = dev_socket()
    found = [Place(mine, None, "your qpud serve --dev")] if mine else []
    return [*found, Place(SITE_SOCKET, None, "the site's daemon")]


def _checked(url: str, named_by: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Stop(f"{named_by} {url!r} is not a URL like http://127.0.0.1:8006", Exit.USAGE)
    return url.rstrip("/")
