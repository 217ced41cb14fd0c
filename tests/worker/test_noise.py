"""The noise of a device that an emulator stands in for: seen in the counts, exactly as many as asked, repeatable."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import Any

import msgspec
import pytest

from qpud.drivers.base import DeviceSpec, Program
from qpud.drivers.workers import WorkerFault, Workers
from tests.worker.programs import atoms_apart, drive, sample

pytestmark = [pytest.mark.worker, pytest.mark.asyncio(loop_scope="session")]

_jobs = itertools.count(9000)
QUIET: dict[str, Any] = {
    "noise_types": [],
    "runs": None,
    "samples_per_run": 1,
    "state_prep_error": 0.0,
    "p_false_pos": 0.0,
    "p_false_neg": 0.0,
    "temperature": 0.0,
    "laser_waist": None,
    "amp_sigma": 0.0,
    "relaxation_rate": 0.0,
    "dephasing_rate": 0.0,
    "hyperfine_dephasing_rate": 0.0,
    "depolarizing_rate": 0.0,
    "eff_noise": [],
}
READOUT = {**QUIET, "noise_types": ["SPAM"], "p_false_pos": 0.25}
SHAKY = {**QUIET, "noise_types": ["SPAM", "amplitude"], "p_false_neg": 0.1, "amp_sigma": 0.1}
DEPHASING = {**QUIET, "noise_types": ["dephasing"], "dephasing_rate": 0.5}


async def noisy(workers: Workers, noise: dict[str, Any]) -> DeviceSpec:
    """AnalogDevice with a noise of its own."""
    spec = await workers.device_spec("AnalogDevice")
    text = json.dumps({**json.loads(spec.text), "default_noise_model": noise})
    return msgspec.structs.replace(spec, text=text, hash=hashlib.sha256(text.encode()).hexdigest())


async def run(
    workers: Workers, spec: DeviceSpec, shots: int = 1001, what: Program | None = None, **options: Any
) -> tuple[dict[str, int], dict[str, str]]:
    job, program = next(_jobs), what or sample("valid_n04.json")
    try:
        told = await workers.evolve(job, program, spec, shots=shots, seed=5, options={"noise": True, **options})
        return await workers.deal(job, 0, shots), told
    finally:
        workers.release(job)


def ones(counts: dict[str, int]) -> float:
    return sum(bits.count("1") * number for bits, number in counts.items()) / sum(counts.values())


@pytest.mark.parametrize(
    ("emulator", "noise", "shots"),
    [  # trajectories of four atoms take seconds each, on emu-mps
        ("qutip", READOUT, 301),
        ("sv", READOUT, 301),
        ("mps", READOUT, 301),
        ("qutip", SHAKY, 301),
        ("sv", SHAKY, 7),
        ("mps", SHAKY, 2),
    ],
)
async def test_as_many_shots_come_as_were_asked_for_and_the_same_again(
    workers: Workers, emulator: str, noise: dict[str, Any], shots: int
) -> None:
    spec = await noisy(workers, noise)
    first, told = await run(workers, spec, shots, emulator=emulator)
    again, _ = await run(workers, spec, shots, emulator=emulator)
    assert sum(first.values()) == shots
    assert first == again
    assert told["noise"] == f"of AnalogDevice: {', '.join(noise['noise_types'])}"


async def test_readout_errors_are_seen_in_the_counts(workers: Workers) -> None:
    quiet, told = await run(workers, await noisy(workers, QUIET))
    loud, _ = await run(workers, await noisy(workers, READOUT))
    assert told["noise"] == "none: AnalogDevice states none"
    # a quarter of the atoms found in the ground state is reported as excited
    assert ones(loud) == pytest.approx(ones(quiet) + 0.25 * (4 - ones(quiet)), abs=0.2)


async def test_noise_that_an_emulator_does_not_know_is_refused_by_name(workers: Workers) -> None:
    hyperfine = {**QUIET, "noise_types": ["dephasing"], "dephasing_rate": 0.1, "hyperfine_dephasing_rate": 0.1}
    with pytest.raises(WorkerFault) as wrong:
        await run(workers, await noisy(workers, hyperfine), 10, emulator="sv")
    assert wrong.value.message.startswith("emulator sv cannot emulate the noise of AnalogDevice (dephasing)")
    assert not wrong.value.transient


async def test_dephasing_runs_as_one_density_matrix(workers: Workers) -> None:
    counts, _ = await run(workers, await noisy(workers, DEPHASING), 200)
    assert sum(counts.values()) == 200


async def test_a_mock_says_that_it_is_none_and_has_no_noise(workers: Workers) -> None:
    spec = msgspec.structs.replace(await noisy(workers, READOUT), accepts_virtual=True)
    counts, told = await run(workers, spec, 50, what=atoms_apart(60, drive(3.0, 0.0, 200)), emulator="product")
    assert sum(counts.values()) == 50
    assert told["mock"] == "independent atoms without interaction: not physics"
    assert "noise" not in told


async def test_a_small_bond_dimension_is_on_record(workers: Workers) -> None:
    _, told = await run(workers, await noisy(workers, QUIET), 50, emulator="mps", bond_dim=2)
    assert (told["bond_dim"], told["step"]) == ("2", "50 ns")
    assert told["warning"].startswith("truncated tensor network")
