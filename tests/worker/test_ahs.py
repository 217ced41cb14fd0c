"""AHS programs mean what they say: compared with their Hamiltonian, integrated by other means."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest

from qpud.drivers.base import Program
from qpud.drivers.workers import Workers
from tests.worker.programs import ahs, program
from tests.worker.schroedinger import probabilities

pytestmark = pytest.mark.worker
in_session = pytest.mark.asyncio(loop_scope="session")

SHOTS = 40_000
CLOSE = 0.02
"""Total variation distance. Perfect samples of SHOTS over 8 outcomes are 0.006 off, 0.01 once in a thousand."""

TRIANGLE = [(0.0, 0.0), (7.5, 0.0), (2.0, 12.0)]  # no symmetry, so no order of bits and no sign can hide
SWELL = [(0, 0.0), (0.2, 7.0), (0.75, 9.0), (0.75, 4.0), (1.0, 0.0)]
SWEEP = [(0, -9.0), (0.3, -4.0), (0.8, 6.0), (1.0, 6.0)]
TURN = [(0, 0.0), (0.4, 3.5), (0.7, 1.0), (1.0, 1.0)]
JUMP = [(0, 0.4), (0.5, 0.4), (0.5, 2.3), (1.0, 2.3)]
BETWEEN_TICKS = [
    [*series[:-1], (1.01, series[-1][1])] for series in (SWELL, SWEEP, TURN)
]  # AnalogDevice counts in 4 ns
WEIGHTS = ["1.00000000", "0.00000000", "0.40000000"]


def local(values: list[tuple[float, float]], pattern: Any = WEIGHTS) -> list[dict[str, Any]]:
    """A local detuning from (µs, rad/µs)."""
    times, magnitudes = zip(*values, strict=True)
    series = {"times": [f"{t * 1e-6:.8f}" for t in times], "values": [f"{v * 1e6:.8f}" for v in magnitudes]}
    return [{"magnitude": {"time_series": series, "pattern": pattern}}]


def with_setup(what: Program, **changes: Any) -> Program:
    """The program with other fields at its top level."""
    return program(json.dumps({**json.loads(what.sequence), **changes}))


async def measured(workers: Workers, what: Program, device: str) -> dict[str, float]:
    """The distribution of the counts on a Pulser device."""
    spec = await workers.device_spec(device)
    await workers.evolve(7, what, spec, shots=SHOTS, seed=5, options={})
    try:
        counts = await workers.deal(7, 0, SHOTS)
    finally:
        workers.release(7)
    return {bits: number / SHOTS for bits, number in counts.items()}


def distance(one: dict[str, float], other: dict[str, float]) -> float:
    """Total variation distance."""
    return sum(abs(one.get(bits, 0.0) - other.get(bits, 0.0)) for bits in {*one, *other}) / 2


@pytest.mark.parametrize(
    ("what", "device", "level"),
    [
        (ahs(TRIANGLE, SWELL, SWEEP), "MockDevice", 70),
        (ahs(TRIANGLE, SWELL, SWEEP, TURN), "MockDevice", 70),
        (ahs(TRIANGLE, SWELL, SWEEP, TURN), "AnalogDevice", 60),
        (ahs(TRIANGLE, *BETWEEN_TICKS), "AnalogDevice", 60),
        (ahs(TRIANGLE, SWELL, SWEEP, JUMP), "MockDevice", 70),
        (ahs(TRIANGLE, SWELL, SWEEP, JUMP), "DigitalAnalogDevice", 70),
        (ahs(TRIANGLE, SWELL, SWEEP, TURN, localDetuning=local([(0, 0.0), (0.5, -8.0), (1, -3.0)])), "MockDevice", 70),
        (ahs(TRIANGLE, SWELL, SWEEP, TURN, localDetuning=local([(0, 0.0), (0.5, 8.0), (1, 3.0)])), "MockDevice", 70),
        (
            ahs(TRIANGLE, SWELL, SWEEP, localDetuning=local([(0, -5.0), (0.5, -5.0), (1, -9.0)])),
            "DigitalAnalogDevice",
            70,
        ),
        (ahs(TRIANGLE, SWELL, SWEEP, localDetuning=local([(0, 2.0), (1, 2.0)], "uniform")), "AnalogDevice", 60),
    ],
)
@in_session
async def test_a_program_gives_the_distribution_of_its_hamiltonian(
    workers: Workers, what: Program, device: str, level: int
) -> None:
    assert distance(await measured(workers, what, device), probabilities(what.sequence, level)) < CLOSE


LOWERED = local([(0, -8.0), (1, -8.0)])


@pytest.mark.parametrize(
    "other",
    [
        ahs(TRIANGLE, SWELL, SWEEP, [(time, -phase) for time, phase in TURN], localDetuning=LOWERED),
        ahs(TRIANGLE, SWELL, [(time, -value) for time, value in SWEEP], TURN, localDetuning=LOWERED),
        ahs(TRIANGLE, SWELL, SWEEP, TURN, localDetuning=local([(0, 8.0), (1, 8.0)])),
        ahs(TRIANGLE, SWELL, SWEEP, TURN, localDetuning=local([(0, -8.0), (1, -8.0)], WEIGHTS[::-1])),
        ahs(TRIANGLE, SWELL, SWEEP, JUMP, localDetuning=LOWERED),
        ahs(TRIANGLE, SWELL, SWEEP, TURN),
    ],
)
def test_the_distance_would_show_a_wrong_sign_order_or_phase(other: Program) -> None:
    right = probabilities(ahs(TRIANGLE, SWELL, SWEEP, TURN, localDetuning=LOWERED).sequence, 70)
    assert distance(right, probabilities(other.sequence, 70)) > 5 * CLOSE


@in_session
async def test_vacant_sites_are_traps_and_take_no_weight(workers: Workers) -> None:
    """Local detuning has one weight for each site, counts one bit for each atom."""
    sites = [TRIANGLE[0], (-9.0, -9.0), *TRIANGLE[1:]]
    document = json.loads(
        ahs(sites, SWELL, SWEEP, localDetuning=local([(0, -6.0), (1, -6.0)], [1, 1, 0, 0.4])).sequence
    )
    document["setup"]["ahs_register"]["filling"] = [1, 0, 1, 1]
    text = json.dumps(document)
    assert distance(await measured(workers, program(text), "MockDevice"), probabilities(text, 70)) < CLOSE


@in_session
async def test_vacant_sites_are_in_the_layout_of_a_device_that_wants_one(workers: Workers) -> None:
    grid = [(6.0 * column, 6.0 * row) for row in range(9) for column in range(9)]
    document = json.loads(ahs(grid, [(0, 1.0), (1, 1.0)], [(0, 0.0), (1, 0.0)]).sequence)
    document["setup"]["ahs_register"]["filling"] = [1, 1, 0, 1] + [0] * 77
    spec = await workers.device_spec("AnalogDevice")
    small = msgspec.structs.replace(
        spec, text=json.dumps({**json.loads(spec.text), "max_radial_distance": 60}), hash="wide"
    )
    built = json.loads(await workers.build(program(json.dumps(document)), small))
    assert (len(built["layout"]["coordinates"]), len(built["register"])) == (81, 3)


@pytest.mark.parametrize("told", [{"rydberg_level": 70}, {"braketSchemaHeader": {"name": "braket.ir.ahs.program"}}])
@in_session
async def test_distances_for_another_rydberg_level_are_refused(workers: Workers, told: dict[str, Any]) -> None:
    what = with_setup(ahs(TRIANGLE, SWELL, SWEEP), **told)
    refused = await workers.validate(what, 10, await workers.device_spec("AnalogDevice"))
    assert refused.sentence == (
        "the AHS program is written for Rydberg level 70, AnalogDevice works at level 60 "
        "(C6 = 865723 rad/µs µm⁶): the same distances would mean other physics"
    )
    assert (await workers.validate(what, 10, await workers.device_spec("MockDevice"))).ok


@in_session
async def test_a_single_atom_has_no_distances(workers: Workers) -> None:
    alone = with_setup(ahs([(0, 0)], SWELL, SWEEP), rydberg_level=70)
    assert (await workers.validate(alone, 10, await workers.device_spec("AnalogDevice"))).ok


@pytest.mark.parametrize(
    ("detunings", "words"),
    [
        (local([(0, -1.0), (1, -1.0)]), "AnalogDevice has no detuning map modulator"),
        (local([(0, -1.0), (1, 1.0)]), "changes its sign"),
        (local([(0, -1.0), (1, -1.0)], ["1.0", "0.0"]), "2 weights for 3 sites"),
        (local([(0, -1.0), (1, -1.0)], [1, 0, 1.5]), "the weight 1.5"),
        (local([(0, -1.0), (1, -1.0)]) * 2, "2 local detunings"),
        (local([(0, -1.0), (2, -1.0)]), "end at different times"),
    ],
)
@in_session
async def test_a_local_detuning_beyond_the_device_is_refused_with_the_reason(
    workers: Workers, detunings: list[dict[str, Any]], words: str
) -> None:
    what = ahs(TRIANGLE, SWELL, SWEEP, localDetuning=detunings)
    given = await workers.validate(what, 10, await workers.device_spec("AnalogDevice"))
    assert words in given.sentence


@in_session
async def test_a_jump_of_the_phase_is_refused_where_the_device_needs_time_for_it(workers: Workers) -> None:
    what = ahs(TRIANGLE, SWELL, SWEEP, JUMP)
    given = await workers.validate(what, 10, await workers.device_spec("AnalogDevice"))
    assert given.sentence == (
        "the phase of the AHS program jumps at 500 ns, for which AnalogDevice needs 170 ns: let it turn instead"
    )


@in_session
async def test_a_phase_of_a_full_turn_is_none(workers: Workers) -> None:
    turned = ahs(TRIANGLE, SWELL, SWEEP, [(0, 2 * math.pi), (1, 2 * math.pi)])
    plain = probabilities(ahs(TRIANGLE, SWELL, SWEEP).sequence, 70)
    assert distance(await measured(workers, turned, "MockDevice"), plain) < CLOSE
