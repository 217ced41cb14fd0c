"""Where a load comes from, and the policy under which it runs."""

from __future__ import annotations

import sys
from pathlib import Path

from msgspec.structs import replace

from qpud.config.rule import load_rule
from qpud.core.errors import BadRequest, Invalid, NotFound
from qpud.core.order import Rule
from qpud.core.policy import Policy
from qpud.simulate.generate import LARGEST_NUMBER, Recipe, generate
from qpud.simulate.history import as_trace
from qpud.simulate.trace import SessionTrace, read


class Load:
    """The sessions, and what is known of how fast the resources were.

    Args:
        sessions: The trace.
        shot_rates: Measured shots per QPU second, by resource.
        setup_seconds: Measured QPU seconds of a register change, by resource.
    """

    def __init__(
        self,
        sessions: list[SessionTrace],
        shot_rates: dict[str, float] | None = None,
        setup_seconds: dict[str, float] | None = None,
    ) -> None:
        self.sessions = sessions
        self._shot_rates = shot_rates or {}
        self._setup_seconds = setup_seconds or {}

    def under(
        self, policy: Policy, scheduler: str, shot_rate: float | None, setup_seconds: float | None
    ) -> tuple[Policy, Rule | None]:
        """The policy with another scheduler, and resources as fast as said, else as measured, else as configured.

        Raises:
            Invalid: There is no such scheduler.
        """
        resources = {
            name: replace(
                one,
                shot_rate=shot_rate or self._shot_rates.get(name, one.shot_rate),
                setup_seconds=self._setup_seconds.get(name, one.setup_seconds)
                if setup_seconds is None
                else setup_seconds,
            )
            for name, one in policy.resources.items()
        }
        daemon = replace(policy.daemon, scheduler_type=scheduler)
        return replace(policy, daemon=daemon, resources=resources), _rule(scheduler)


def _rule(scheduler: str) -> Rule | None:
    try:
        return load_rule(scheduler)
    except Invalid as error:
        raise Invalid(f"scheduler {scheduler} {error.message}") from None


def from_trace(name: str) -> Load:
    """A trace from a file, or from standard input if it is named "-".

    Raises:
        NotFound: There is no such file.
        BadRequest: It cannot be read, or breaks the format.
    """
    if name == "-":
        return Load(read(sys.stdin, "standard input"))
    try:
        with Path(name).open(encoding="utf-8") as lines:
            return Load(read(lines, name))
    except FileNotFoundError:
        raise NotFound(f"there is no trace {name}") from None
    except OSError as error:
        raise BadRequest(f"the trace {name} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise BadRequest(f"the trace {name} is not UTF-8 text") from None


def from_database(path: Path) -> Load:
    """What happened at a daemon.

    Raises:
        NotFound: There is no such database.
        Unavailable: It cannot be read.
        BadRequest: Nothing ever ran there.
    """
    from qpud.store.history import read_past  # SQLite is only loaded where it is read

    past = read_past(path)
    return Load(as_trace(past.sessions, past.jobs), past.shot_rates, past.setup_seconds)


def from_recipe(recipe: Recipe) -> Load:
    """A generated load.

    Raises:
        BadRequest: More sessions than a generator makes, or none.
    """
    if not 1 <= recipe.number <= LARGEST_NUMBER:
        raise BadRequest(f"--number {recipe.number} is not a number of sessions, 1 to {LARGEST_NUMBER}")
    return Load(generate(recipe))
