"""install, uninstall: lay the daemon down on a site's access node, from the zipapp alone, and take it away again."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qpud.cli.exits import Exit, Stop
from qpud.cli.output import emit
from qpud.cli.serve import Verbs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qpud.site.install import Step

NEXT_STEPS = """
next:
  edit /etc/qpud/qpud.conf, then `qpud check`
  systemctl enable --now qpud        (after an upgrade: systemctl restart qpud)
  qpud info"""
UNCHANGED = "\nnothing was changed: `--apply` does it"


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of install and uninstall."""
    del reach  # these verbs reach no daemon
    parser = verbs.add_parser("install", help="show what a site needs, or lay it down: program, policy, unit, user")
    _add_common(parser)
    parser.add_argument("--slurm", action="store_true", help="the Slurm pieces too")
    parser.set_defaults(verb=install)
    parser = verbs.add_parser("uninstall", help="show what install made, or remove it")
    _add_common(parser)
    parser.add_argument("--purge", action="store_true", help="also the database, an edited policy, and the user")
    parser.set_defaults(verb=uninstall)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--apply", action="store_true", help="do it; without, only what would be done is printed")
    parser.add_argument("--root", type=Path, metavar="DIR", help="below this folder, and without running a command")
    parser.add_argument("--json", action="store_true", help="print JSON")


def install(args: argparse.Namespace) -> int:
    """Show, and with --apply do, what is missing."""
    from qpud.config.sample import sample
    from qpud.site.install import plan_install

    return _carry_out(args, plan_install(_archive(), sample(), _root(args), slurm=args.slurm), NEXT_STEPS)


def uninstall(args: argparse.Namespace) -> int:
    """Show, and with --apply undo, what install did."""
    from qpud.config.sample import sample
    from qpud.site.install import plan_uninstall

    return _carry_out(args, plan_uninstall(_archive(), sample(), _root(args), purge=args.purge), "")


def _carry_out(args: argparse.Namespace, steps: Sequence[Step], afterwards: str) -> int:
    if args.apply and args.root is None and os.geteuid():
        raise Stop(
            f"--apply needs root, this is uid {os.geteuid()}; --root DIR stages into a folder", Exit.NOT_ALLOWED
        )
    answer = [{"verb": step.verb, "what": step.what, "why": step.why} for step in steps]
    if args.apply:
        for step in steps:
            _do(step)
    emit(args, answer, lambda: _table(steps) + (afterwards if args.apply and args.root is None else _foot(args)))
    return Exit.OK


def _do(step: Step) -> None:
    try:
        step.do()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Stop(f"cannot {step.verb} {step.what}: {reason}; what came before it is done") from None


def _foot(args: argparse.Namespace) -> str:
    return "" if args.apply else UNCHANGED


def _table(steps: Sequence[Step]) -> str:
    width = max(len(step.what) for step in steps)
    return "\n".join(f"{step.verb:<8} {step.what:<{width}}  {step.why}" for step in steps)


def _archive() -> Path:
    """The file that runs: its launcher puts what it unpacked on sys.path, and leaves its own name in sys.argv."""
    return Path(sys.argv[0]).absolute()


def _root(args: argparse.Namespace) -> Path | None:
    return None if args.root is None else Path(args.root).absolute()
