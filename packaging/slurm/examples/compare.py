"""Run the three examples on this cluster, one after the other, and print what each held of it.

    python3 compare.py [SHOTS]         in this folder, as the user who may submit; needs sbatch, squeue, qpud

A node-second is a node that a Slurm job has for a second, whether it works or waits: squeue is asked five times a
second which jobs have how many. Standard library only.
"""

import getpass
import os
import subprocess
import sys
import time
from pathlib import Path

WAYS = {"time_multiplexed": "time-multiplexed", "malleable": "malleable", "workflow": "workflow-post"}
"""The script of each way of sharing, and the name of the Slurm job that ends it."""
HOLDING = ("RUNNING", "COMPLETING", "CONFIGURING")
UNFINISHED = (*HOLDING, "PENDING", "SUSPENDED")
PAUSE_SECONDS = 0.2
PATIENCE_SECONDS = 3600.0


def jobs(first):
    """This user's Slurm jobs from the first on: (id, name, nodes, state)."""
    form = ["squeue", "--noheader", "--states=all", f"--user={getpass.getuser()}", "--format=%A|%D|%T|%j"]
    listed = subprocess.run(form, check=True, capture_output=True, text=True).stdout
    rows = [line.split("|", 3) for line in listed.splitlines()]
    return [(int(row[0]), row[3], int(row[1]), row[2]) for row in rows if int(row[0]) >= first]


def run(script, last_name):
    """Submit one of the scripts and watch it to its end: node-seconds, seconds in all, what it printed."""
    began = seen = time.monotonic()
    first = int(subprocess.run(["sbatch", "--parsable", f"{script}.sh"], check=True, capture_output=True).stdout)
    held = 0.0
    while seen - began < PATIENCE_SECONDS:
        time.sleep(PAUSE_SECONDS)
        found, now = jobs(first), time.monotonic()
        held += (now - seen) * sum(nodes for _, _, nodes, state in found if state in HOLDING)
        seen = now
        if all(state not in UNFINISHED for *_, state in found):
            break
    ends = [job for job, name, _, _ in found if name == last_name]
    printed = Path(f"slurm-{ends[-1]}.out").read_text() if ends else ""
    return (
        held,
        seen - began,
        next((line for line in printed.splitlines() if line.startswith("pattern ")), "no result"),
    )


def main():
    """Print a line for each way."""
    if len(sys.argv) > 1:
        os.environ["SHOTS"] = sys.argv[1]
    print(f"{'':16}  node-seconds  seconds in all  result")
    for script, last_name in WAYS.items():
        held, seconds, result = run(script, last_name)
        print(f"{script:16}  {held:12.1f}  {seconds:14.1f}  {result}", flush=True)


if __name__ == "__main__":
    main()
