"""The loads of the oracles: small in the tests, long in tests/bench/mind.py."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from qpud.core.policy import Policy
from qpud.core.session import Hint
from qpud.core.terms import PreemptMode
from qpud.simulate.generate import Kind, Recipe, Weighted, generate
from qpud.simulate.trace import Batch, SessionTrace, Shots
from tests.simulate.builders import QUEUES, a_policy, a_session, job, sliced, think
from tests.simulate.queueing import Class, fixed, geometric

# -- queueing: FIELD.md's example at 1 shot/s, and three classes of nearly exponential jobs at 10 shots/s
EXAMPLE = (fixed("production", 0.1, 50), fixed("development", 0.7, 500))
RATE = 10.0
THREE: tuple[Class, ...] = (
    geometric("production", 0.2, 400, RATE),
    geometric("test", 0.25, 800, RATE),
    geometric("development", 0.3, 1500, RATE),
)
SLICE = 20.0
REQUEUE = {"preempt_mode": PreemptMode.REQUEUE}


def at_once(**resource: float) -> Policy:
    """Lower tiers yield after the shot in progress: preemptive resume."""
    return a_policy("share", sliced(10_000.0, test=REQUEUE, development=REQUEUE), **resource)


# -- hybrid sessions
def equal_hybrids(number: int, fraction: float, seconds: float, rounds: int) -> list[SessionTrace]:
    """So many equal sessions of `seconds` alone, of which `fraction` on the QPU (10 shots per second)."""
    each = seconds / rounds
    steps = (job(round(10 * fraction * each)), think((1.0 - fraction) * each))
    return [a_session(f"s{at}", *steps, repeat=rounds) for at in range(number)]


def qoncord(number: int) -> list[SessionTrace]:
    """Sessions of 100 circuits of 5 s with 2 s of classical work after each."""
    return [a_session(f"s{at}", job(5), think(2.0), repeat=100) for at in range(number)]


# -- shares
SHARES = {"s5": 5, "s3": 3, "s2": 2}


def long_jobs() -> list[SessionTrace]:
    """Contenders with 5, 3 and 2 units whose one job never ends."""
    return [a_session(name, job(10**9), share=share) for name, share in SHARES.items()]


def one_after_the_other() -> list[SessionTrace]:
    """The same contenders with short jobs, each submitted when the one before has ended."""
    return [a_session(name, job(7 + 3 * share), share=share, repeat=10**6) for name, share in SHARES.items()]


# -- production above a saturated development
def saturated(horizon: float, seed: int = 1, every: float = 500.0) -> list[SessionTrace]:
    """Six development sessions with jobs of 500 shots, always one each, and a production job of 50 now and then.

    Production comes once in each period, so late in none that two of its jobs meet.
    """
    dice = random.Random(seed)
    comes = (every * period + dice.uniform(0.0, every - 200.0) for period in range(int(horizon / every)))
    production = a_session("p", Batch(jobs=tuple(Shots(shots=50, after=at) for at in comes)), queue="production")
    return [production, *(a_session(f"d{at}", job(500), repeat=10**6) for at in range(6))]


def with_overhead(part: float, seconds: float = SLICE) -> tuple[object, ...]:
    """The queues with slices of so many seconds, of which set-up may be at most a part."""
    return tuple(replace(queue, max_slice_overhead=part) for queue in sliced(seconds))


# -- hints
def patterns(seed: int, number: int = 30) -> list[SessionTrace]:
    """The generator's mix of patterns A, B and C, in one queue."""
    mix = (Weighted("development", 1.0, 1, 1),)
    return generate(Recipe(kind=Kind.HYBRID, number=number, rate=1 / 120, mix=mix, seed=seed))


def without_hints(trace: Sequence[SessionTrace]) -> list[SessionTrace]:
    return [replace(session, hint=Hint.NONE) for session in trace]


WAITING = ("ABC", "ABBC", "ABBBC", "ABBCC", "BBBCC", "AABBC", "AABBB")
COMING = ("ABC", "ABB", "BBC", "ABBC")
"""Mixes of patterns A, B and C with few sessions, small enough to search."""


def waiting_mixes(seeds: Sequence[int]) -> Iterator[list[SessionTrace]]:
    """One job each, all there from the beginning; jobs of B and C fit into one slice.

    The sessions stay open: one that ended would leave what it had too much to be made up for at once, which is
    fairness before order.
    """
    for kinds in WAITING:
        for seed in seeds:
            dice = random.Random(seed)
            mix = [_waiting(kind, f"{kind}{at}", dice) for at, kind in enumerate(kinds)]
            dice.shuffle(mix)
            yield mix


def _waiting(kind: str, name: str, dice: random.Random) -> SessionTrace:
    after = think(1000.0)
    if kind == "A":
        return a_session(name, job(dice.randint(4, 8) * 20), after, nodes=1, hint=Hint.QC_HEAVY)
    if kind == "B":
        nodes = dice.choice((8, 16, 32, 64))
        return a_session(name, job(dice.randint(1, 4) * 5), after, nodes=nodes, hint=Hint.CC_HEAVY)
    return a_session(name, job(dice.randint(2, 4) * 5), after, nodes=4, hint=Hint.QC_BALANCED)


def coming_mixes(seeds: Sequence[int]) -> Iterator[list[SessionTrace]]:
    """The same, with two rounds of classical work and a job for B and C: who comes next is not known beforehand."""
    for kinds in COMING:
        for seed in seeds:
            dice = random.Random(seed)
            yield [_coming(kind, f"{kind}{at}", dice) for at, kind in enumerate(kinds)]


def _coming(kind: str, name: str, dice: random.Random) -> SessionTrace:
    if kind == "A":
        return a_session(name, job(dice.randint(4, 8) * 20), nodes=1, hint=Hint.QC_HEAVY)
    if kind == "B":
        steps = (think(float(dice.randint(4, 20) * 5)), job(dice.randint(1, 4) * 5))
        return a_session(name, *steps, repeat=2, nodes=dice.choice((16, 32, 64)), hint=Hint.CC_HEAVY)
    length = dice.randint(2, 4) * 5
    return a_session(name, job(length), think(float(length)), repeat=2, nodes=4, hint=Hint.QC_BALANCED)


# -- size
def million(slices: int, sessions: int = 50) -> list[SessionTrace]:
    """Hybrid sessions of three queues and ten shares that load the QPU well, with so many slices in all.

    Jobs of production are one slice, of test two, of development three.
    """
    rounds = slices // (2 * sessions)
    return [
        a_session(
            f"s{at}",
            job((10, 40, 60)[at % 3]),
            think(40.0 * sessions),
            queue=QUEUES[at % 3].name,
            share=1 + at % 10,
            hint=(Hint.NONE, Hint.CC_HEAVY, Hint.QC_BALANCED)[at % 3],
            nodes=1 + at,
            repeat=rounds,
            at=40.0 * at,
        )
        for at in range(sessions)
    ]
