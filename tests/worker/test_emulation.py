"""The physics, and the same shots however they are sliced."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import msgspec
import pytest

from qpud.core.slices import merge_counts
from qpud.drivers.base import DeviceSpec, Program
from qpud.drivers.workers import WorkerFault, Workers
from tests.worker.programs import ahs, atoms_apart, drive, sample

pytestmark = [pytest.mark.worker, pytest.mark.asyncio(loop_scope="session")]

_jobs = itertools.count(1000)


async def emulator_spec(workers: Workers) -> DeviceSpec:
    return msgspec.structs.replace(await workers.device_spec("AnalogDevice"), accepts_virtual=True)


async def evolved(workers: Workers, what: Program, shots: int, seed: int = 1, **options: Any) -> int:
    job = next(_jobs)
    await workers.evolve(job, what, await emulator_spec(workers), shots=shots, seed=seed, options=options)
    return job


async def counts(workers: Workers, what: Program, shots: int = 1000, seed: int = 1, **options: Any) -> dict[str, int]:
    job = await evolved(workers, what, shots, seed, **options)
    try:
        return await workers.deal(job, 0, shots)
    finally:
        workers.release(job)


def distance(one: dict[str, int], other: dict[str, int]) -> float:
    """Total variation distance of two samples of equal size."""
    return sum(abs(one.get(bits, 0) - other.get(bits, 0)) for bits in {*one, *other}) / 2 / sum(one.values())


def fraction_of_ones(found: dict[str, int]) -> float:
    return sum(bits.count("1") * n for bits, n in found.items()) / sum(len(bits) * n for bits, n in found.items())


async def test_an_adiabatic_sweep_ends_in_the_antiferromagnetic_states(workers: Workers) -> None:
    found = await counts(workers, sample("valid_n04.json"))
    assert set(sorted(found, key=found.__getitem__)[-2:]) == {"0110", "1001"}


async def test_qutip_and_the_state_vector_agree(workers: Workers) -> None:
    qutip = await counts(workers, sample("valid_n06.json"), 20_000, seed=1, emulator="qutip")
    vector = await counts(workers, sample("valid_n06.json"), 20_000, seed=2, emulator="sv")
    assert distance(qutip, vector) < 0.04  # two perfect samples of 20 000 over 64 states differ by about 0.02


async def test_qutip_and_tensor_networks_agree(workers: Workers) -> None:
    qutip = await counts(workers, sample("valid_n04.json"), 5000, seed=1, emulator="qutip")
    network = await counts(workers, sample("valid_n04.json"), 5000, seed=2, emulator="mps")
    assert distance(qutip, network) < 0.05


@pytest.mark.parametrize("emulator", ["product", "qutip"])
async def test_a_single_atom_follows_rabi(workers: Workers, emulator: str) -> None:
    omega, delta, time = 5.0, 3.0, 0.400
    speed = math.hypot(omega, delta)
    expected = (omega / speed) ** 2 * math.sin(speed * time / 2) ** 2
    found = await counts(workers, atoms_apart(1, drive(omega, delta, 400)), 20_000, emulator=emulator)
    assert found.get("1", 0) / 20_000 == pytest.approx(expected, abs=0.015)


async def test_independent_atoms_agree_with_qutip_on_phases(workers: Workers) -> None:
    pulses = (drive(8.0, 3.0, 100, 0.3), drive(5.0, -2.0, 148, 1.7), drive(4.0, 6.0, 200, -0.9))
    product = await counts(workers, atoms_apart(1, *pulses), 20_000, emulator="product")
    qutip = await counts(workers, atoms_apart(1, *pulses), 20_000, emulator="qutip")
    assert distance(product, qutip) < 0.02


async def test_neighbours_are_blockaded_by_the_emulators_only(workers: Workers) -> None:
    pair = atoms_apart(2, drive(2 * math.pi, 0.0, 500), distance=5.0)
    exact, independent = await counts(workers, pair), await counts(workers, pair, emulator="product")
    assert (exact.get("11", 0), independent.get("11", 0)) == (0, 1000)


async def test_a_thousand_independent_atoms_are_cheap(workers: Workers) -> None:
    found = await counts(workers, atoms_apart(1000, drive(2 * math.pi, 0.0, 250)), 500, emulator="product")
    assert fraction_of_ones(found) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("emulator", ["qutip", "sv", "mps", "product", "random"])
async def test_the_same_seed_draws_the_same_shots(workers: Workers, emulator: str) -> None:
    first = await counts(workers, sample("valid_n04.json"), 200, seed=9, emulator=emulator)
    assert await counts(workers, sample("valid_n04.json"), 200, seed=9, emulator=emulator) == first


async def test_another_seed_draws_other_shots(workers: Workers) -> None:
    first = await counts(workers, sample("valid_n10.json"), 200, seed=9)
    assert await counts(workers, sample("valid_n10.json"), 200, seed=10) != first


async def test_slices_add_up_to_the_whole_however_they_fall(workers: Workers) -> None:
    job = await evolved(workers, sample("valid_n10.json"), 1000)
    merged: dict[str, int] = {}
    for start, stop in itertools.pairwise([0, 1, 50, 333, 334, 1000]):
        merged = merge_counts(merged, await workers.deal(job, start, stop - start))
    whole = await workers.deal(job, 0, 1000)
    workers.release(job)
    assert merged == whole


async def test_a_slice_is_a_fair_sample_of_the_whole(workers: Workers) -> None:
    job = await evolved(workers, sample("valid_n04.json"), 10_000)
    whole, part = await workers.deal(job, 0, 10_000), await workers.deal(job, 0, 1000)
    workers.release(job)
    assert part.get("0110", 0) / 1000 == pytest.approx(whole["0110"] / 10_000, abs=0.06)


async def test_more_shots_than_the_job_has_are_not_dealt(workers: Workers) -> None:
    job = await evolved(workers, sample("valid_n04.json"), 10)
    with pytest.raises(WorkerFault, match="the job has 10"):
        await workers.deal(job, 5, 6)
    workers.release(job)


async def test_provenance_names_the_emulator_and_versions(workers: Workers) -> None:
    job = next(_jobs)
    spec = await emulator_spec(workers)
    provenance = await workers.evolve(job, sample("valid_n04.json"), spec, shots=1, seed=1, options={})
    workers.release(job)
    assert provenance["emulator"] == "qutip"
    assert {"pulser", "pulser-simulation"} < set(provenance)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seconds": 0.5}, "MaxRunTime 0.5 s"),
        ({"memory": 50 << 20, "emulator": "sv"}, "MaxMemory 50 MiB"),
        ({"emulator": "abacus"}, "no emulator 'abacus'"),
    ],
)
async def test_a_limit_is_named_and_repeating_does_not_help(
    workers: Workers, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(WorkerFault, match=words) as raised:
        await evolved(workers, sample("valid_n20.json"), 10, **options)
    assert not raised.value.transient


# AHS programs


async def test_a_pi_pulse_of_an_ahs_program_flips_distant_atoms(workers: Workers) -> None:
    pulse = ahs([(0, 0), (30, 0)], [(0, 5.0), (0.628, 5.0)], [(0, 0.0), (0.628, 0.0)])
    assert fraction_of_ones(await counts(workers, pulse)) > 0.98


async def test_an_ahs_program_measures_in_the_order_of_its_sites(workers: Workers) -> None:
    """Three in a row: only the middle one, given first, is blockaded by two neighbours."""
    sweep = ahs(
        [(6, 0), (0, 0), (12, 0)],
        [(0, 0.0), (0.3, 8.0), (3.7, 8.0), (4, 0.0)],
        [(0, -20.0), (0.3, -20.0), (3.7, 15.0), (4, 15.0)],
    )
    found = await counts(workers, sweep)
    assert max(found, key=found.__getitem__) == "011"


async def test_a_turning_phase_is_a_detuning(workers: Workers) -> None:
    """In the frame that turns with the phase, 5 rad in 1 µs are 5 rad/µs of detuning: they cancel -5."""
    turning = ahs([(0, 0)], [(0, math.pi), (1, math.pi)], [(0, -5.0), (1, -5.0)], [(0, 0.0), (1, 5.0)])
    assert fraction_of_ones(await counts(workers, turning)) > 0.98


async def test_an_ahs_program_is_built_on_whole_clock_periods(workers: Workers) -> None:
    odd = ahs([(0, 0), (10, 0)], [(0, 0.0), (0.13, 3.0), (0.25, 0.0)], [(0, 0.0), (0.25, 0.0)])
    built = json.loads(await workers.build(odd, await workers.device_spec("AnalogDevice")))
    waveform = built["operations"][0]["amplitude"]
    assert sum(part["duration"] for part in waveform["waveforms"]) == 252


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (ahs([(0, 0)], [(0, 1.0), (1, 1.0)], [(0, 0.0), (1, 0.0)], localDetuning=[{}]), "magnitude"),
        (ahs([(0, 0)], [(0, 1.0), (1, 1.0)], [(0, 0.0), (1, 0.0)], drivingFields=[]), "0 driving fields"),
        (ahs([(0, 0)], [(0, 1.0), (1, 1.0)], [(0, 0.0), (2, 0.0)]), "end at different times"),
        (
            ahs([(0, 0)], [(0, 1.0), (1, 1.0)], [(0, 0.0), (1, 0.0)], [(0, 0.0), (0.5, 0.0), (0.5, 1.0), (1, 1.0)]),
            "jumps at 500 ns",
        ),
        (ahs([(0, 0)], [(0, 99.0), (1, 99.0)], [(0, 0.0), (1, 0.0)]), "amplitude"),
    ],
)
async def test_an_ahs_program_beyond_us_is_refused_with_the_reason(
    workers: Workers, what: Program, words: str
) -> None:
    given = await workers.validate(what, 10, await workers.device_spec("AnalogDevice"))
    assert words in given.sentence
