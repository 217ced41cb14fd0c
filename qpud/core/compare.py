"""Whether two sets of counts may come from one distribution: total variation distance and a G-test.

Pure Python: the daemon's zipapp holds no NumPy. Both tests ask the same null hypothesis, that both samples were drawn
from one distribution; each may err in half of ALPHA of the cases, so that together they err in at most ALPHA.

Total variation distance ½ Σ |p − q|: its threshold is the quantile of the distances of random splits of all shots
into samples of these sizes (permutation test), which is exact whatever the distribution.

G-test of homogeneity (Sokal and Rohlf, Biometry, 3rd ed. 1995, §17.4): G = 2 Σ O ln(O ÷ E) over the table of two
samples and all outcomes is distributed as χ² with (outcomes − 1) degrees of freedom; rare outcomes are pooled. The
survival function of χ² is the regularised incomplete gamma function Q(k/2, x/2): its series (DLMF 8.7.1) below
a + 1, its continued fraction (DLMF 8.9.2) by Lentz's method above, as in Numerical Recipes, 3rd ed. 2007, §6.2.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

ALPHA = 0.01
"""How often counts of one distribution are called different."""
LEAST_EXPECTED = 5.0
"""Outcomes that are expected less often, in the smaller sample, are pooled (Cochran's rule)."""
SPLITS = 999
_WORK = 4_000_000  # shots drawn over all splits: some seconds
_FEWEST_SPLITS = 199  # resolves half of ALPHA
_TINY = 1e-300
_PRECISION = 1e-15

Counts = Mapping[str, int]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Both tests on two sets of counts."""

    identical: bool  # the very same counts
    tvd: float
    tvd_threshold: float
    tvd_expected: float  # mean over the splits: the distance that chance alone brings
    g: float
    degrees: int  # 0: only one outcome, or all pooled into one
    p_value: float
    alpha: float = ALPHA

    @property
    def equal(self) -> bool:
        """Whether neither test tells them apart."""
        return self.tvd <= self.tvd_threshold and self.p_value >= self.alpha / 2


def compare(first: Counts, second: Counts, seed: int = 0) -> Comparison:
    """Compare two samples.

    Args:
        first: Shots by outcome, at least one.
        second: The same.
        seed: Of the random splits.
    """
    distances = sorted(_split_distances(first, second, seed))
    g, degrees = g_statistic(first, second)
    return Comparison(
        identical=dict(first) == dict(second),
        tvd=distance(first, second),
        tvd_threshold=distances[math.ceil((1 - ALPHA / 2) * len(distances)) - 1],
        tvd_expected=math.fsum(distances) / len(distances),
        g=g,
        degrees=degrees,
        p_value=chi_square_survival(g, degrees) if degrees else 1.0,
    )


def distance(first: Counts, second: Counts) -> float:
    """Total variation distance, 0 to 1."""
    n, m = sum(first.values()), sum(second.values())
    return 0.5 * math.fsum(abs(first.get(one, 0) / n - second.get(one, 0) / m) for one in {*first, *second})


def _split_distances(first: Counts, second: Counts, seed: int) -> Iterator[float]:
    """Distances of random splits of all shots into samples of the same sizes."""
    total = Counter(first) + Counter(second)
    small = min(sum(first.values()), sum(second.values()))
    large = sum(total.values()) - small
    draw, outcomes, numbers = random.Random(seed), list(total), list(total.values())  # noqa: S311  a test, no secret
    for _ in range(max(_FEWEST_SPLITS, min(SPLITS, _WORK // small))):
        taken = Counter(draw.sample(outcomes, small, counts=numbers))
        yield 0.5 * math.fsum(abs(taken[one] / small - (total[one] - taken[one]) / large) for one in outcomes)


def g_statistic(first: Counts, second: Counts) -> tuple[float, int]:
    """G of two samples and its degrees of freedom, rare outcomes pooled."""
    n, m = sum(first.values()), sum(second.values())
    cells = list(_pooled(first, second, min(n, m) / (n + m)))
    g = 0.0
    for a, b in cells:
        for observed, size in ((a, n), (b, m)):
            if observed:
                g += observed * math.log(observed * (n + m) / ((a + b) * size))
    return max(0.0, 2 * g), max(0, len(cells) - 1)


def _pooled(first: Counts, second: Counts, part: float) -> Iterator[tuple[int, int]]:
    """Observed pairs; `part` of an outcome's shots is what the smaller sample is expected to have of them."""
    rare_a = rare_b = 0
    for one in {*first, *second}:
        a, b = first.get(one, 0), second.get(one, 0)
        if (a + b) * part >= LEAST_EXPECTED:
            yield a, b
        else:
            rare_a, rare_b = rare_a + a, rare_b + b
    if rare_a + rare_b:
        yield rare_a, rare_b


def chi_square_survival(x: float, degrees: int) -> float:
    """The probability that χ² with `degrees` >= 1 degrees of freedom exceeds x."""
    a, x = degrees / 2, x / 2
    if x <= 0:
        return 1.0
    return 1.0 - _lower_series(a, x) if x < a + 1 else _upper_fraction(a, x)


def _scale(a: float, x: float) -> float:
    return math.exp(-x + a * math.log(x) - math.lgamma(a))


def _lower_series(a: float, x: float) -> float:
    """P(a, x) = x^a e^-x Σ x^n ÷ Γ(a + n + 1)."""
    term = total = 1.0 / a
    denominator = a
    while term > total * _PRECISION:
        denominator += 1
        term *= x / denominator
        total += term
    return total * _scale(a, x)


def _upper_fraction(a: float, x: float) -> float:
    """Q(a, x) by its continued fraction, even part, with Lentz's method."""
    b = x + 1.0 - a
    c, d = 1.0 / _TINY, 1.0 / b
    value = d
    step, number = 0.0, 0
    while abs(step - 1.0) > _PRECISION:
        number += 1
        factor = -number * (number - a)
        b += 2.0
        d = 1.0 / (_not_zero(factor * d + b))
        c = _not_zero(b + factor / c)
        step = d * c
        value *= step
    return value * _scale(a, x)


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
