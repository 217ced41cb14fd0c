"""Plain text that stays aligned whatever users call their jobs."""

from __future__ import annotations

import pytest

from qpud.cli.tables import bars, clip, clock, duration, fields, printable, table, width_of


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (5.9, "0:05"), (65, "1:05"), (3723, "1:02:03"), (90061, "1-01:01:01"), (-3, "0:00"), (None, "-")],
)
def test_durations_are_written_as_slurm_does(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_columns_stay_aligned_with_wide_and_combining_characters() -> None:
    text = table(("NAME", "STATE"), [("量子", "DONE"), ("e\u0301tat", "ERROR"), ("plain", "DONE")])
    starts = {width_of(line[: line.rindex(line.split()[-1])]) for line in text.splitlines()}
    assert starts == {7}


def test_numbers_are_aligned_to_the_right() -> None:
    assert table((">JOBID", "X"), [(7, "a"), (123456, "b")]).splitlines()[1] == "     7  a"


def test_a_table_is_cut_at_the_width_of_the_terminal() -> None:
    lines = table(("A", "REASON"), [("x", "waits for a very long time")], columns=12).splitlines()
    assert lines[1] == "x  waits fo…"


def test_a_table_for_a_pipe_is_never_cut() -> None:
    assert "x" * 500 in table(("A",), [("x" * 500,)], columns=None)


def test_clipping_never_splits_a_wide_character() -> None:
    assert clip("量子量子", 4) == "量…"


def test_escape_sequences_in_a_name_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in table(("NAME",), [("evil\x1b[2J\u202e",)])


def test_empty_cells_are_shown_as_a_dash() -> None:
    assert (printable(None), printable(""), printable(0)) == ("-", "-", "0")


def test_bars_show_the_most_frequent_first_and_count_the_rest() -> None:
    lines = bars({"00": 1, "01": 60, "10": 30, "11": 9}, columns=60, most=2).splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["01", "10"]
    assert lines[2] == "… and 2 more, see --all"


def test_bars_fit_the_terminal_and_are_to_scale() -> None:
    long, half = bars({"0": 100, "1": 50}, columns=60).splitlines()
    assert width_of(long) <= 60
    assert abs(long.count("█") / half.count("█") - 2) < 0.1


def test_bars_without_a_shot_say_so() -> None:
    assert bars({}, columns=80) == "no shots"


def test_fields_leave_out_what_is_empty() -> None:
    assert fields([("job", 7), ("name", None), ("session", "s")]) == "job      7\nsession  s"


def test_times_of_the_wire_become_local_wall_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clock("2026-11-22T08:00:00.25Z")[-2:] == "00"
    assert clock(None) == "-"
