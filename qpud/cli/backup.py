"""backup, restore: the database as a file. Neither asks a daemon: one reads beside it, the other needs it stopped."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qpud.cli.exits import Exit, Stop
from qpud.cli.output import emit
from qpud.cli.serve import SITE_POLICY, Verbs, read_policy
from qpud.core.errors import NotFound


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of backup and restore."""
    del reach  # these verbs reach no daemon
    parser = verbs.add_parser("backup", help="copy the database to a file, also while the daemon runs")
    parser.add_argument("file", type=Path, metavar="FILE", help="the copy; must not exist")
    _add_place(parser)
    parser.set_defaults(verb=back_up)
    parser = verbs.add_parser("restore", help="put a copy in the place of the database; the daemon must be stopped")
    parser.add_argument("file", type=Path, metavar="FILE", help="made by `qpud backup`, or before a migration")
    _add_place(parser)
    parser.set_defaults(verb=restore)


def _add_place(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--config",
        type=Path,
        default=SITE_POLICY,
        metavar="FILE",
        help="its StateSaveLocation holds the database; default: %(default)s",
    )
    where.add_argument("--state", type=Path, metavar="DIR", help="the folder that holds the database")
    parser.add_argument("--json", action="store_true", help="print JSON")


def back_up(args: argparse.Namespace) -> int:
    """Copy the database, consistent as of one moment."""
    from qpud.store import backup

    database = _state(args) / backup.DATABASE
    with _nothing_missing():
        size = backup.back_up(database, args.file.absolute())
    answer = {"database": str(database), "file": str(args.file), "bytes": size}
    emit(args, answer, lambda: f"{args.file}: {size} bytes, whole and checked")
    return Exit.OK


def restore(args: argparse.Namespace) -> int:
    """Replace the database, as the user it belongs to."""
    from qpud.site.state import become_owner, one_daemon
    from qpud.store import backup

    state = _state(args)
    with _nothing_missing(), backup.open_copy(args.file) as source:
        become_owner(state)
        with one_daemon(state):
            kept = backup.put_back(source, args.file, state / backup.DATABASE)
    answer = {"database": str(state / backup.DATABASE), "kept": str(kept) if kept else None}
    emit(
        args, answer, lambda: f"{answer['database']} is now {args.file}" + (f"; what it was is {kept}" if kept else "")
    )
    return Exit.OK


@contextmanager
def _nothing_missing() -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise Stop(error.message, Exit.NOT_FOUND) from None


def _state(args: argparse.Namespace) -> Path:
    if args.state is not None:
        return Path(args.state).absolute()
    return read_policy(args.config).daemon.state_save_location
