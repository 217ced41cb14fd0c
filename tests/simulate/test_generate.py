"""Generators: the same load for the same seed, of the kind that was asked for."""

from __future__ import annotations

import itertools
import statistics

import pytest

from qpud.core.session import Hint
from qpud.simulate.generate import DEFAULT_MIX, Kind, Recipe, Weighted, generate
from qpud.simulate.trace import Batch, SessionTrace


def made(kind: Kind, number: int = 400, seed: int = 1, **changes: object) -> list[SessionTrace]:
    fields = {"rate": 0.01, "mix": DEFAULT_MIX, **changes}
    return generate(Recipe(kind=kind, number=number, seed=seed, **fields))  # type: ignore[arg-type]


def jobs_of(session: SessionTrace) -> list[int]:
    batches = [step for step in session.steps if isinstance(step, Batch)]
    return [job.shots for batch in batches for job in batch.jobs] * session.repeat


@pytest.mark.parametrize("kind", Kind)
def test_the_same_seed_gives_the_same_load_and_another_one_another(kind: Kind) -> None:
    assert made(kind) == made(kind)
    assert made(kind) != made(kind, seed=2)


@pytest.mark.parametrize("kind", Kind)
def test_sessions_arrive_at_the_rate_that_was_asked_for(kind: Kind) -> None:
    arrivals = [session.at for session in made(kind)]
    gaps = [after - before for before, after in itertools.pairwise(arrivals)]
    assert statistics.fmean(gaps) == pytest.approx(100, rel=0.15)


def test_the_mix_says_how_often_a_queue_is_drawn_and_how_long_its_jobs_are() -> None:
    mix = (Weighted("production", 1.0, 50, 50), Weighted("development", 3.0, 100, 500))
    sessions = made(Kind.POISSON, 2000, mix=mix)
    development = [session for session in sessions if session.queue == "development"]
    assert len(development) / len(sessions) == pytest.approx(0.75, abs=0.03)
    assert {100 <= shots <= 500 for session in development for shots in jobs_of(session)} == {True}


def test_hybrid_has_the_three_patterns_and_the_second_holds_the_nodes() -> None:
    sessions = made(Kind.HYBRID)
    nodes = {hint: [one.nodes for one in sessions if one.hint is hint] for hint in Hint if hint}
    assert all(nodes.values())
    assert min(nodes[Hint.CC_HEAVY]) > max(nodes[Hint.QC_HEAVY] + nodes[Hint.QC_BALANCED])


def test_qstone_has_forty_circuits_of_eight_shots_for_randomised_benchmarking() -> None:
    benchmarking = next(session for session in made(Kind.QSTONE) if session.id.endswith("-RB"))
    assert jobs_of(benchmarking) == [8] * 40


def test_qstone_draws_its_applications_with_its_users_odds() -> None:
    sessions = made(Kind.QSTONE, 3000)
    parts = [sum(one.id.endswith(name) for one in sessions) / 3000 for name in ("-VQE", "-RB", "-PyMatching")]
    assert parts == pytest.approx([0.283, 0.63, 0.087], abs=0.03)
