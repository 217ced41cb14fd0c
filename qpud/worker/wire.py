"""Lines of JSON over a socket: how daemon, parent and children talk."""

from __future__ import annotations

import json
import socket
from typing import Any

Message = dict[str, Any]

SEND_SECONDS = 20.0  # a peer that takes nothing for so long is stopped or gone


class Lines:
    """One end of a socket that carries one JSON object per line.

    Args:
        sock: A connected stream socket; owned from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(SEND_SECONDS)
        self._sock = sock
        self._pending = bytearray()

    def fileno(self) -> int:
        """The descriptor, for select."""
        return self._sock.fileno()

    def wait_forever(self) -> None:
        """Let `receive` and `send` block as long as it takes: for children, whose parent always reads."""
        self._sock.settimeout(None)

    def send(self, message: Message) -> None:
        """Write one message. Raises: OSError if the peer is gone or takes nothing for SEND_SECONDS."""
        self._sock.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def receive(self) -> list[Message] | None:
        """Read what has arrived: complete messages, maybe none yet; None at the end of the stream."""
        try:
            arrived = self._sock.recv(1 << 18)
        except TimeoutError:
            return []
        except OSError:
            arrived = b""
        if not arrived:
            return None
        self._pending += arrived
        if b"\n" not in arrived:
            return []
        *lines, rest = self._pending.split(b"\n")
        self._pending = bytearray(rest)
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Close the socket; closing twice is harmless."""
        self._sock.close()
