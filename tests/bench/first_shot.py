"""From `sbatch` to the first shot, split by layer: real Slurm, the hooks, the daemon of the zipapp, a simulated QPU.

    PYTHONPATH=. .venv/dev/bin/python tests/bench/first_shot.py [JOBS]

Needs root, Slurm with its headers, gcc, munge and the zipapp (`make pyz`): without them it says so. No limits: Slurm's
own part depends on the site. One job after the other, each of one shot, by an ordinary user.
"""

from __future__ import annotations

import os
import re
import sqlite3
import statistics
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.site.hooked import Hooked, running_hooked

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(os.environ.get("QPUD_WORKER_PYTHON", ROOT / ".venv" / "worker" / "bin" / "python"))
JOBS = 20
LAYERS = (
    ("sbatch", "sbatch returns: spank plugin, job_submit.lua"),
    ("prolog", "Slurm starts the job, its node the Prolog"),
    ("session", "Prolog: qpud slurm open; Slurm vouches, the session is stored"),
    ("laid", "Prolog: token and environment laid, back to slurmd"),
    ("task", "slurmstepd starts the TaskProlog"),
    ("script", "TaskProlog; the script's first line"),
    ("accepted", "script: qpud submit; the sequence is checked and stored"),
    ("slice", "the scheduler's slice is on the QPU"),
    ("shot", "the first shot is done and stored"),
    ("result", "the script has the result (after the first shot)"),
)
STAMP = re.compile(r"^(\w+) ([0-9]+\.[0-9]+)$", re.MULTILINE)
# Slurm gives hooks no PATH. The times are the user's, so that both hooks and the script may write them.
STAMPED = """\
#!/bin/sh
times={folder}/out/times.$SLURM_JOB_ID
stamp() {{
    echo "$1 $(/bin/date +%s.%N)" >>$times
    /bin/chmod 0666 $times 2>/dev/null
}}
{before}
"${{0%/*}}/{name}.real"
{after}
exit 0
"""


def main(jobs: int) -> int:
    """Measure and print."""
    pyz = sorted((ROOT / "dist").glob("qpud-*.pyz"))
    if not pyz or not WORKER.exists():
        print("first_shot: needs the zipapp and the worker's interpreter: make pyz setup")
        return 1
    try:
        with running_hooked(pyz[0], WORKER) as hooked, stamped(hooked):
            measure(hooked)  # the user unpacks the zipapp once
            spans = [measure(hooked) for _ in range(jobs)]
    except pytest.skip.Exception as missing:
        print(f"first_shot: not measured here: {missing}")
        return 1
    report(spans)
    return 0


def stamped(hooked: Hooked) -> ExitStack:
    """Prolog and TaskProlog that write when they begin and end, for a while."""
    stack = ExitStack()
    for name, before, after in (("prolog.sh", "stamp prolog", "stamp laid"), ("task_prolog.sh", "stamp task", "")):
        path = hooked.folder / "hooks" / name
        real = path.with_name(f"{name}.real")
        real.write_text(path.read_text())
        real.chmod(0o755)
        text = STAMPED.format(folder=hooked.folder, before=before, name=name, after=after)
        stack.enter_context(hooked.replaced(f"hooks/{name}", text))
    return stack


def measure(hooked: Hooked) -> dict[str, float]:
    """Seconds of each layer of one job."""
    script = "\n".join(["date '+script %s.%N'", f"{hooked.submitting(1)} >/dev/null", "date '+result %s.%N'"])
    began = time.time()
    job = hooked.cluster.submit(script, "--qpu=FRESNEL", "-p", "production")
    found = {"sbatch": time.time()}
    hooked.cluster.wait(job, "COMPLETED", seconds=120)
    lines = (hooked.folder / "out" / f"times.{job}").read_text() + hooked.cluster.output(job)
    found |= {name: float(moment) for name, moment in STAMP.findall(lines)}
    assert set(found) == {"sbatch", "prolog", "laid", "task", "script", "result"}, lines
    found |= stored(hooked, job)
    moments = [began, *(found[name] for name, _ in LAYERS)]
    return {name: after - before for (name, _), before, after in zip(LAYERS, moments, moments[1:], strict=False)}


def stored(hooked: Hooked, job: int) -> dict[str, float]:
    """What the daemon wrote down."""
    query = (
        "SELECT opened_at, submitted_at, slices.started_at, slices.ended_at FROM sessions"
        " JOIN jobs ON session_id = sessions.id JOIN slices ON job_id = jobs.id WHERE slurm_job_id = ?"
    )
    path = hooked.site.folder / "state" / "state.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        row = database.execute(query, (str(job),)).fetchone()
    return dict(zip(("session", "accepted", "slice", "shot"), row, strict=True))


def report(spans: list[dict[str, float]]) -> None:
    """Print the table: medians, and the slowest of each."""
    load = os.getloadavg()[0]
    print(f"{len(spans)} jobs of one shot, one after the other; load {load:.1f} on {os.cpu_count()} CPUs\n")
    print(f"{'median ms':>10} {'most ms':>8}  until")
    for name, words in LAYERS:
        values = [1000 * one[name] for one in spans]
        print(f"{statistics.median(values):10.1f} {max(values):8.1f}  {words}")
    totals = [1000 * sum(one[name] for name, _ in LAYERS[:-1]) for one in spans]
    print(f"{statistics.median(totals):10.1f} {max(totals):8.1f}  from sbatch to the first shot")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else JOBS))
