"""Forecasts for those who ask now: a prospect of each resource, kept while it is good, and what was promised.

A prospect costs microseconds for each session with work; a forecast from it costs some ten. So it is made anew only
when it is old, or the queue has changed much and its own cost allows it. Thousands of submissions a second share one.
"""

from __future__ import annotations

from typing import NamedTuple

from qpud.core.book import Book
from qpud.core.explain import sentence
from qpud.core.forecast import Prospect
from qpud.core.job import Job, JobState
from qpud.core.verbs import Forecast

LARGEST_AGE_SECONDS = 1.0
"""A prospect is not older than this, unless its cost forbids a new one."""
SECONDS_PER_CONTENDER = 2.5e-4
"""Least age of a prospect per session, user or account with work. Each costs 5 µs, so that this is 2 % of the time."""
_LEAST_AGE_SECONDS = 0.0025  # a short queue grows by a tenth with each job
_MOST_GIVEN = 4096


class Outcome(NamedTuple):
    """What became of a forecast given at submission."""

    error_seconds: float  # of the typical start, absolute
    is_kept: bool  # it did not start later than at the latest


class Forecaster:
    """The forecasts of one daemon.

    Args:
        book: Everything unfinished.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._prospects: dict[str, Prospect] = {}
        self._given: dict[int, Forecast] = {}  # for the answers that are being written

    def of(self, job: Job, now: float) -> Forecast | None:
        """The forecast of a job; None once it has ended.

        Args:
            job: As it is now.
            now: Seconds since the epoch.
        """
        book = self._book
        if job.id not in book.jobs:
            return None
        if job.resource not in book.flights:
            return Forecast(None, None, None, None, sentence(job, book, book.policy, now).removeprefix("waits: "))
        return self._prospect(job.resource, now).of(job)

    def in_order(self, resource: str, jobs: list[Job], now: float) -> list[Forecast | None]:
        """The forecasts of the first jobs of a resource's queue, or of all, as the order gives them."""
        if resource not in self._book.flights:
            return [self.of(job, now) for job in jobs]
        return list(self._prospect(resource, now).in_order(jobs))

    def promise(self, job: Job, now: float) -> None:
        """Remember the forecast of a job that was just submitted, until it starts, ends or is held."""
        if job.id not in self._book.jobs or job.resource not in self._book.flights:
            return
        forecast = self._prospect(job.resource, now).of_newest(job)
        if forecast.start is None:
            return
        self._book.promises[job.id] = (forecast.start, forecast.start_latest)
        if len(self._given) >= _MOST_GIVEN:
            self._given.clear()
        self._given[job.id] = forecast

    def at_submission(self, job: Job, now: float) -> Forecast | None:
        """What was foreseen of a job that was just submitted, if it is still known; else the forecast of now."""
        return self._given.pop(job.id, None) or self.of(job, now)

    def outcome(self, job: Job, now: float) -> Outcome | None:
        """How good the promise was of a job that starts now for the first time; None if there was none."""
        promised = self._book.promises.pop(job.id, None)
        if job.state is not JobState.PENDING or promised is None:
            return None
        start, latest = promised
        return Outcome(abs(now - start), latest is None or now <= latest)

    def _prospect(self, resource: str, now: float) -> Prospect:
        known = self._prospects.get(resource)
        if known is None or not self._is_good(known, resource, now):
            known = self._prospects[resource] = Prospect(self._book, resource, now)
        return known

    def _is_good(self, known: Prospect, resource: str, now: float) -> bool:
        if known.order is not self._book.pending[resource] or now < known.at:
            return False  # the policy was reloaded, or the clock set back
        age, least = now - known.at, SECONDS_PER_CONTENDER * known.contenders
        if age >= least and known.has_moved_on():
            return False  # at most once a boundary
        if age >= least + _LEAST_AGE_SECONDS and known.is_outgrown():
            return False
        return age < max(least, LARGEST_AGE_SECONDS)
