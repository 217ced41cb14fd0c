"""Prometheus metrics: every series of qpud in one file, on a registry of their own.

Labels are resource, queue, state and other bounded words; never a user, job or raw path. Every series of a
configured resource and queue exists at 0 from the start, so that rates and alerts see the first event.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from qpud import __version__
from qpud.core.slurm import ACTIONS, ANSWERS, OUTCOMES

ENDED_STATES = ("DONE", "CANCELED", "ERROR")
SLICE_STATES = ("DONE", "CANCELED", "FAILED")
UNFINISHED_STATES = ("PENDING", "RUNNING")
RESOURCE_STATES = ("up", "down", "unreachable", "drained")
DRIVER_ERRORS = ("unreachable", "refused", "failed", "spec")
VERDICTS = ("ok", "invalid", "cached", "deferred", "fault")
YES_OR_NO = ("yes", "no")
CODE_CLASSES = ("2xx", "4xx", "5xx")

WAIT_BUCKETS = (0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 86400.0)
FORECAST_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 86400.0)
GAP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0)
VALIDATION_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)
COMMIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
OPERATIONS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
SLURM_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
HTTP_BUCKETS = (0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 5.0)


class Metrics:
    """All series.

    Args:
        resources: Names of the configured resources.
        queues: Names of the configured queues.
    """

    def __init__(self, resources: tuple[str, ...], queues: tuple[str, ...]) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._bound_submitted: dict[tuple[str, str], Counter] = {}
        self._bound_validations: dict[str, Counter] = {}
        self._http: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}  # labels() costs more than inc()
        self._read_depths: Callable[[], Mapping[tuple[str, str, str], int]] = dict
        self._make_build_info()
        self._make_jobs()
        self._make_forecasts()
        self._make_slices()
        self._make_resources()
        self._make_daemon()
        self._make_slurm()
        self.cover(resources, queues)

    def cover(self, resources: Sequence[str], queues: Sequence[str]) -> None:
        """Create the series of these resources and queues at 0; call it again after a reload."""
        for resource, queue in product(resources, queues):
            for family in self._by_queue():
                family.labels(resource, queue)
            _each(self._ended, (resource, queue), ENDED_STATES)
            _each(self._forecasts, (resource, queue), YES_OR_NO)
            _each(self._slices, (resource, queue), SLICE_STATES)
            _each(self._depth, (resource, queue), UNFINISHED_STATES)
        for resource in resources:
            self._gaps.labels(resource)
            _each(self._driver_errors, (resource,), DRIVER_ERRORS)
            _each(self._resource_state, (resource,), RESOURCE_STATES)
        _each(self._validations, (), VERDICTS)

    def _by_queue(self) -> tuple[Counter | Histogram, ...]:
        """The families with the labels resource and queue, and no other."""
        slices = (self._shots, self._busy, self._setup, self._preemptions, self._wasted_shots, self._wasted)
        return (self._submitted, self._waits, self._forecast_errors, *slices)

    def _make_build_info(self) -> None:
        info = self._gauge("build_info", "Version of qpud and its interpreter.", "version", "python_version")
        info.labels(__version__, platform.python_version()).set(1)

    def _make_jobs(self) -> None:
        where = ("resource", "queue")
        self._submitted = self._counter("jobs_submitted", "Jobs accepted.", *where)
        self._ended = self._counter("jobs_ended", "Jobs that ended, by final state.", *where, "state")
        self._purged = self._counter("jobs_purged", "Ended jobs deleted because of PurgeJobAfter.")
        self._depth = self._gauge("jobs_unfinished", "Jobs that have not ended, by state.", *where, "state")
        self._waits = self._histogram(
            "job_wait_seconds", "Time from submission to the first slice.", WAIT_BUCKETS, *where
        )

    def _make_forecasts(self) -> None:
        where = ("resource", "queue")
        self._forecast_errors = self._histogram(
            "forecast_error_seconds",
            "Time between the start of a job and the start that was forecast at its submission.",
            FORECAST_BUCKETS,
            *where,
        )
        self._forecasts = self._counter(
            "forecasts", "Jobs that started, by whether it was not later than forecast as the latest.", *where, "kept"
        )

    def _make_slices(self) -> None:
        where = ("resource", "queue")
        self._slices = self._counter("slices_ended", "Slices that ended, by outcome.", *where, "state")
        self._shots = self._counter("shots", "Shots obtained.", *where)
        self._busy = self._counter("resource_busy_seconds", "Time charged to jobs, set-up included.", *where)
        self._setup = self._counter("resource_setup_seconds", "Time charged for changes of the register.", *where)
        self._preemptions = self._counter("preemptions", "Jobs that yielded to a higher tier.", *where)
        self._wasted_shots = self._counter("wasted_shots", "Shots lost in slices that were cut.", *where)
        self._wasted = self._counter("wasted_seconds", "QPU seconds of them, charged to nobody.", *where)
        self._gaps = self._histogram(
            "slice_gap_seconds", "Idle time between two slices while work was waiting.", GAP_BUCKETS, "resource"
        )

    def _make_resources(self) -> None:
        self._driver_errors = self._counter("driver_errors", "Faults of drivers, by kind.", "resource", "kind")
        self._resource_state = self._gauge(
            "resource_state", "Whether the resource is in this state (1) or not (0).", "resource", "state"
        )

    def _make_daemon(self) -> None:
        self._sessions = self._gauge("sessions_open", "Open sessions.")
        self._validations = self._counter("validations", "Validations of sequences, by verdict.", "verdict")
        self._validation_times = self._histogram(
            "validation_seconds", "Time of validations that were not answered from the cache.", VALIDATION_BUCKETS
        )
        self._commit_times = self._histogram("commit_seconds", "Time of group commits.", COMMIT_BUCKETS)
        self._commit_sizes = self._histogram(
            "commit_operations", "Operations that shared one commit.", OPERATIONS_BUCKETS
        )
        self._requests = self._counter(
            "http_requests", "HTTP requests, by route template, method and class of code.", "route", "method", "code"
        )
        self._request_times = self._histogram(
            "http_request_seconds", "Time to answer HTTP requests, without time held by ?wait=.", HTTP_BUCKETS, "route"
        )

    def _make_slurm(self) -> None:
        self._slurm_questions = self._counter("slurm_questions", "Questions to Slurm about its jobs.", "outcome")
        self._slurm_times = self._histogram("slurm_question_seconds", "Time of these questions.", SLURM_BUCKETS)
        self._slurm_away = self._gauge("slurm_away", "Whether Slurm did not answer when it was asked last (1).")
        self._slurm_actions = self._counter("slurm_actions", "What qpud told Slurm to do.", "action", "outcome")
        self._swept = self._counter("sessions_swept", "Sessions closed because Slurm said that their job is over.")
        _each(self._slurm_questions, (), ANSWERS)
        for action in ACTIONS:
            _each(self._slurm_actions, (action,), OUTCOMES)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"qpud_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"qpud_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"qpud_{name}", text, labels, registry=self.registry, buckets=buckets)

    def routes(self, routes: Iterable[tuple[str, str]]) -> None:
        """Create the series of these HTTP routes (template, method) at 0."""
        for path, method in routes:
            self._request_times.labels(path)
            _each(self._requests, (path, method), CODE_CLASSES)

    def job_submitted(self, resource: str, queue: str) -> None:
        """Count an accepted job."""
        bound = self._bound_submitted.get((resource, queue))
        if bound is None:
            bound = self._bound_submitted[(resource, queue)] = self._submitted.labels(resource, queue)
        bound.inc()

    def job_started(self, resource: str, queue: str, waited_seconds: float) -> None:
        """Count the first slice of a job and its wait since submission."""
        self._waits.labels(resource, queue).observe(waited_seconds)

    def forecast_ended(self, resource: str, queue: str, error_seconds: float, is_kept: bool) -> None:
        """Observe how far a job's start was from its forecast, and whether it was not later than at the latest."""
        self._forecast_errors.labels(resource, queue).observe(error_seconds)
        self._forecasts.labels(resource, queue, "yes" if is_kept else "no").inc()

    def job_ended(self, resource: str, queue: str, state: str) -> None:
        """Count a job that became DONE, CANCELED or ERROR."""
        self._ended.labels(resource, queue, state).inc()

    def jobs_purged(self, number: int) -> None:
        """Count jobs that were deleted because they ended long ago."""
        self._purged.inc(number)

    def slice_ended(
        self, resource: str, queue: str, state: str, shots: int, qpu_seconds: float, setup_seconds: float
    ) -> None:
        """Count an ended slice with the shots obtained and the QPU seconds charged (set-up included)."""
        self._slices.labels(resource, queue, state).inc()
        self._shots.labels(resource, queue).inc(shots)
        self._busy.labels(resource, queue).inc(qpu_seconds)
        self._setup.labels(resource, queue).inc(setup_seconds)

    def preempted(self, resource: str, queue: str) -> None:
        """Count a job of `queue` that yielded to a higher tier."""
        self._preemptions.labels(resource, queue).inc()

    def wasted(self, resource: str, queue: str, shots: int, seconds: float) -> None:
        """Count what slices of `queue` lost when they were cut; it is charged to nobody."""
        self._wasted_shots.labels(resource, queue).inc(shots)
        self._wasted.labels(resource, queue).inc(seconds)

    def gap(self, resource: str, seconds: float) -> None:
        """Observe the idle wall time between the end of a slice and the next start while work was waiting."""
        self._gaps.labels(resource).observe(seconds)

    def driver_error(self, resource: str, kind: str) -> None:
        """Count a driver fault; kind is unreachable, refused, failed or spec."""
        self._driver_errors.labels(resource, kind).inc()

    def resource_state(self, resource: str, state: str) -> None:
        """Set the state of a resource: up, down, unreachable or drained (one of them is 1)."""
        for each in RESOURCE_STATES:
            self._resource_state.labels(resource, each).set(each == state)

    def watch_depths(self, read: Callable[[], Mapping[tuple[str, str, str], int]]) -> None:
        """Take the numbers of unfinished jobs from `read` at each scrape: (resource, queue, state) → jobs."""
        self._read_depths = read

    def sessions(self, active: int) -> None:
        """Set the number of open sessions."""
        self._sessions.set(active)

    def validation(self, verdict: str, seconds: float) -> None:
        """Count a validation: ok, invalid, cached, deferred or fault; observe its time unless cached."""
        bound = self._bound_validations.get(verdict)
        if bound is None:
            bound = self._bound_validations[verdict] = self._validations.labels(verdict)
        bound.inc()
        if verdict != "cached":
            self._validation_times.observe(seconds)

    def slurm_question(self, outcome: str, seconds: float) -> None:
        """Count a question to Slurm, answered or away, and observe its time; the last one says whether it is away."""
        self._slurm_questions.labels(outcome).inc()
        self._slurm_times.observe(seconds)
        self._slurm_away.set(outcome == "away")

    def slurm_action(self, action: str, outcome: str) -> None:
        """Count what Slurm was told to do: done, refused, or away."""
        self._slurm_actions.labels(action, outcome).inc()

    def session_swept(self) -> None:
        """Count a session that the sweep closed."""
        self._swept.inc()

    def commit(self, operations: int, seconds: float) -> None:
        """Observe one group commit: how many operations shared it and how long it took."""
        self._commit_sizes.observe(operations)
        self._commit_times.observe(seconds)

    def http(self, route: str, method: str, code: int, seconds: float) -> None:
        """Observe one HTTP answer; route is the template, never the raw path."""
        key = (route, method, code // 100)
        pair = self._http.get(key)
        if pair is None:
            pair = self._http[key] = self._bind_http(*key)
        pair[0].inc()
        pair[1].observe(seconds)

    def _bind_http(self, route: str, method: str, hundreds: int) -> tuple[Counter, Histogram]:
        return self._requests.labels(route, method, f"{hundreds}xx"), self._request_times.labels(route)

    def render(self) -> bytes:
        """The text exposition format, for GET /metrics."""
        for labels, jobs in self._read_depths().items():
            self._depth.labels(*labels).set(jobs)
        return generate_latest(self.registry)


def _each(family: Counter | Gauge, labels: tuple[str, ...], words: Iterable[str]) -> None:
    for word in words:
        family.labels(*labels, word)
