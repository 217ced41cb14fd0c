"""The policy of `qpud serve --dev`: no file, no root, no munge."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from qpud.config.mistakes import ConfigError, Mistake
from qpud.config.values import SOCKET_PATH_BYTES
from qpud.core.policy import Policy, default_policy
from qpud.core.terms import TcpListen, UnixListen
from qpud.site.peer import user_name


def dev_policy(state: Path, port: int, worker_python: Path | None = None) -> Policy:
    """The default queues and resources for one user on his own machine.

    Args:
        state: The user's private folder: database and socket (`qpud.sock`).
        port: Loopback port; 0 takes any free one.
        worker_python: Interpreter with Pulser and the emulators; None for this one.

    Raises:
        ConfigError: The socket's path would be too long.
    """
    socket = state / "qpud.sock"
    if len(bytes(socket)) > SOCKET_PATH_BYTES:
        problem = f"the socket's path {socket} is longer than {SOCKET_PATH_BYTES} bytes; choose another state folder"
        raise ConfigError([Mistake(source="--dev", line=0, section="", key="", value="", problem=problem)])
    policy = default_policy()
    daemon = msgspec.structs.replace(
        policy.daemon,
        listen=(UnixListen(path=socket), TcpListen(host="127.0.0.1", port=port)),
        socket_mode=0o600,
        admin_users=tuple(dict.fromkeys(("root", user_name(os.getuid())))),
        state_save_location=state,
        worker_python=worker_python,
    )
    return msgspec.structs.replace(policy, daemon=daemon)
