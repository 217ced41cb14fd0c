"""The comparison of two samples decides as often as it promises; too slow for each save."""

from __future__ import annotations

import random
from collections import Counter

from qpud.core.compare import compare


def sample(draw: random.Random, shots: int, bias: float) -> Counter[str]:
    return Counter("".join("1" if draw.random() < bias else "0" for _ in range(4)) for _ in range(shots))


def test_samples_of_one_distribution_are_equal_as_often_as_promised():
    draw = random.Random(1)
    equal = sum(compare(sample(draw, 200, 0.3), sample(draw, 300, 0.3), n).equal for n in range(60))
    assert equal >= 57  # 60 × 1 % err; 4 or more of them have a chance of 0.3 %


def test_samples_of_different_distributions_are_told_apart():
    draw = random.Random(2)
    for n in range(10):
        found = compare(sample(draw, 500, 0.3), sample(draw, 500, 0.4), n)
        assert not found.equal
        assert found.tvd > found.tvd_threshold > found.tvd_expected
