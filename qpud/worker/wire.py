"""Lines of JSON over a stream: how daemon, parent and children talk. On a node the stream is srun's, else a socket."""

from __future__ import annotations

import json
import os
from typing import Any, Protocol

Message = dict[str, Any]

SEND_SECONDS = 20.0  # a peer that takes nothing for so long is stopped or gone


class Stream(Protocol):
    """What Lines asks of a socket."""

    def fileno(self) -> int:
        """The descriptor to wait on for input."""

    def settimeout(self, seconds: float | None, /) -> None:
        """How long `recv` and `sendall` may block."""

    def recv(self, size: int, /) -> bytes:
        """What has arrived, at most so many bytes; nothing at the end."""

    def sendall(self, data: bytes, /) -> None:
        """Write everything."""

    def close(self) -> None:
        """Give the descriptors back."""


class Pipes:
    """Two descriptors, one to read and one to write, in place of a socket; both block as long as it takes.

    Args:
        source: To read from; owned from now on.
        sink: To write to; owned from now on.
    """

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink

    def fileno(self) -> int:
        """See Stream."""
        return self._source

    def settimeout(self, seconds: float | None, /) -> None:
        """Nothing: a pipe has no time-out."""

    def recv(self, size: int, /) -> bytes:
        """See Stream."""
        return os.read(self._source, size)

    def sendall(self, data: bytes, /) -> None:
        """See Stream."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._sink, view) :]

    def close(self) -> None:
        """See Stream."""
        os.close(self._source)
        os.close(self._sink)


class Lines:
    """One end of a stream that carries one JSON object per line.

    Args:
        sock: A connected stream socket, or what behaves like one; owned from now on.
    """

    def __init__(self, sock: Stream) -> None:
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
