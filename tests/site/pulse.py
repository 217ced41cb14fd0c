"""The clock of look-ups in Slurm, as tests have it."""

from __future__ import annotations

import time


class Pulse:
    """A monotonic clock that tests may move forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead
