"""simulate as a real process: loads, options, JSON of the documented form, sentences for mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

LINE = '{"id":"s%d","at":0.0,"queue":"development","repeat":3,"steps":[{"classical":2.0},{"shots":5}]}\n'
SPREAD = {"mean", "p50", "p95", "p99", "max"}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "t.jsonl"
    path.write_text(LINE % 1 + LINE % 2)
    return path


def test_a_trace_gives_a_table_with_a_column_for_each_scheduler(qpud: Any, trace: Path) -> None:
    ended = qpud("simulate", str(trace), "--scheduler", "exclusive", "--scheduler", "share")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0].split() == ["exclusive", "share"]
    assert lines[1].split() == ["FRESNEL:", "busy", "75.0", "%", "93.8", "%"]


def test_json_has_the_documented_form(qpud: Any, trace: Path) -> None:
    answer = json.loads(qpud("simulate", str(trace), "--json").stdout)
    assert {
        "utilisation",
        "busy_seconds",
        "setup_seconds",
        "wall_seconds",
        "shots",
        "wasted_shots",
        "preemptions",
    } <= (answer["resource"].keys())
    queue = answer["queues"]["development"]
    assert queue.keys() == {"jobs", "wait_seconds", "turnaround_seconds", "slowdown"}
    assert queue["wait_seconds"].keys() == queue["turnaround_seconds"].keys() == SPREAD
    assert answer["sessions"][0].keys() == {
        "id",
        "start",
        "end",
        "qpu_seconds",
        "node_seconds",
        "node_seconds_waiting",
    }
    assert answer["shares"][0].keys() == {"name", "entitled", "served", "error"}
    assert answer["node_seconds"].keys() == {"held", "waiting"}
    assert 0 < answer["jain"] <= 1


def test_json_of_several_schedulers_is_a_list(qpud: Any, trace: Path) -> None:
    answer = json.loads(qpud("simulate", str(trace), "--json", "--scheduler", "fifo", "--scheduler", "share").stdout)
    assert [one["scheduler"] for one in answer] == ["fifo", "share"]


def test_shot_rate_and_setup_seconds_are_as_said(qpud: Any, trace: Path) -> None:
    answer = json.loads(qpud("simulate", str(trace), "--json", "--shot-rate", "5", "--setup-seconds", "3").stdout)
    assert answer["resource"]["busy_seconds"] - answer["resource"]["setup_seconds"] == 6
    assert answer["resource"]["setup_seconds"] >= 6


def test_a_generated_load_is_the_same_for_the_same_seed_and_can_be_kept(qpud: Any, tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    make = ("simulate", "--json", "--generate", "hybrid", "--seed", "7", "--number", "5")
    generated = qpud(*make, "--write-trace", str(kept)).stdout
    assert qpud(*make).stdout == qpud("simulate", "--json", str(kept)).stdout == generated


def test_the_policy_file_decides(qpud: Any, trace: Path, tmp_path: Path) -> None:
    (tmp_path / "q.conf").write_text("[qpud]\nSchedulerType = fifo\n[queue production]\n")
    ended = qpud("simulate", str(trace), "--config", "q.conf")
    assert ended.returncode == 1
    assert ended.stderr == "qpud: session s1 is of queue development, the policy has the queues production\n"


def test_until_stops_the_run(qpud: Any, trace: Path) -> None:
    assert json.loads(qpud("simulate", str(trace), "--json", "--until", "9").stdout)["resource"]["wall_seconds"] == 9


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "give one load: a TRACE, --from-db FILE or --generate KIND"),
        (("t.jsonl", "--generate", "hybrid"), 2, "give one load"),
        (("t.jsonl", "--seed", "3"), 2, "--seed needs --generate"),
        (("nowhere.jsonl",), 5, "there is no trace nowhere.jsonl"),
        (("--from-db", "nowhere.sqlite"), 5, "there is no database nowhere.sqlite"),
        (("t.jsonl", "--config", "nowhere.conf"), 5, "there is no policy file nowhere.conf"),
        (("t.jsonl", "--scheduler", "fast"), 1, "scheduler fast cannot be loaded"),
        (("--generate", "hybird"), 2, "did you mean hybrid?"),
        (("--generate", "poisson", "--mix", "production"), 2, "is not QUEUE:WEIGHT[:SHOTS]"),
        (("--generate", "poisson", "--number", "0"), 1, "--number 0 is not a number of sessions, 1 to 1000000"),
        (("t.jsonl", "--shot-rate", "0"), 2, "'0' is not a number above 0"),
        (("t.jsonl", "--write-trace", "/nowhere/t.jsonl"), 1, "the trace cannot be written to /nowhere/t.jsonl"),
        (
            ("t.jsonl", "--plot", "x.svg", "--worker-python", "/nowhere/python"),
            1,
            "cannot be drawn by /nowhere/python",
        ),
    ],
)
@pytest.mark.usefixtures("trace")
def test_a_mistake_gets_a_sentence(qpud: Any, arguments: tuple[str, ...], code: int, words: str) -> None:
    ended = qpud("simulate", *arguments)
    assert (ended.returncode, ended.stderr.count("\n")) == (code, 1)
    assert words in ended.stderr


@pytest.mark.worker
def test_the_plot_is_an_svg(qpud: Any, trace: Path, tmp_path: Path, worker_python: Path) -> None:
    ended = qpud("simulate", str(trace), "--plot", "x.svg", "--worker-python", str(worker_python))
    assert (ended.returncode, ended.stderr) == (0, "qpud: drew x.svg\n")
    assert "<svg" in (tmp_path / "x.svg").read_text()
