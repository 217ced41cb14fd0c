"""Prometheus metrics: every series of qpud in one file (skeleton: the interface the scheduler and api call)."""

from __future__ import annotations


class Metrics:
    """All series, on a registry of their own. Labels are resource, queue, state and other bounded words only."""

    def __init__(self, resources: tuple[str, ...], queues: tuple[str, ...]) -> None: ...

    def job_submitted(self, resource: str, queue: str) -> None:
        """Count an accepted job."""

    def job_started(self, resource: str, queue: str, waited_seconds: float) -> None:
        """Count the first slice of a job and its wait since submission."""

    def job_ended(self, resource: str, queue: str, state: str) -> None:
        """Count a job that became DONE, CANCELED or ERROR."""

    def slice_ended(
        self, resource: str, queue: str, state: str, shots: int, qpu_seconds: float, setup_seconds: float
    ) -> None:
        """Count an ended slice with the shots obtained and the QPU seconds charged (set-up included)."""

    def preempted(self, resource: str, queue: str) -> None:
        """Count a job of `queue` that yielded to a higher tier."""

    def gap(self, resource: str, seconds: float) -> None:
        """Observe the idle wall time between the end of a slice and the next start while work was waiting."""

    def driver_error(self, resource: str, kind: str) -> None:
        """Count a driver fault; kind is unreachable, refused, failed or spec."""

    def resource_state(self, resource: str, state: str) -> None:
        """Set the state of a resource: up, down, unreachable or drained (one of them is 1)."""

    def depth(self, resource: str, queue: str, state: str, jobs: int) -> None:
        """Set the number of unfinished jobs in state PENDING or RUNNING."""

    def sessions(self, active: int) -> None:
        """Set the number of open sessions."""

    def validation(self, verdict: str, seconds: float) -> None:
        """Count a validation: ok, invalid, cached, deferred or fault; observe its time unless cached."""

    def commit(self, operations: int, seconds: float) -> None:
        """Observe one group commit: how many operations shared it and how long it took."""

    def http(self, route: str, method: str, code: int, seconds: float) -> None:
        """Observe one HTTP answer; route is the template, never the raw path."""

    def render(self) -> bytes:
        """The text exposition format, for GET /metrics."""
        return b""
