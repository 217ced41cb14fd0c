"""serve, check, version: the verbs that talk to no daemon.

The daemon and the policy reader are imported by the verbs that need them, so that all others start fast.
"""

from __future__ import annotations

import argparse
import math
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from qpud import __version__
from qpud.cli.exits import Exit, Stop
from qpud.cli.output import emit

if TYPE_CHECKING:
    from qpud.core.policy import Policy

SITE_POLICY = Path("/etc/qpud/qpud.conf")

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of serve, check and version."""
    del reach  # these verbs reach no daemon
    _add_serve(verbs)
    check = verbs.add_parser("check", help="read a policy file; print what takes effect, or every mistake")
    check.add_argument("file", nargs="?", type=Path, default=SITE_POLICY, metavar="FILE", help="default: %(default)s")
    check.set_defaults(verb=check_policy)
    version = verbs.add_parser("version", help="print the version")
    version.add_argument("--json", action="store_true", help="print JSON")
    version.set_defaults(verb=print_version)


def _add_serve(verbs: Verbs) -> None:
    serve = verbs.add_parser("serve", help="run the daemon until SIGTERM or SIGINT")
    which = serve.add_mutually_exclusive_group()
    which.add_argument("--config", type=Path, metavar="FILE", help=f"the policy file (default: {SITE_POLICY})")
    which.add_argument("--dev", action="store_true", help="a daemon of your own: no file, no root, no munge")
    dev = serve.add_argument_group("with --dev")
    dev.add_argument("--state", type=Path, metavar="DIR", help="where jobs are kept (default: your private folder)")
    dev.add_argument("--port", type=_port, metavar="N", help="TCP port on 127.0.0.1 (default: any free one)")
    dev.add_argument("--worker-python", type=Path, metavar="PATH", help="the interpreter that has Pulser")
    dev.add_argument("--speed-up", type=_factor, metavar="N", help="how much faster than real the simulated QPU runs")
    serve.set_defaults(verb=serve_daemon)


def serve_daemon(args: argparse.Namespace) -> int:
    """Run the daemon in the foreground; its exit code."""
    if args.dev:
        return _serve_dev(args)
    stray = [name for name in ("state", "port", "worker_python", "speed_up") if getattr(args, name) is not None]
    if stray:
        raise Stop(f"--{stray[0].replace('_', '-')} needs --dev; a site writes it in the policy file", Exit.USAGE)
    path: Path = args.config or SITE_POLICY
    policy = read_policy(path)
    from qpud.daemon import serve

    return serve(policy, path)


def _serve_dev(args: argparse.Namespace) -> int:
    from qpud.config import dev_policy
    from qpud.daemon import serve
    from qpud.site.peer import private_folder

    state = (args.state or private_folder()).absolute()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _listing_mistakes():
        policy = dev_policy(state, args.port or 0, args.worker_python)
    return serve(policy if args.speed_up is None else _sped_up(policy, args.speed_up), None)


def _sped_up(policy: Policy, factor: float) -> Policy:
    """Let every simulated QPU run faster than real."""
    from msgspec.structs import replace

    from qpud.core.terms import DriverKind

    resources = {
        name: replace(one, speed_up=factor) if one.driver is DriverKind.SIMULATED else one
        for name, one in policy.resources.items()
    }
    return replace(policy, resources=resources)


def check_policy(args: argparse.Namespace) -> int:
    """Print the effective policy, or all mistakes with exit 1."""
    from qpud.config import check_report
    from qpud.site.lacking import lacking

    policy = read_policy(args.file)
    print("".join(f"# Warning: {sentence}\n" for sentence in lacking(policy)) + check_report(policy), end="")
    return Exit.OK


def print_version(args: argparse.Namespace) -> int:
    """Print the versions of qpud and of the Python that runs it."""
    answer = {"qpud": __version__, "python": platform.python_version()}
    emit(args, answer, lambda: f"qpud {__version__} (Python {answer['python']})")
    return Exit.OK


def read_policy(path: Path) -> Policy:
    """Read a policy file, or stop with every mistake in it."""
    from qpud.config import load

    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        message = f"there is no policy file {path}; for a daemon of your own: `qpud serve --dev`"
        raise Stop(message, Exit.NOT_FOUND) from None
    except OSError:
        pass  # a folder that we may not enter: `load` says so
    with _listing_mistakes():
        return load(path)


@contextmanager
def _listing_mistakes() -> Iterator[None]:
    from qpud.config import ConfigError

    try:
        yield
    except ConfigError as error:
        raise Stop("\n".join(map(str, error.mistakes))) from None


def _factor(text: str) -> float:
    with suppress(ValueError):
        if 0 < (factor := float(text)) < math.inf:
            return factor
    raise argparse.ArgumentTypeError(f"{text!r} is not a factor above 0, such as 100")


def _port(text: str) -> int:
    with suppress(ValueError):
        if 0 <= (port := int(text)) <= 65535:
            return port
    raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 (any free one) to 65535")
