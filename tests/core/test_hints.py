"""A wrong hint is noticed from what is measured, and said once."""

from __future__ import annotations

from typing import Any

import pytest

from qpud.core.hints import ENOUGH_JOBS, Watch, doubt
from qpud.core.session import Hint
from tests.core.builders import a_session


def seen(qpu: float, classical: float, jobs: int = 2 * ENOUGH_JOBS) -> Watch:
    """Jobs of `qpu` seconds with `classical` seconds after each."""
    watch, now = Watch(), 0.0
    for _ in range(jobs):
        watch.submitted(now)
        now += qpu
        watch.charged(qpu)
        watch.ended(now, is_last=True)
        now += classical
    watch.submitted(now)
    return watch


@pytest.mark.parametrize(
    ("hint", "qpu", "classical"),
    [(Hint.QC_HEAVY, 9, 1), (Hint.CC_HEAVY, 1, 9), (Hint.QC_BALANCED, 5, 5), (Hint.NONE, 1, 99)],
)
def test_a_hint_that_fits_is_not_doubted(hint: Hint, qpu: float, classical: float) -> None:
    assert doubt(a_session(hint=hint), seen(qpu, classical)) == ""


@pytest.mark.parametrize(
    ("hint", "qpu", "classical", "better"),
    [
        (Hint.QC_HEAVY, 1, 99, "cc-heavy would"),
        (Hint.CC_HEAVY, 95, 5, "qc-heavy would"),
        (Hint.QC_BALANCED, 99, 1, "qc-heavy would"),
    ],
)
def test_a_hint_that_does_not_fit_is_told_with_one_that_does(
    hint: Hint, qpu: float, classical: float, better: str
) -> None:
    assert better in doubt(a_session(hint=hint), seen(qpu, classical))


@pytest.mark.parametrize(
    "expected", [{"expected_classical_seconds": 1.0}, {"expected_qpu_seconds": 2.0}, {"hint": Hint.CC_HEAVY}]
)
def test_nothing_is_said_before_enough_jobs_have_ended(expected: dict[str, Any]) -> None:
    assert doubt(a_session(**expected), seen(50, 10, jobs=ENOUGH_JOBS - 1)) == ""


def test_classical_seconds_that_are_far_off_are_told() -> None:
    told = doubt(a_session(expected_classical_seconds=2.0), seen(5, 40))
    assert told == "2 classical seconds were expected between two jobs, 40.0 are measured"


def test_qpu_seconds_far_above_the_expected_ones_are_told() -> None:
    assert "it used 50" in doubt(a_session(expected_qpu_seconds=10.0), seen(5, 1))


def test_it_is_said_once() -> None:
    watch = seen(95, 5)
    watch.told = True
    assert doubt(a_session(hint=Hint.CC_HEAVY), watch) == ""


def test_waiting_for_the_qpu_is_no_classical_time() -> None:
    watch = Watch()
    watch.submitted(0.0)
    watch.ended(1000.0, is_last=False)
    watch.submitted(1000.0)
    assert watch.classical_seconds == 0.0
