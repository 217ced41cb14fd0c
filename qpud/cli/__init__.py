"""The command line: one file per group of verbs, over the daemon's native HTTP API.

Nothing here decides or stores anything; `serve` hands a policy to `qpud.daemon` and every other verb is a client.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from qpud.cli.exits import Exit, Stop
from qpud.core.errors import QpudError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: The arguments without the program's name; None means those of the process.

    Returns:
        The exit code, see `qpud.cli.exits`.
    """
    from qpud.cli.parser import build  # here, so that a broken verb cannot keep the package from importing

    _never_fail_to_print()
    args = build().parse_args(argv)
    try:
        code: int = args.verb(args)
        sys.stdout.flush()
    except Stop as stop:
        print(f"qpud: {stop.message}", file=sys.stderr)
        return stop.code
    except QpudError as error:  # of serve: the private folder, a port that is taken
        print(f"qpud: {error.message}", file=sys.stderr)
        return Exit.FAILED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    return code


def _never_fail_to_print() -> None:
    """A terminal that knows no "█" or no Greek job names gets "?" instead of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _reader_gone() -> int:
    """`qpud queue | head` is no error; give the interpreter somewhere to flush to at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.OK
