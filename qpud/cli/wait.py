"""Waiting for a job: the daemon holds each request, so a wait costs next to nothing."""

from __future__ import annotations

import sys
import time
from typing import Any

from qpud.cli.client import Client, segment
from qpud.cli.connect import persistently
from qpud.cli.output import Progress
from qpud.cli.reasons import explain

HOLD_SECONDS = 20.0
LIVE_SECONDS = 1.0  # a request is held until the state changes; shots move in between
PACE_SECONDS = 0.05  # a daemon that stops answers held requests at once; do not hurry it
TERMINAL = ("DONE", "CANCELED", "ERROR")


def wait_for(client: Client, job: int | str, timeout: float | None = None) -> dict[str, Any]:
    """Wait until a job has ended, with a progress line on standard error; survives a restart of the daemon.

    Args:
        client: The daemon.
        job: Id or uid.
        timeout: Seconds to wait at most; None means for ever.

    Returns:
        The job as it is then; not ended if the timeout passed.
    """
    progress = Progress()
    started = time.monotonic()
    try:
        found = persistently(lambda: _look(client, job, 0.0), "waiting")
        while found["state"] not in TERMINAL:
            spent = time.monotonic() - started
            progress.update(progress_line(found))
            hold = _hold(timeout, spent)
            if hold <= 0:
                break
            found = _look_held(client, job, hold)
    finally:
        progress.clear()
    return found


def _look(client: Client, job: int | str, hold: float) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/jobs/{segment(str(job))}", wait=hold)
    return found


def _look_held(client: Client, job: int | str, hold: float) -> dict[str, Any]:
    began = time.monotonic()
    found = persistently(lambda: _look(client, job, hold), "waiting")
    if time.monotonic() - began < PACE_SECONDS:
        time.sleep(PACE_SECONDS)
    return found


def _hold(timeout: float | None, spent: float) -> float:
    hold = LIVE_SECONDS if sys.stderr.isatty() else HOLD_SECONDS
    return hold if timeout is None else min(hold, timeout - spent)


def progress_line(job: dict[str, Any]) -> str:
    """How far a job has come, in one line."""
    reason = job.get("reason")
    why = f": {explain(reason)}" if reason else ""
    return f"job {job['id']} {job['state']} {job['shots_done']}/{job['shots']} shots{why}"
