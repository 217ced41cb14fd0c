"""Exit codes: what a script may rely on. `qpud --help` and this folder's README.md print this table.

`qpud run` passes on its command's own code instead, once the command has started.
"""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """One number per kind of ending."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_DAEMON = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    UNFINISHED = 6
    DIFFERENT = 7
    NOT_EXECUTABLE = 126
    NO_COMMAND = 127
    INTERRUPTED = 130


MEANINGS: dict[Exit, str] = {
    Exit.OK: "done",
    Exit.FAILED: "refused, or the job ended in ERROR or CANCELED",
    Exit.USAGE: "the command line cannot be understood",
    Exit.NO_DAEMON: "no daemon answers",
    Exit.NOT_ALLOWED: "not allowed, or no valid credential",
    Exit.NOT_FOUND: "no such job, session, resource or file",
    Exit.UNFINISHED: "the job has not ended yet",
    Exit.DIFFERENT: "rerun: the distributions differ",
    Exit.NOT_EXECUTABLE: "run: the command cannot be executed",
    Exit.NO_COMMAND: "run: the command was not found",
    Exit.INTERRUPTED: "interrupted by Ctrl-C (the job goes on); run: 128 + the signal's number",
}


class Stop(Exception):
    """End the program with a sentence on standard error.

    Args:
        message: One sentence for the user.
        code: The exit code.
    """

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
