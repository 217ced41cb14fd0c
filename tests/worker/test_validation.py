"""Pulser's verdicts: the shared samples behave as their manifest says, and every refusal is one sentence."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import Any

import msgspec
import pytest

from qpud.drivers.workers import Verdict, WorkerFault, Workers
from tests.worker.programs import MANIFEST, SAMPLES, atoms_apart, changed, drive, program, sample

pytestmark = [pytest.mark.worker, pytest.mark.asyncio(loop_scope="session")]

CASES = [
    pytest.param(entry, job, id=f"{entry['file']}-{n}")
    for entry in MANIFEST
    for n, job in enumerate(entry["job_params"])
]


async def verdict(workers: Workers, entry: dict[str, Any], job: dict[str, Any], **spec_changes: Any) -> Verdict:
    spec = msgspec.structs.replace(await workers.device_spec("AnalogDevice"), **spec_changes)
    return await workers.validate(sample(entry["file"], job.get("variables")), job["runs"], spec)


@pytest.mark.parametrize(("entry", "job"), CASES)
async def test_a_sample_is_judged_as_its_manifest_says(
    workers: Workers, entry: dict[str, Any], job: dict[str, Any]
) -> None:
    given = await verdict(workers, entry, job)
    assert given.ok == (entry["expect"] in ("ok", "reject-or-convert")), given.sentence


@pytest.mark.parametrize(("entry", "job"), CASES)
async def test_an_emulator_also_takes_virtual_devices(
    workers: Workers, entry: dict[str, Any], job: dict[str, Any]
) -> None:
    given = await verdict(workers, entry, job, accepts_virtual=True)
    assert given.ok == (entry["expect"] != "reject"), given.sentence


@pytest.mark.parametrize(("entry", "job"), [case for case in CASES if case.values[0]["expect"] == "reject"])
async def test_a_refusal_is_one_short_line(workers: Workers, entry: dict[str, Any], job: dict[str, Any]) -> None:
    given = await verdict(workers, entry, job)
    assert 10 < len(given.sentence) <= 300
    assert "\n" not in given.sentence


async def test_a_forged_device_is_judged_by_the_resource(workers: Workers) -> None:
    document = json.loads((SAMPLES / "valid_n04.json").read_text())
    forged = {**document["device"], "min_atom_distance": 1.0}
    register = [{**atom, "x": atom["x"] / 2, "y": atom["y"] / 2} for atom in document["register"]]
    crowded = program(
        json.dumps({**document, "device": forged, "register": register, "layout": None}).replace(
            ', "layout": null', ""
        )
    )
    spec = await workers.device_spec("AnalogDevice")
    given = await workers.validate(crowded, 1, spec)
    assert not given.ok


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device": "Chadoq2"}, "knows no device 'Chadoq2'"),
        ({"operations": [{"op": "pulse"}]}, "operations[0]"),
        ({"channels": {"ising": 3}}, "channels.ising"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
async def test_a_schema_error_names_the_place(workers: Workers, changes: dict[str, Any], words: str) -> None:
    spec = await workers.device_spec("AnalogDevice")
    given = await workers.validate(changed("valid_n04.json", **changes), 1, spec)
    assert words in given.sentence


async def test_too_much_memory_is_a_verdict_that_names_the_limit(workers: Workers) -> None:
    spec = msgspec.structs.replace(await workers.device_spec("AnalogDevice"), accepts_virtual=True)
    given = await workers.validate(atoms_apart(2, drive(1.0, 0.0, 10**9)), 1, spec)
    assert "ValidationMemory 2 GiB" in given.sentence


async def test_validators_serve_on_after_running_out_of_memory(workers: Workers) -> None:
    spec = msgspec.structs.replace(await workers.device_spec("AnalogDevice"), accepts_virtual=True)
    hogs = [workers.validate(atoms_apart(2, drive(1.0, 0.0, 10**9)), 1, spec) for _ in range(3)]
    good = [workers.validate(sample("valid_n04.json"), 1, spec) for _ in range(6)]
    verdicts = await asyncio.gather(*hogs, *good)
    assert [given.ok for given in verdicts] == [False] * 3 + [True] * 6


async def test_an_unmeasured_sequence_is_built_with_a_measurement(workers: Workers) -> None:
    spec = await workers.device_spec("AnalogDevice")
    built = json.loads(await workers.build(changed("valid_n04.json", measurement=None), spec))
    assert built["measurement"] == "ground-rydberg"


async def test_variables_are_assigned_in_what_is_built(workers: Workers) -> None:
    spec = await workers.device_spec("AnalogDevice")
    variables = {"omega_max": 11.0, "t_sweep": 1000, "delta": [-29.5, 5.9]}
    built = json.loads(await workers.build(sample("valid_n04_parametrised_2jobs.json", variables), spec))
    assert built["variables"] == {}


async def test_what_is_built_is_on_the_device_of_the_spec(workers: Workers) -> None:
    spec = await workers.device_spec("AnalogDevice")
    built = json.loads(await workers.build(sample("valid_n04_stale_spec_same_samples.json"), spec))
    assert built["device"] == json.loads(spec.text)


async def test_what_cannot_be_built_is_a_fault_that_repeating_does_not_cure(workers: Workers) -> None:
    with pytest.raises(WorkerFault) as raised:
        await workers.build(sample("bad_amplitude_too_high.json"), await workers.device_spec("AnalogDevice"))
    assert not raised.value.transient


async def test_an_unknown_device_is_named(workers: Workers) -> None:
    with pytest.raises(WorkerFault, match="knows no device 'Fresnel9'"):
        await workers.device_spec("Fresnel9")


async def test_a_device_file_is_read_as_it_is(workers: Workers, tmp_path: Any) -> None:
    text = (await workers.device_spec("AnalogDevice")).text
    (tmp_path / "device.json").write_text(text)
    assert (await workers.device_spec(str(tmp_path / "device.json"))).text == text


async def test_a_missing_device_file_is_named(workers: Workers) -> None:
    with pytest.raises(WorkerFault, match=r"/nowhere/device\.json"):
        await workers.device_spec("/nowhere/device.json")


async def test_a_verdict_takes_few_milliseconds(workers: Workers) -> None:
    spec, times = await workers.device_spec("AnalogDevice"), []
    for _ in range(20):
        began = time.perf_counter()
        await workers.validate(sample("valid_n10.json"), 100, spec)
        times.append(time.perf_counter() - began)
    assert statistics.median(times) < 0.040  # 4.5 ms on an idle machine
