"""The picture: what is sent to the chart, and the chart itself under the worker's interpreter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qpud.core.errors import Unavailable
from qpud.simulate import plot
from qpud.simulate.engine import Simulation
from qpud.simulate.measure import measure
from tests.simulate.builders import a_policy, a_session, job, think


def a_run(scheduler: str = "share") -> plot.Run:
    trace = [a_session("a", job(50), think(5), repeat=3), a_session("p", job(5), queue="production", at=3)]
    tally = Simulation(a_policy(scheduler), trace, keeps_slices=True).run()
    return plot.Run(tally, measure(tally, scheduler))


def test_few_slices_are_drawn_one_by_one() -> None:
    (line,) = plot._content(a_run())["timelines"]
    assert line["bars"]["production"] == [(20.0, 5.0)]


def test_many_slices_are_drawn_as_parts_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "MOST_BARS", 0)
    run = a_run()
    (line,) = plot._content(run)["timelines"]
    width = (run.tally.ended_at - run.tally.began_at) / plot.BINS
    assert sum(line["parts"]["production"]) * width == pytest.approx(5.0)
    assert sum(line["parts"]["development"]) * width == pytest.approx(150.0)


def test_waits_are_quantiles_of_at_most_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "QUANTILES", 3)
    run = a_run()
    for one, wait in zip(run.tally.jobs, (9.0, 1.0, 5.0, 0.0), strict=True):
        one.queue, one.started_at = "test", one.submitted_at + wait
    assert plot._content(run)["waits"]["test"] == [0.0, 1.0, 9.0]


def test_an_interpreter_without_matplotlib_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"x\.svg cannot be drawn by .* it has no matplotlib"):
        plot.draw([a_run()], tmp_path / "x.svg", Path(sys.executable))


def test_an_interpreter_that_is_not_there_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="the plot cannot be drawn by /nowhere/python"):
        plot.draw([a_run()], tmp_path / "x.svg", Path("/nowhere/python"))


@pytest.mark.worker
def test_the_chart_shows_each_scheduler_and_queue(tmp_path: Path, worker_python: Path) -> None:
    plot.draw([a_run(), a_run("fifo")], tmp_path / "x.svg", worker_python)
    drawn = (tmp_path / "x.svg").read_text()
    assert all(f"<!-- {word} -->" in drawn for word in ("share", "fifo", "development", "production"))


@pytest.mark.worker
def test_the_same_run_gives_the_same_picture(tmp_path: Path, worker_python: Path) -> None:
    plot.draw([a_run()], tmp_path / "x.svg", worker_python)
    plot.draw([a_run()], tmp_path / "y.svg", worker_python)
    assert (tmp_path / "x.svg").read_bytes() == (tmp_path / "y.svg").read_bytes()


@pytest.mark.worker
def test_a_folder_that_is_not_there_gets_a_sentence(tmp_path: Path, worker_python: Path) -> None:
    with pytest.raises(Unavailable, match="No such file or directory"):
        plot.draw([a_run()], tmp_path / "nowhere" / "x.svg", worker_python)
