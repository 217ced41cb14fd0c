"""Times and durations as Slurm's commands read them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpud.cli.exits import Exit, Stop
from qpud.cli.times import parse_duration, parse_time

NOON = datetime(2026, 11, 24, 11, 0).timestamp()  # 12:00 in Paris


@pytest.fixture(autouse=True)
def paris(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is one hour ahead of UTC in winter."""
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-11-24T11:00:00Z"),
        ("now+10minutes", "2026-11-24T11:10:00Z"),
        ("now+90", "2026-11-24T11:01:30Z"),
        ("NOW + 2h", "2026-11-24T13:00:00Z"),
        ("now-1day", "2026-11-23T11:00:00Z"),
        ("now-2weeks", "2026-11-10T11:00:00Z"),
        ("today", "2026-11-23T23:00:00Z"),
        ("midnight", "2026-11-24T23:00:00Z"),
        ("tomorrow", "2026-11-24T23:00:00Z"),
        ("yesterday", "2026-11-22T23:00:00Z"),
        ("noon", "2026-11-24T11:00:00Z"),
        ("14:30", "2026-11-24T13:30:00Z"),
        ("9:05", "2026-11-24T08:05:00Z"),
        ("9:05:07", "2026-11-24T08:05:07Z"),
        ("2026-11-25", "2026-11-24T23:00:00Z"),
        ("2026-11-24T10:00", "2026-11-24T09:00:00Z"),
        ("2026-07-01T10:00:30", "2026-07-01T08:00:30Z"),
        ("2026-11-24T10:00Z", "2026-11-24T10:00:00Z"),
        ("2026-11-24T10:00+03:00", "2026-11-24T07:00:00Z"),
    ],
)
def test_a_moment_is_read_as_slurm_reads_it(text: str, expected: str) -> None:
    assert parse_time(text, at("2026-11-24T11:00:00Z")) == at(expected)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 5400),
        ("30:15", 1815),
        ("1:30:00", 5400),
        ("2-00:00", 172800),
        ("1-12", 129600),
        ("1-01:02:03", 90123),
        ("45s", 45),
        ("10 minutes", 600),
        ("10min", 600),
        ("2h", 7200),
        ("1.5hours", 5400),
        ("1week", 604800),
    ],
)
def test_a_duration_is_read_as_slurm_reads_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "now+", "now+10parsecs", "25:00", "2026-13-01", "now+9999999999days", "-"]
)
def test_what_is_no_time_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(Stop, match="is no time: write it as") as stop:
        parse_time(text, NOON)
    assert stop.value.code is Exit.USAGE


@pytest.mark.parametrize("text", ["", "0", "-5", "1:2:3:4", "UNLIMITED", "nan", "1e9", "99999999999days", "0:00"])
def test_what_is_no_duration_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(Stop, match="is no duration above 0: write it as") as stop:
        parse_duration(text)
    assert stop.value.code is Exit.USAGE


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    for read in (lambda: parse_time(text, 1_700_000_000.0), lambda: parse_duration(text)):
        try:
            assert isinstance(read(), float)
        except Stop as stop:
            assert stop.code is Exit.USAGE
