"""What Slurm should show, and the steps to it."""

import msgspec
import pytest

from qpud.core.policy import Policy, default_policy
from qpud.core.resource import ResourcePolicy
from qpud.core.slurmmarks import (
    BETTER_AFTER_SECONDS,
    WORSE_AFTER_SECONDS,
    Condition,
    Kind,
    Mark,
    Steadiness,
    Step,
    Verb,
    concerns_slurm,
    steps,
    wanted,
)
from qpud.core.terms import DriverKind

RESERVED, CLOSED = Mark(Kind.RESERVATION, "qpud_QPU"), Mark(Kind.PARTITION, "quantum")
WELL, OUT, UNKNOWN = Condition(is_out=False), Condition(is_out=True), Condition(is_out=None)


def a_policy(*resources: ResourcePolicy) -> Policy:
    return msgspec.structs.replace(default_policy(), resources={one.name: one for one in resources})


def a_resource(name: str = "QPU", licenses: tuple[str, ...] = (), partitions: tuple[str, ...] = ()) -> ResourcePolicy:
    return ResourcePolicy(name=name, driver=DriverKind.SIMULATED, slurm_licenses=licenses, slurm_partitions=partitions)


QPU = a_policy(a_resource(licenses=("qpu:10",), partitions=("quantum",)))


def taken(
    condition: Condition, shown: dict[str, str], partition: str = "UP", own: tuple[Mark, ...] = ()
) -> list[Step]:
    return steps(wanted(QPU, {"QPU": condition}), shown, {"quantum": partition}, own)


def test_a_resource_that_is_well_shows_nothing() -> None:
    assert taken(WELL, {}) == []


def test_one_that_is_out_takes_its_licences_and_its_partition() -> None:
    assert taken(OUT, {}) == [Step(Verb.RESERVE, RESERVED, "qpu:10"), Step(Verb.CLOSE, CLOSED)]
    assert taken(OUT, {"qpud_QPU": "qpu:10"}, "DOWN", (RESERVED, CLOSED)) == []


def test_a_reservation_of_other_licences_is_changed() -> None:
    assert taken(OUT, {"qpud_QPU": "qpu:4"}, "DOWN", (RESERVED, CLOSED)) == [Step(Verb.CHANGE, RESERVED, "qpu:10")]


def test_what_qpud_made_is_given_back_and_what_is_gone_is_forgotten() -> None:
    own = (RESERVED, CLOSED)
    back = [Step(Verb.OPEN, CLOSED), Step(Verb.UNRESERVE, RESERVED)]
    assert taken(WELL, {"qpud_QPU": "qpu:10"}, "DOWN", own) == back
    assert taken(WELL, {}, "UP", own) == [Step(Verb.FORGET, CLOSED), Step(Verb.FORGET, RESERVED)]


def test_what_others_made_is_left() -> None:
    assert taken(WELL, {"qpud_QPU": "qpu:1", "other": "qpu:1"}, "DOWN") == []
    assert taken(OUT, {"qpud_QPU": "qpu:1"}, "DOWN") == [Step(Verb.LEAVE, RESERVED)]
    assert taken(OUT, {"qpud_QPU": "qpu:1"}, "DRAIN", (RESERVED,)) == [Step(Verb.CHANGE, RESERVED, "qpu:10")]


def test_before_a_resource_was_heard_of_everything_stays() -> None:
    assert taken(UNKNOWN, {"qpud_QPU": "qpu:10"}, "DOWN", (RESERVED, CLOSED)) == []
    assert taken(UNKNOWN, {}) == []


@pytest.mark.parametrize(
    ("licenses", "units", "text"),
    [
        (("qpu:10",), 3, "qpu:3"),
        (("qpu:4",), 3, "qpu:2"),  # rounded up: a degraded QPU shall not be promised
        (("qpu:1",), 1, "qpu:1"),
        (("qpu:10", "laser@site:5"), 5, "qpu:5,laser@site:3"),
    ],
)
def test_units_are_a_part_of_all_licences(licenses: tuple[str, ...], units: int, text: str) -> None:
    policy = a_policy(a_resource(licenses=licenses, partitions=("quantum",)))
    want = wanted(policy, {"QPU": Condition(is_out=False, units_out=units)})
    assert (want.reservations, want.partitions) == ({"qpud_QPU": text}, frozenset())


def test_a_partition_is_closed_while_all_that_list_it_are_out() -> None:
    policy = a_policy(a_resource("A", partitions=("quantum",)), a_resource("B", partitions=("quantum",)))
    for a, b, closed, undecided in (
        (OUT, WELL, set(), set()),
        (OUT, OUT, {"quantum"}, set()),
        (OUT, UNKNOWN, set(), {CLOSED}),
        (WELL, UNKNOWN, set(), set()),
    ):
        want = wanted(policy, {"A": a, "B": b})
        assert (want.partitions, want.undecided) == (closed, undecided)


def test_a_resource_without_keys_does_not_concern_slurm() -> None:
    assert concerns_slurm(QPU) and not concerns_slurm(a_policy(a_resource()))
    assert wanted(a_policy(a_resource()), {"QPU": UNKNOWN}).undecided == frozenset()


def test_a_silent_resource_is_told_late_and_a_recovered_one_later() -> None:
    steady = Steadiness()
    steady.observe(True, 0.0)
    assert (steady.is_well, steady.seconds_to_change(0.0)) == (True, None)
    steady.observe(False, 10.0)
    assert (steady.is_well, steady.seconds_to_change(11.0)) == (True, WORSE_AFTER_SECONDS - 1.0)
    steady.observe(False, 10.0 + WORSE_AFTER_SECONDS)
    assert steady.is_well is False
    steady.observe(True, 20.0)
    steady.observe(True, 19.9 + BETTER_AFTER_SECONDS)
    assert steady.is_well is False
    steady.observe(True, 20.0 + BETTER_AFTER_SECONDS)
    assert steady.is_well is True


def test_a_flapping_resource_is_told_neither_way() -> None:
    steady = Steadiness()
    for at in range(0, 100, 2):
        steady.observe(at % 4 == 0, float(at))
    assert steady.is_well is True


def test_at_the_start_a_silent_resource_is_not_known_to_be_out() -> None:
    steady = Steadiness()
    steady.observe(False, 0.0)
    assert steady.is_well is None
    steady.observe(False, WORSE_AFTER_SECONDS)
    assert steady.is_well is False
