"""What `make run` prints: the timeline, why each job waited, where to look next."""

from __future__ import annotations

import os
import sys
import textwrap
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

WIDTH = 46  # columns of the timeline, so that a line fits into 80
COLOURS = {"production": "\033[33m", "development": "\033[36m"}
PLAIN = "\033[0m"

SERVING = """\
$ qpud serve --dev --speed-up {speed_up} &
  serves FRESNEL, a simulated QPU, at {speed_up} times its real speed
  {url}"""

RUNNING = "$ qpud run --qpu=FRESNEL --queue=development -- python afm.py"

SUBMITTED = """\
  is job {development}, and has its first shots
$ qpud submit production.json --shots=200 --qpu=FRESNEL --queue=production
  is job {production}, of a queue with a higher tier
"""

COUNTS = "Antiferromagnetic order on 3 × 3 atoms, as afm.py prints it\n"

END = """
Where to look next
  qpud={qpud}
  $qpud serve --dev --worker-python {worker} &
                                                a daemon of your own
  $qpud run --qpu=EMU_MPS -- python script.py   your script, on the emulators
  $qpud info; $qpud queue; $qpud logs JOB       what it serves and does
  curl --unix-socket PATH http://qpud/v1/info   the socket that serve prints
  curl http://127.0.0.1:PORT/openapi.json       its address; also /metrics
  sdk_shims/pulser/afm.py                       the script above
  README.md                                     first steps, and a site"""


class Run(NamedTuple):
    """A job that ended: the answers of `qpud result --json` and of `qpud logs --json`."""

    result: dict[str, Any]
    lines: list[dict[str, str]]

    @property
    def queue(self) -> str:
        """Its class of service."""
        return str(self.result["job"]["queue"])

    @property
    def spans(self) -> list[tuple[float, float]]:
        """Start and end of each slice, in seconds since the epoch."""
        return [(seconds(one["started_at"]), seconds(one["ended_at"])) for one in self.result["slices"]]


def seconds(moment: str) -> float:
    """A wire time in seconds since the epoch."""
    return datetime.fromisoformat(moment).timestamp()


def overtaken(development: Run, production: Run) -> bool:
    """Whether production ran as a whole between two slices of development, though submitted after its start."""
    began, ended = production.spans[0][0], production.spans[-1][1]
    before = [span for span in development.spans if span[1] <= began]
    after = [span for span in development.spans if span[0] >= ended]
    return bool(before) and bool(after) and len(before) + len(after) == len(development.spans)


def tell(text: str, **values: object) -> None:
    """Print one of the texts above at once."""
    print(text.format(**values), flush=True)


def tell_end(jobs: list[Run], qpud: Path, worker: Path) -> None:
    """Print the timeline of the jobs, why each waited, and where to look next."""
    began = min(seconds(run.result["job"]["submitted_at"]) for run in jobs)
    ended = max(run.spans[-1][1] for run in jobs)
    print(f"Timeline of FRESNEL, {ended - began:.1f} s:  █ a slice of shots  ░ waiting")
    for run in jobs:
        print(f"  {label(run):<29} {coloured(bar(run, began, ended), run.queue)}")
    print("\nWhy each waited")
    for run in jobs:
        print(f"  job {run.result['job']['id']}, {run.queue}")
        print("\n".join(story_of(run)))
    tell(END, qpud=os.path.relpath(qpud), worker=os.path.relpath(worker))


def label(run: Run) -> str:
    """The job's queue, number and shots."""
    job = run.result["job"]
    return f"{run.queue}, job {job['id']}, {job['shots']} shots"


def bar(run: Run, began: float, ended: float) -> str:
    """One character per piece of the whole time: what the job did in most of it."""
    step = (ended - began) / WIDTH
    submitted, last = seconds(run.result["job"]["submitted_at"]), run.spans[-1][1]
    return "".join(cell(run, submitted, last, began + (column + 0.5) * step) for column in range(WIDTH)).rstrip()


def cell(run: Run, submitted: float, last: float, now: float) -> str:
    """What the job did at a time; the milliseconds between two slices of its own do not show."""
    if not submitted <= now <= last:
        return " "
    return "█" if any(start - 0.02 <= now <= end + 0.02 for start, end in run.spans) else "░"


def coloured(text: str, queue: str) -> str:
    """The text in the colour of its queue, if somebody looks."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"{COLOURS[queue]}{text}{PLAIN}"


def story_of(run: Run) -> list[str]:
    """The job's log without the line of each slice: what it waited for and what overtook it."""
    start = seconds(run.lines[0]["at"])
    told = [line for line in run.lines if not line["text"].startswith("slice ")]
    return [entry(f"    {seconds(line['at']) - start:4.1f} s  ", line["text"]) for line in told]


def entry(head: str, text: str) -> str:
    """One line of a log, folded at 80 columns."""
    return textwrap.fill(text, 80, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)
