"""A site's own scheduler: found by the name in the policy file, or refused in one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qpud.config import ConfigError, parse
from qpud.config.rule import load_rule
from qpud.core.errors import Invalid
from qpud.core.schedulers import BUILT_IN

SITE = """
class Shortest:
    runs_whole = False
    def key(self, job, session, tier):
        return (-tier, job.shots_left)

class Lazy:
    runs_whole = True

class Odd:
    def key(self, job, session, tier):
        return ()

class Broken:
    runs_whole = True
    def __init__(self):
        raise OSError("no licence")
"""


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site_rules.py").write_text(SITE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "site_rules", raising=False)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_scheduler_needs_no_rule(name: str) -> None:
    assert load_rule(name) is None


def test_a_class_of_the_site_is_loaded() -> None:
    rule = load_rule("site_rules:Shortest")
    assert rule is not None
    assert not rule.runs_whole


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nonesuch", "no entry point nonesuch"),
        ("nonesuch:Class", "No module named 'nonesuch'"),
        ("site_rules:Nobody", "no attribute 'Nobody'"),
        ("site_rules:Broken", "no licence"),
        ("site_rules:Lazy", "lacks the method key"),
        ("site_rules:Odd", "lacks the attribute runs_whole"),
    ],
)
def test_what_is_no_scheduler_is_refused_in_one_sentence(name: str, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        load_rule(name)


def test_the_policy_file_names_the_nearest_scheduler() -> None:
    with pytest.raises(ConfigError) as wrong:
        parse("[qpud]\nSchedulerType = shares\n")
    assert "did you mean share?" in str(wrong.value)
