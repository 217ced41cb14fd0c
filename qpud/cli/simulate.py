"""simulate: try a policy on a load before it goes live. Reaches no daemon; `qpud.simulate` does the work."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qpud.cli.exits import Exit, Stop
from qpud.cli.output import emit, note
from qpud.cli.serve import Verbs, read_policy
from qpud.cli.tables import table, terminal_columns
from qpud.core.errors import NotFound, QpudError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qpud.core.policy import Policy
    from qpud.simulate.generate import Recipe, Weighted
    from qpud.simulate.load import Load
    from qpud.simulate.plot import Run

GENERATORS = ("poisson", "hybrid", "qstone")
RECIPE = ("number", "rate", "mix", "seed")

EXAMPLES = """\
examples:
  qpud simulate trace.jsonl --config qpud.conf --scheduler share --scheduler priority
  qpud simulate --from-db /var/lib/qpud/state.sqlite --config new.conf --plot new.svg
  qpud simulate --generate hybrid --seed 7 --scheduler fifo --scheduler share
  qpud simulate --generate poisson --number 5000 --rate 0.0034 --mix production:10:50,development:7:500

The form of a trace and what each figure means: qpud/simulate/README.md.
"""


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of simulate."""
    del reach  # it reaches no daemon
    parser = verbs.add_parser(
        "simulate",
        help="try a policy on a trace, on what happened here, or on a generated load",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_load(parser)
    _add_policy(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw slices, waits and shares")
    parser.add_argument("--worker-python", type=Path, metavar="PATH", help="the interpreter that has matplotlib")
    parser.set_defaults(verb=simulate)


def _add_load(parser: argparse.ArgumentParser) -> None:
    which = parser.add_argument_group("the load, one of")
    which.add_argument(
        "trace", nargs="?", metavar="TRACE", help="JSON Lines, one session per line; - is standard input"
    )
    which.add_argument("--from-db", type=Path, metavar="FILE", help="what happened at a daemon: its state.sqlite")
    which.add_argument("--generate", choices=GENERATORS, help="a load of that kind")
    made = parser.add_argument_group("with --generate")
    made.add_argument("--seed", type=_whole, metavar="N", help="another load of the same kind (default: 0)")
    made.add_argument("--number", type=_whole, metavar="N", help="sessions (default: poisson 1000, else 30)")
    made.add_argument("--rate", type=_positive, metavar="R", help="sessions that arrive per second, on average")
    made.add_argument(
        "--mix",
        type=_mix,
        metavar="Q:W[:SHOTS],…",
        help="queues, how often each, and shots of a poisson job, N or LOW-HIGH",
    )
    made.add_argument("--write-trace", type=Path, metavar="FILE", help="keep the load as a trace (--from-db too)")


def _add_policy(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("the policy")
    what.add_argument("--config", type=Path, metavar="FILE", help="the policy file (default: that of an empty file)")
    what.add_argument(
        "--scheduler",
        action="append",
        metavar="NAME",
        help="SchedulerType; repeat it to compare (default: the file's)",
    )
    what.add_argument("--shot-rate", type=_positive, metavar="R", help="shots per second of every resource")
    what.add_argument("--setup-seconds", type=_seconds, metavar="S", help="of a register change on every resource")
    what.add_argument("--until", type=_positive, metavar="SECONDS", help="stop so long after the first session opened")


def simulate(args: argparse.Namespace) -> int:
    """Run the load under each scheduler and print the figures."""
    try:
        return _simulate(args)
    except NotFound as error:
        raise Stop(error.message, Exit.NOT_FOUND) from None


def _simulate(args: argparse.Namespace) -> int:
    from msgspec import to_builtins

    from qpud.core.policy import default_policy
    from qpud.simulate.report import rows

    policy = read_policy(args.config) if args.config else default_policy()
    load = _load(args)
    if args.write_trace:
        _write(load, args.write_trace)
    runs = _run_each(args, load, policy)
    if args.plot:
        _plot(args, policy, runs)
    answer = [to_builtins(run.figures) for run in runs]
    emit(args, answer if len(answer) > 1 else answer[0], lambda: _text(*rows([run.figures for run in runs])))
    return Exit.OK


def _text(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    return table(header, lines, terminal_columns())


def _run_each(args: argparse.Namespace, load: Load, policy: Policy) -> list[Run]:
    from qpud.simulate.engine import Simulation
    from qpud.simulate.measure import measure
    from qpud.simulate.plot import Run

    runs = []
    for name in dict.fromkeys(args.scheduler or [policy.daemon.scheduler_type]):
        chosen, rule = load.under(policy, name, args.shot_rate, args.setup_seconds)
        simulation = Simulation(chosen, load.sessions, rule=rule, keeps_slices=args.plot is not None)
        tally = simulation.run(args.until or math.inf)
        runs.append(Run(tally, measure(tally, name)))
    return runs


def _plot(args: argparse.Namespace, policy: Policy, runs: Sequence[Run]) -> None:
    from qpud.simulate.plot import draw

    python = args.worker_python or policy.daemon.worker_python or Path(sys.executable)
    draw(runs, args.plot.absolute(), python)
    note(f"drew {args.plot}")


# -- the load
def _load(args: argparse.Namespace) -> Load:
    from qpud.simulate.load import from_database, from_recipe, from_trace

    given = [name for name in ("trace", "from_db", "generate") if getattr(args, name) is not None]
    if len(given) != 1:
        raise Stop("give one load: a TRACE, --from-db FILE or --generate KIND", Exit.USAGE)
    stray = [name for name in RECIPE if getattr(args, name) is not None]
    if stray and not args.generate:
        raise Stop(f"--{stray[0]} needs --generate", Exit.USAGE)
    if args.generate:
        return from_recipe(_recipe(args))
    return from_database(args.from_db) if args.from_db else from_trace(args.trace)


def _recipe(args: argparse.Namespace) -> Recipe:
    from qpud.simulate.generate import DEFAULT_MIX, DEFAULT_NUMBER, DEFAULT_RATE, Kind, Recipe

    kind = Kind(args.generate)
    return Recipe(
        kind=kind,
        number=DEFAULT_NUMBER[kind] if args.number is None else args.number,
        rate=DEFAULT_RATE[kind] if args.rate is None else args.rate,
        mix=args.mix or DEFAULT_MIX,
        seed=args.seed or 0,
    )


def _write(load: Load, path: Path) -> None:
    from qpud.simulate.trace import write

    try:
        path.write_text("".join(write(session) + "\n" for session in load.sessions))
    except OSError as error:
        raise Stop(f"the trace cannot be written to {path}: {(error.strerror or str(error)).lower()}") from None


# -- values of options
def _number(text: str, fits: Callable[[float], bool], words: str) -> float:
    with suppress(ValueError):
        if fits(value := float(text)) and math.isfinite(value):
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not {words}")


def _positive(text: str) -> float:
    return _number(text, lambda value: value > 0, "a number above 0")


def _seconds(text: str) -> float:
    return _number(text, lambda value: value >= 0, "a number of seconds, 0 or more")


def _whole(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 to 999999999")


def _mix(text: str) -> tuple[Weighted, ...]:
    try:
        return tuple(_weighted(part) for part in text.split(","))
    except (ValueError, QpudError):
        words = "QUEUE:WEIGHT[:SHOTS] with commas between, such as production:1:50,development:3:100-500"
        raise argparse.ArgumentTypeError(f"{text!r} is not {words}") from None


def _weighted(text: str) -> Weighted:
    from qpud.simulate.generate import Weighted

    queue, weight, *shots = text.split(":")
    fewest, _, most = (shots or ["100"])[0].partition("-")
    made: Any = Weighted(queue, float(weight), int(fewest), int(most or fewest))
    if not queue or len(shots) > 1 or not 0 < made.weight < math.inf or not 0 < made.fewest <= made.most:
        raise ValueError(text)
    return made  # type: ignore[no-any-return]
