"""--fault, --like and the others: what a session rehearses, an option each; refused in the words of the option."""

from __future__ import annotations

import argparse
from typing import Any

from qpud.cli.exits import Exit, Stop
from qpud.cli.numbers import factor, whole

LARGEST_SEED = 2**31 - 1
MOST_SPEED_UP = 1e6
MOST_BOND_DIM = 1024


def add_rehearsal_options(parser: argparse.ArgumentParser) -> None:
    """Add what a session rehearses; it is one of its own then."""
    group = parser.add_argument_group("a rehearsal, in a session of its own")
    faults = "as in preempt:3,lose-shots:5%%,delay:2s,error:0.1; no QPU"
    group.add_argument("--fault", type=_faults, metavar="FAULTS", help=faults)
    group.add_argument("--like", metavar="QPU", help="with its limits, checks and noise, on an emulator")
    times = "with --like: results in its time ÷ X"
    group.add_argument("--speed-up", type=factor(MOST_SPEED_UP), metavar="X", help=times)
    group.add_argument("--emulator", choices=("qutip", "sv", "mps"), help="this one, whatever the size")
    bound = "of the tensor network: faster, not converged"
    group.add_argument("--bond-dim", type=whole(1, MOST_BOND_DIM), metavar="N", help=bound)
    group.add_argument("--mock", choices=("product", "random"), help="counts without physics, for any number of atoms")


def add_seed_option(parser: argparse.ArgumentParser) -> None:
    """Add --seed: of the jobs for `submit`, of the session elsewhere."""
    words = "the same counts again, on an emulator of one version"
    parser.add_argument("--seed", type=whole(0, LARGEST_SEED), metavar="N", help=words)


def rehearsal_of(args: argparse.Namespace, resource: str | None) -> dict[str, Any] | None:
    """What is rehearsed, by the API's names; None if nothing is. Raises: Stop."""
    _check_together(args)
    asked = {
        "fault": args.fault,
        "like": args.like,
        "speed_up": args.speed_up,
        "emulator": args.mock or args.emulator,
        "bond_dim": args.bond_dim,
        "seed": None if hasattr(args, "files") else args.seed,  # submit gives its jobs their seed themselves
    }
    found = {name: value for name, value in asked.items() if value is not None}
    return {**found, "resource": resource} if found else None


def _check_together(args: argparse.Namespace) -> None:
    if args.mock and args.emulator:
        raise Stop(f"--mock={args.mock} takes the place of an emulator: leave out --emulator", Exit.USAGE)
    if args.speed_up is not None and not args.like:
        raise Stop("--speed-up is relative to a QPU: name it with --like", Exit.USAGE)
    if args.bond_dim is not None and (args.mock or args.emulator not in (None, "mps")):
        other = f"--mock={args.mock}" if args.mock else f"--emulator={args.emulator}"
        raise Stop(f"--bond-dim is for --emulator=mps: leave out {other}", Exit.USAGE)


def _faults(text: str) -> str:
    from qpud.core.errors import Invalid
    from qpud.core.faults import parse  # takes milliseconds that no other verb should pay

    try:
        parse(text)
    except Invalid as wrong:
        raise argparse.ArgumentTypeError(wrong.message) from None
    return text
