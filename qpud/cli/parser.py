"""The command line as one argparse tree; each verb's arguments stand in the file of its group."""

from __future__ import annotations

import argparse
from difflib import get_close_matches
from typing import Any, NoReturn

from qpud import __version__
from qpud.cli import (
    acct,
    admin,
    backup,
    bundle,
    doctor,
    ending,
    env,
    install,
    jobs,
    profile,
    reservation,
    run,
    serve,
    shares,
    simulate,
    slurm,
    submit,
)
from qpud.cli.exits import MEANINGS, Exit

DESCRIPTION = "qpud: the scheduler between Slurm and a quantum processor."


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without pages of usage, and names the nearest of several choices."""

    def error(self, message: str) -> NoReturn:
        """End with a sentence and exit code 2."""
        self.exit(Exit.USAGE, f"{self.prog}: {message} (see `{self.prog} --help`)\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = list(action.choices or ())
        near = get_close_matches(str(value), choices, n=1) if choices and value not in choices else []
        if near:
            raise argparse.ArgumentError(action, f"there is no {value!r}: did you mean {near[0]}?")
        super()._check_value(action, value)


def build() -> argparse.ArgumentParser:
    """Make the parser; after parsing, `args.verb(args)` runs the verb and returns its exit code."""
    parser: argparse.ArgumentParser = _Parser(
        prog="qpud",
        description=DESCRIPTION,
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"qpud {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    reach = _reach()
    serve.add(verbs, reach)
    submit.add(verbs, reach)
    jobs.add(verbs, reach)
    ending.add(verbs, reach)
    run.add(verbs, reach)
    profile.add(verbs, reach)
    bundle.add(verbs, reach)
    env.add(verbs, reach)
    doctor.add(verbs, reach)
    shares.add(verbs, reach)
    acct.add(verbs, reach)
    admin.add(verbs, reach)
    reservation.add(verbs, reach)
    simulate.add(verbs, reach)
    backup.add(verbs, reach)
    install.add(verbs, reach)
    slurm.add(verbs, reach)
    return parser


def _reach() -> argparse.ArgumentParser:
    """Options of every verb that talks to a daemon."""
    reach = argparse.ArgumentParser(add_help=False)
    group = reach.add_argument_group("the daemon")
    group.add_argument("--socket", metavar="PATH", help="its Unix socket (else QPUD_SOCKET)")
    group.add_argument("--url", metavar="URL", help="its address, http://HOST:PORT (else QPUD_URL)")
    reach.add_argument("--json", action="store_true", help="print the API's JSON")
    return reach


def _epilog() -> str:
    codes = "\n".join(f"  {code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())
    return (
        "Without --socket, --url, QPUD_SOCKET or QPUD_URL, the daemon is the one of ~/.config/qpud.ini, else your\n"
        "own `qpud serve --dev`, else the site's at /run/qpud/qpud.sock. Administration (drain, down, degrade,\n"
        "resume, reconfigure, update, changes of reservations) needs the Unix socket.\n\n"
        f"exit codes:\n{codes}\n\nqpud VERB --help tells more about each verb."
    )
