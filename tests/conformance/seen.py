"""What tests ask of counts and of refusals."""

from __future__ import annotations

import re

BEST = "10011"  # see scripts/afm.py


def is_antiferromagnet(counts: dict[str, int]) -> bool:
    """Whether the best pattern, in register order and with 1 for an excited atom, has most of the shots."""
    return 2 * counts.get(BEST, 0) > sum(counts.values())


def is_one_sentence(text: str) -> bool:
    """Whether a refusal is one sentence: short, one line, and no second sentence behind a full stop."""
    return 10 < len(text) < 300 and "\n" not in text and re.search(r"[.!?] +[A-Z]", text) is None


def variation(one: dict[str, int], other: dict[str, int]) -> float:
    """Total variation distance of two samples: 0 for equal frequencies, 1 for no outcome in common."""
    shots, others = sum(one.values()), sum(other.values())
    return 0.5 * sum(abs(one.get(key, 0) / shots - other.get(key, 0) / others) for key in one.keys() | other.keys())
