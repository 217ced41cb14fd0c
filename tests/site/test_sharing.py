"""Users of three partitions share a QPU by `sbatch --qpu`: who goes first, and who gets how much of it."""

from __future__ import annotations

import pytest

from tests.site.cluster import STRANGER, USER, until
from tests.site.hooked import Hooked

pytestmark = [pytest.mark.slurm, pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]
OPERATOR = "man"
"""A third ordinary user."""
QPU = "--qpu=ORION"
SLOW_SECONDS = 120.0


def test_production_overtakes_test_and_development_on_the_qpu(hooked: Hooked) -> None:
    cluster = hooked.cluster
    low = cluster.submit(hooked.submitting(400), QPU, "-p", "development", user=USER)
    until(lambda: len(hooked.slices(low)) > 0, "the first slice of development")
    middle = cluster.submit(hooked.submitting(120), QPU, "-p", "test", user=STRANGER)
    high = cluster.submit(hooked.submitting(60), QPU, "-p", "production", user=OPERATOR)
    for job in (high, middle, low):
        cluster.wait(job, "COMPLETED", seconds=SLOW_SECONDS)
    found = hooked.slices(low, middle, high)
    assert {(one.user, one.queue) for one in found} == {
        (USER, "development"),
        (STRANGER, "test"),
        (OPERATOR, "production"),
    }
    for job, below in ((high, {"test", "development"}), (middle, {"development"})):
        accepted, ended = hooked.times(job)
        assert not [one for one in found if accepted < one.started_at < ended and one.queue in below]
    assert [hooked.times(job)[1] for job in (high, middle, low)] == sorted(
        hooked.times(job)[1] for job in (high, middle, low)
    )
    assert sum(one.shots for one in found) == 580


def test_three_and_seven_units_get_three_and_seven_tenths_within_a_slice(hooked: Hooked) -> None:
    cluster = hooked.cluster
    three = cluster.submit(hooked.submitting(400), QPU, "-p", "development", "-L", "qpu:3", user=USER)
    seven = cluster.submit(hooked.submitting(400), QPU, "-p", "development", "--qpu-share=7", user=STRANGER)
    assert {hooked.open_sessions(job)[0]["share"]: job for job in (three, seven)} == {3: three, 7: seven}
    for job in (three, seven):
        cluster.wait(job, "COMPLETED", seconds=SLOW_SECONDS)
    found = hooked.slices(three, seven)
    both_came = max(hooked.times(job)[0] for job in (three, seven))
    one_ended = min(hooked.times(job)[1] for job in (three, seven))
    shared = [one for one in found if both_came < one.started_at < one_ended]
    longest = max(one.shots for one in found)
    total = sum(one.shots for one in shared)
    of_three = sum(one.shots for one in shared if one.user == USER)
    assert len(shared) >= 10
    assert abs(of_three - 0.3 * total) <= longest, (of_three, total, longest)
