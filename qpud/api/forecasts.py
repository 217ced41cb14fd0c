"""Forecasts on the wire: a field of native jobs and queue lines, headers of submissions.

Released clients read no header that they do not know.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import to_builtins

from qpud.api import job_wire
from qpud.api.wire_terms import moment
from qpud.core.verbs import Forecast

START, START_LATEST = "QPUD-Forecast-Start", "QPUD-Forecast-Start-Latest"
END, END_LATEST = "QPUD-Forecast-End", "QPUD-Forecast-End-Latest"
HEADERS = {
    START: "When the job is expected to start, RFC 3339; of a batch: its first job. Left out if nobody knows.",
    START_LATEST: "It starts no later in nine of ten cases.",
    END: "When the job is expected to end; of a batch: its last job.",
    END_LATEST: "It ends no later in nine of ten cases.",
}


def view(forecast: Forecast | None) -> job_wire.ForecastView | None:
    """A forecast as native clients see it; None for a job that has ended."""
    if forecast is None:
        return None
    return job_wire.ForecastView(
        start=moment(forecast.start),
        start_latest=moment(forecast.start_latest),
        end=moment(forecast.end),
        end_latest=moment(forecast.end_latest),
        reason=forecast.reason,
    )


def headers(forecasts: Sequence[Forecast | None]) -> dict[str, str]:
    """The headers of a submission's answer: of one job, or of a batch from its first start to its last end."""
    known = [one for one in forecasts if one is not None]
    times = _batch(known) if len(known) != 1 else _one(known[0])
    return {name: to_builtins(moment(at)) for name, at in times.items() if at is not None}


def _one(forecast: Forecast) -> dict[str, float | None]:
    return {
        START: forecast.start,
        START_LATEST: forecast.start_latest,
        END: forecast.end,
        END_LATEST: forecast.end_latest,
    }


def _batch(known: list[Forecast]) -> dict[str, float | None]:
    return {
        START: min((one.start for one in known if one.start is not None), default=None),
        START_LATEST: min((one.start_latest for one in known if one.start_latest is not None), default=None),
        END: max((one.end for one in known if one.end is not None), default=None),
        END_LATEST: max((one.end_latest for one in known if one.end_latest is not None), default=None),
    }
