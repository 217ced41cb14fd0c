"""Logs as one line each: time, level, a constant message, and its fields as key=value."""

from __future__ import annotations

import logging

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class Lines(logging.Formatter):
    """`2026-11-22T08:00:00 INFO message key=value …`; under systemd the journal adds its own time too."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's own name
        """The line without a traceback."""
        fields = [f"{key}={_shown(value)}" for key, value in record.__dict__.items() if key not in _OWN]
        return " ".join([super().formatMessage(record), *fields])


def _shown(value: object) -> str:
    text = str(value)
    is_plain = text.isprintable() and not any(mark in text for mark in (" ", "=", '"'))
    return text if is_plain else repr(text)


def to_stderr(level: str) -> None:
    """Send everything of `level` and above to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore"):  # a line for each poll or connection is too much
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of each bad request: whoever sends them is told
