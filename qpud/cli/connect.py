"""From the command line and the environment to a Client."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from qpud.cli import userfile
from qpud.cli.choice import chosen
from qpud.cli.client import Client
from qpud.cli.exits import Exit, Stop
from qpud.cli.locate import places
from qpud.cli.output import note

RETRY_AFTER_SECONDS = (0.2, 0.5, 1.0, 1.0, *(2.0,) * 6)  # a restarted daemon is back well within their sum

T = TypeVar("T")


def with_client(verb: Callable[[Client, argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Give a verb the daemon that its options and the environment name, and hang up when it ends."""

    def run(args: argparse.Namespace) -> int:
        qpu = getattr(args, "qpu", None)
        where = places(args.socket, args.url, os.environ, qpu)
        by_file = not (args.socket or args.url or os.environ.get("QPUD_SOCKET") or os.environ.get("QPUD_URL"))
        token = session_token(os.environ) or (token_of_user(os.environ, qpu) if by_file else None)
        with closing(Client(where, token)) as client:
            return verb(client, args)

    return run


def session_token(environ: Mapping[str, str]) -> str | None:
    """The token of QPUD_TOKEN, else what the file of QPUD_TOKEN_FILE holds (in a Slurm job); None without either."""
    if token := environ.get("QPUD_TOKEN"):
        return token
    named = environ.get("QPUD_TOKEN_FILE")
    return _token_in(named, "QPUD_TOKEN_FILE") if named else None


def token_of_user(environ: Mapping[str, str], qpu: str | None) -> str | None:
    """The token that the user's file names, for the daemon that it names and for no other."""
    settings = userfile.read(environ)
    _, kept = userfile.daemon_of(settings, chosen(qpu, environ, settings).name)
    return _token_in(str(Path(kept.value).expanduser()), kept.source) if kept else None


def _token_in(path: str, named_by: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as why:
        note(f"{named_by} {path} cannot be read: {getattr(why, 'strerror', why)}")
        return None


def persistently(call: Callable[[], T], what: str) -> T:
    """Repeat a harmless-to-repeat call while the daemon is away, for 15 s in all.

    Args:
        call: Reads only, or carries an Idempotency-Key.
        what: For the note on standard error, as in "submission".

    Raises:
        Stop: The last failure, or at once anything but a lost connection.
    """
    for count, delay in enumerate(RETRY_AFTER_SECONDS):
        try:
            return call()
        except Stop as stop:
            if stop.code is not Exit.NO_DAEMON:
                raise
            if count == 0:
                note(f"{what}: the daemon does not answer, trying again for {sum(RETRY_AFTER_SECONDS):.0f} s")
            time.sleep(delay)
    return call()
