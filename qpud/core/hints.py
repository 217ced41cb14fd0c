"""What is measured of a session against its hint: a hint never entitles, and a wrong one is told."""

from __future__ import annotations

from qpud.core.session import Hint, Session

ENOUGH_JOBS = 5
"""Ended jobs before anything is said."""
LARGE_FACTOR = 3.0
"""An expected time that is off by more is told."""
_FITTING = {Hint.QC_HEAVY: (0.3, 1.0), Hint.CC_HEAVY: (0.0, 0.5), Hint.QC_BALANCED: (0.1, 0.9)}
"""Hint → the parts of a session's time on the QPU, 0 to 1, for which it fits."""


class Watch:
    """What one session did: seconds on the QPU, and classical seconds between its jobs, waiting excluded.

    Attributes:
        told: Whether its owner was told that the hint is wrong; it is said once.
    """

    __slots__ = ("_gaps", "_idle_since", "classical_seconds", "jobs", "qpu_seconds", "told")

    def __init__(self) -> None:
        self.jobs = 0
        self.qpu_seconds = 0.0
        self.classical_seconds = 0.0
        self.told = False
        self._gaps = 0
        self._idle_since: float | None = None

    def submitted(self, now: float) -> None:
        """A job was submitted: a classical phase, if there was one, is over."""
        if self._idle_since is not None:
            self.classical_seconds += max(0.0, now - self._idle_since)
            self._gaps += 1
            self._idle_since = None

    def charged(self, qpu_seconds: float) -> None:
        """A slice of it ended."""
        self.qpu_seconds += qpu_seconds

    def ended(self, now: float, is_last: bool) -> None:
        """A job of it ended; `is_last`: it has no other unfinished one."""
        self.jobs += 1
        if is_last:
            self._idle_since = now

    @property
    def seconds_between(self) -> float:
        """Mean classical seconds between two jobs; 0 while none is known."""
        return self.classical_seconds / self._gaps if self._gaps else 0.0


def doubt(session: Session, seen: Watch) -> str:
    """The sentence for the owner of a hint that does not fit; empty if it does, or nobody knows yet."""
    if seen.told or seen.jobs < ENOUGH_JOBS or not seen.qpu_seconds + seen.classical_seconds:
        return ""
    return _about_hint(session, seen) or _about_times(session, seen)


def _about_hint(session: Session, seen: Watch) -> str:
    if session.hint not in _FITTING:
        return ""
    part = seen.qpu_seconds / (seen.qpu_seconds + seen.classical_seconds)
    least, most = _FITTING[session.hint]
    if least <= part <= most:
        return ""
    better = next(hint for hint, (low, high) in reversed(_FITTING.items()) if low <= part <= high)
    return (
        f"hint {session.hint} does not fit: over {seen.jobs} jobs {100 * part:.0f} % of the time was on the QPU "
        f"({seen.qpu_seconds:.0f} s of {seen.qpu_seconds + seen.classical_seconds:.0f} s); {better} would"
    )


def _about_times(session: Session, seen: Watch) -> str:
    expected, found = session.expected_classical_seconds, seen.seconds_between
    if expected and found and not expected / LARGE_FACTOR <= found <= expected * LARGE_FACTOR:
        return f"{expected:g} classical seconds were expected between two jobs, {found:.1f} are measured"
    if session.expected_qpu_seconds and seen.qpu_seconds > LARGE_FACTOR * session.expected_qpu_seconds:
        used, wanted = f"{seen.qpu_seconds:.0f}", f"{session.expected_qpu_seconds:g}"
        return f"{wanted} QPU seconds were expected of the session, it used {used}"
    return ""
