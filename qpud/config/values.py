"""Texts of a policy file ⇄ values: durations as Slurm writes them, sizes, modes, addresses, words.

Every reader raises ValueError with the rest of the sentence "KEY = TEXT …"; every writer gives a text that its
reader turns into the same value.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from decimal import Decimal
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from qpud.core.terms import UNLIMITED_SECONDS, Listen, TcpListen, UnixListen

DURATION_FORM = "seconds (30, 0.2), MM:SS, H:MM:SS or D-HH[:MM[:SS]]"
SIZE_FORM = "bytes, or a number with K, M, G or T"
MODE_FORM = "an octal mode such as 0660"
LISTEN_FORM = "unix:/absolute/path or http://host:port"
SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket in bytes: sun_path holds 108 with its NUL (unix(7))."""

_DURATION = re.compile(r"^(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d+){0,2})$", re.ASCII)
_NUMBER = re.compile(r"^-?\d{1,18}(\.\d{1,400})?$", re.ASCII)
_INTEGER = re.compile(r"^-?\d{1,19}$", re.ASCII)
_SIZE = re.compile(r"^(\d+)\s*([KMGT]?)$", re.IGNORECASE | re.ASCII)
_MODE = re.compile(r"^(0o)?[0-7]+$")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def read_duration(text: str) -> float:
    """Seconds of `30`, `0.2`, `MM:SS`, `H:MM:SS`, `D-HH`, `D-HH:MM` or `D-HH:MM:SS`."""
    if _NUMBER.match(text):
        return float(text)
    match = _DURATION.match(text)
    if not match:
        raise ValueError("is no duration")
    parts = [int(part) for part in match["rest"].split(":")]
    if match["days"] is None:
        return float(_sexagesimal([0] * (3 - len(parts)) + parts, "hours" if len(parts) == 3 else "minutes"))
    hours, minutes, seconds = parts + [0] * (3 - len(parts))
    if hours > 23:
        raise ValueError(f"has {hours} hours beside its days, at most 23 are possible")
    return float(int(match["days"]) * 86400 + _sexagesimal([hours, minutes, seconds], "hours"))


def _sexagesimal(parts: list[int], leading: str) -> int:
    hours, minutes, seconds = parts
    if seconds > 59 or (leading == "hours" and minutes > 59):
        raise ValueError("has minutes or seconds above 59")
    return hours * 3600 + minutes * 60 + seconds


def write_duration(seconds: float) -> str:
    """The shortest exact form; a hundred years or more is UNLIMITED."""
    if seconds >= UNLIMITED_SECONDS:
        return "UNLIMITED"
    if seconds != int(seconds) or seconds < 60:
        return write_number(seconds)
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if not days:
        return f"{hours}:{minute:02}:{second:02}"
    clock = f"{hour:02}" if not minute and not second else f"{hour:02}:{minute:02}:{second:02}"
    return f"{days}-{clock}"


def read_number(text: str) -> float:
    """A plain decimal number, without exponent."""
    if not _NUMBER.match(text):
        raise ValueError("is no number")
    return float(text)


def write_number(number: float) -> str:
    """All digits that matter, without exponent or a trailing .0."""
    return f"{Decimal(repr(number)):f}".removesuffix(".0")


def read_integer(text: str) -> int:
    """An integer of at most 19 digits."""
    if not _INTEGER.match(text):
        raise ValueError("is no integer")
    return int(text)


def read_size(text: str) -> int:
    """Bytes of `1048576`, `512K`, `1M`, `2G`, `1T`; powers of 1024."""
    match = _SIZE.match(text)
    if not match or len(text) > 20:
        raise ValueError("is no size")
    return int(match[1]) << 10 * _POWERS[match[2].upper()]


def write_size(size: int) -> str:
    """Bytes in the largest unit that divides them."""
    for unit, power in reversed(_POWERS.items()):
        if size and size % (1 << 10 * power) == 0:
            return f"{size >> 10 * power}{unit}"
    return str(size)


def read_mode(text: str) -> int:
    """A file mode in octal: 660, 0660 or 0o660."""
    if not _MODE.match(text) or len(text) > 8:
        raise ValueError("is no octal mode")
    return int(text.removeprefix("0o"), 8)


def write_mode(mode: int) -> str:
    """A file mode with four octal digits."""
    return f"{mode:04o}"


def read_truth(text: str) -> bool:
    """Yes or no, true or false."""
    word = text.lower()
    if word not in {"yes", "true", "no", "false"}:
        raise ValueError("is neither yes nor no")
    return word in {"yes", "true"}


def write_truth(truth: bool) -> str:
    """Yes or no."""
    return "yes" if truth else "no"


def read_name(text: str) -> str:
    """One word: a user, a group, a partition, a queue."""
    if re.search(r"[\s,]", text):
        raise ValueError("is not one word")
    return text


def read_words(text: str) -> str:
    """Words quoted as for a shell, kept as written."""
    try:
        shlex.split(text)
    except ValueError as problem:
        raise ValueError(f"is not quoted as for a shell ({problem})") from None
    return text


def read_path(text: str) -> Path:
    """An absolute path; `~` and variables are not expanded."""
    if not text.startswith("/"):
        raise ValueError("is no absolute path")
    return Path(text)


def read_url(text: str) -> str:
    """An http or https URL with a host, without query or fragment, kept as written but for a trailing slash."""
    url = _split(text)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("is no http:// or https:// address")
    if url.query or url.fragment or re.search(r"\s", text):
        raise ValueError("holds a query, a fragment or a blank")
    return text.rstrip("/")


def read_listen(text: str) -> Listen:
    """`unix:/path` or `http://host:port`; an IPv6 host stands in brackets, port 0 is any free one."""
    if text.startswith("unix:"):
        return UnixListen(path=_socket_path(text.removeprefix("unix:")))
    url = _split(text)
    if url.scheme == "https":
        raise ValueError("asks for TLS, which qpud leaves to a proxy in front of it")
    if url.scheme != "http" or not url.hostname:
        raise ValueError("is no address to listen on")
    if url.path not in {"", "/"} or url.query or url.fragment or url.username is not None:
        raise ValueError("has more than a host and a port")
    if url.port is None:
        raise ValueError("lacks a port")
    return TcpListen(host=url.hostname, port=url.port)


def write_listen(listen: Listen) -> str:
    """The address as `read_listen` takes it."""
    if isinstance(listen, UnixListen):
        return f"unix:{listen.path}"
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"http://{host}:{listen.port}"


def is_loopback(listen: TcpListen) -> bool:
    """Whether only processes of this machine can reach the address."""
    try:
        return ipaddress.ip_address(listen.host).is_loopback
    except ValueError:
        return listen.host == "localhost"


def _socket_path(text: str) -> Path:
    path = read_path(text)
    if len(bytes(path)) > SOCKET_PATH_BYTES:
        raise ValueError(f"is longer than the {SOCKET_PATH_BYTES} bytes a socket's path may have")
    return path


def _split(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        _ = url.port  # the port is parsed when asked for
    except ValueError as error:
        raise ValueError(f"is no address ({error})") from None
    return url
