"""Generators: loads of three published kinds, the same for the same seed.

poisson   Jobs that arrive at random and know nothing of each other, one per session: the M/G/1 queue of the textbooks.
hybrid    The three patterns of Wennersteen et al., "Towards a user-centric HPC-QC environment" (2025): A, much quantum
          and little classical work; B, little quantum work between long classical phases on many nodes; C, balanced.
qstone    The applications that QStone (github.com/riverlane/QStone) runs to judge an HPC centre with a quantum
          computer: VQE, a loop of 1 to 9 short jobs; RB, 40 circuits of 8 shots one after the other (4 depths × 10
          repetitions); PyMatching, one job; drawn with the odds of its three test users.

Arrivals are a Poisson process. Everything drawn comes from one `random.Random(seed)`.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Iterator

import msgspec

from qpud.core.session import Hint
from qpud.simulate.trace import Batch, Classical, SessionTrace, Shots, Step

LARGEST_NUMBER = 1_000_000
"""Sessions that a generator makes at most."""


class Kind(enum.StrEnum):
    """The generators by name."""

    POISSON = "poisson"
    HYBRID = "hybrid"
    QSTONE = "qstone"


class Weighted(msgspec.Struct, frozen=True):
    """A queue of the mix: how often it is drawn against the others, and the shots of a job in it."""

    queue: str
    weight: float
    fewest: int
    most: int


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What to generate.

    `rate` is sessions per second. `shots` in the mix say how long a job of poisson is; hybrid and qstone have
    their own.
    """

    kind: Kind
    number: int
    rate: float
    mix: tuple[Weighted, ...]
    seed: int = 0
    resource: str | None = None


DEFAULT_NUMBER = {Kind.POISSON: 1000, Kind.HYBRID: 30, Kind.QSTONE: 30}
DEFAULT_RATE = {Kind.POISSON: 1 / 300, Kind.HYBRID: 1 / 120, Kind.QSTONE: 1 / 600}
"""Sessions per second that load a QPU of one shot per second well, and not too much."""
DEFAULT_MIX = (
    Weighted("production", 1.0, 50, 50),
    Weighted("test", 1.0, 100, 100),
    Weighted("development", 2.0, 300, 300),
)
"""The queues of an empty policy file."""


def generate(recipe: Recipe) -> list[SessionTrace]:
    """Make the sessions of a recipe, in the order of their arrival."""
    dice = random.Random(recipe.seed)  # noqa: S311  a load, not a secret
    make = MAKERS[recipe.kind]
    return [make(dice, recipe, number, at) for number, at in enumerate(_arrivals(dice, recipe), 1)]


def _arrivals(dice: random.Random, recipe: Recipe) -> Iterator[float]:
    at = 0.0
    for _ in range(recipe.number):
        yield round(at, 3)
        at += dice.expovariate(recipe.rate)


def _queue(dice: random.Random, recipe: Recipe) -> Weighted:
    return dice.choices(recipe.mix, weights=[one.weight for one in recipe.mix])[0]


def _poisson(dice: random.Random, recipe: Recipe, number: int, at: float) -> SessionTrace:
    queue = _queue(dice, recipe)
    shots = dice.randint(queue.fewest, queue.most)
    return SessionTrace(
        id=f"p{number}",
        at=at,
        user=f"user{number % 10}",
        queue=queue.queue,
        resource=recipe.resource,
        steps=(_job(shots),),
    )


def _hybrid(dice: random.Random, recipe: Recipe, number: int, at: float) -> SessionTrace:
    pattern = dice.choice((_quantum_heavy, _classical_heavy, _balanced))
    session = pattern(dice, f"h{number}", at, _queue(dice, recipe).queue)
    return msgspec.structs.replace(session, user=f"user{number % 10}", resource=recipe.resource)


def _quantum_heavy(dice: random.Random, name: str, at: float, queue: str) -> SessionTrace:
    steps = (_job(dice.randint(200, 400)), _think(dice, 5, 20))
    return SessionTrace(id=name + "A", at=at, queue=queue, hint=Hint.QC_HEAVY, nodes=1, repeat=3, steps=steps)


def _classical_heavy(dice: random.Random, name: str, at: float, queue: str) -> SessionTrace:
    steps = (_think(dice, 60, 300), _job(dice.randint(5, 20)))
    nodes = dice.choice((16, 32, 64))
    return SessionTrace(id=name + "B", at=at, queue=queue, hint=Hint.CC_HEAVY, nodes=nodes, repeat=8, steps=steps)


def _balanced(dice: random.Random, name: str, at: float, queue: str) -> SessionTrace:
    length = dice.randint(20, 60)
    steps = (_job(length), Classical(seconds=float(length)))
    return SessionTrace(id=name + "C", at=at, queue=queue, hint=Hint.QC_BALANCED, nodes=4, repeat=6, steps=steps)


# user → odds of VQE, RB, PyMatching: tests/data/generator/config_multi.json of QStone
QSTONE_USERS = {"user0": (0.25, 0.74, 0.01), "user1": (0.3, 0.65, 0.05), "user2": (0.3, 0.5, 0.2)}
QSTONE_SHOTS = 100  # its default for VQE and PyMatching


def _qstone(dice: random.Random, recipe: Recipe, number: int, at: float) -> SessionTrace:
    user = dice.choice(sorted(QSTONE_USERS))
    make = dice.choices((_vqe, _rb, _pymatching), weights=QSTONE_USERS[user])[0]
    session = make(dice, f"q{number}", at, _queue(dice, recipe).queue)
    return msgspec.structs.replace(session, user=user, resource=recipe.resource)


def _vqe(dice: random.Random, name: str, at: float, queue: str) -> SessionTrace:
    steps = (_job(QSTONE_SHOTS), Classical(seconds=0.001))
    return SessionTrace(id=name + "-VQE", at=at, queue=queue, repeat=dice.randint(1, 9), steps=steps)


def _rb(dice: random.Random, name: str, at: float, queue: str) -> SessionTrace:
    steps = (_think(dice, 5, 15), *(_job(8),) * 40, Classical(seconds=1.0))
    return SessionTrace(id=name + "-RB", at=at, queue=queue, steps=steps)


def _pymatching(dice: random.Random, name: str, at: float, queue: str) -> SessionTrace:
    steps = (_think(dice, 1, 3), _job(QSTONE_SHOTS), _think(dice, 1, 3))
    return SessionTrace(id=name + "-PyMatching", at=at, queue=queue, steps=steps)


def _job(shots: int) -> Step:
    return Batch(jobs=(Shots(shots=shots),))


def _think(dice: random.Random, least: float, most: float) -> Step:
    return Classical(seconds=round(dice.uniform(least, most), 3))


MAKERS: dict[Kind, Callable[[random.Random, Recipe, int, float], SessionTrace]] = {
    Kind.POISSON: _poisson,
    Kind.HYBRID: _hybrid,
    Kind.QSTONE: _qstone,
}
