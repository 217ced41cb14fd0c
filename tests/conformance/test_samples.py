"""Every file of ../shared/samples does at the live daemon what its manifest says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from livesite import Site
from seen import is_one_sentence

pytestmark = [pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples"
MANIFEST = SAMPLES / "manifest.json"
DOS = "bad_dos_variable_duration_1e9.json"
DOS_SECONDS = 35.0
GROWTH_BYTES = 32 << 20  # what a daemon may grow by while something refuses to stop growing in the worker


def samples(*expected: str) -> list[Any]:
    """Samples with one of these outcomes, as test parameters."""
    if not MANIFEST.exists():
        return [pytest.param(None, marks=pytest.mark.skip(f"no {MANIFEST}"), id="absent")]
    found = [sample for sample in json.loads(MANIFEST.read_text()) if sample["expect"] in expected]
    return [pytest.param(sample, id=sample["file"].removesuffix(".json")) for sample in found if sample["file"] != DOS]


@pytest.fixture(scope="module")
def token(site: Site) -> str:
    """A session's token for all samples."""
    token: str = site.open_session(slurm_job_id="samples")["token"]
    return token


def submit(site: Site, token: str, sample: dict[str, Any], resource: str = "FRESNEL") -> Iterator[httpx.Response]:
    """Submit the sample once per job_params, as the text that lies in the file."""
    sequence = (SAMPLES / sample["file"]).read_text()
    with site.tcp(Authorization=f"Bearer {token}") as client:
        for params in sample["job_params"]:
            job = {
                "sequence": sequence,
                "shots": params["runs"],
                "variables": params.get("variables"),
                "resource": resource,
            }
            yield client.post("/v1/jobs", json=job)


def check_done(site: Site, replies: Iterator[httpx.Response], atoms: int, params: list[dict[str, Any]]) -> None:
    """Each was accepted and ends DONE with exactly the shots asked and one character per atom."""
    accepted = list(replies)
    assert [reply.status_code for reply in accepted] == [201] * len(params), [reply.text for reply in accepted]
    for reply, wanted in zip(accepted, params, strict=True):
        job = site.ended(reply.json()["id"], 90)
        assert job["state"] == "DONE", site.get(f"/v1/jobs/{job['id']}/logs")
        counts = site.counts(job["id"])
        assert sum(counts.values()) == wanted["runs"]
        assert {len(bits) for bits in counts} == {atoms}


def atoms_of(sample: dict[str, Any]) -> int:
    """How many atoms the sample's result must show: those of its register, or those that the variables place."""
    program = json.loads((SAMPLES / sample["file"]).read_text())
    if "setup" in program:
        return sum(program["setup"]["ahs_register"]["filling"])
    placed = sample["job_params"][0].get("variables", {}).get("qubits")
    return len(placed if placed is not None else program["register"])


@pytest.mark.parametrize("sample", samples("ok"))
def test_a_good_sample_runs_on_the_simulated_qpu(site: Site, token: str, sample: dict[str, Any]) -> None:
    check_done(site, submit(site, token, sample), atoms_of(sample), sample["job_params"])


@pytest.mark.parametrize("sample", samples("ok-emulator-only"))
def test_a_sample_for_a_virtual_device_runs_on_the_emulator(site: Site, token: str, sample: dict[str, Any]) -> None:
    check_done(site, submit(site, token, sample, "EMU_MPS"), atoms_of(sample), sample["job_params"])


@pytest.mark.parametrize("sample", samples("ok-emulator-only"))
def test_a_sample_for_a_virtual_device_is_refused_by_the_qpu(site: Site, token: str, sample: dict[str, Any]) -> None:
    check_refused(site, submit(site, token, sample))


@pytest.mark.parametrize("sample", samples("reject-or-convert"))
def test_an_ahs_program_is_converted_and_runs(site: Site, token: str, sample: dict[str, Any]) -> None:
    check_done(site, submit(site, token, sample), atoms_of(sample), sample["job_params"])


def check_refused(site: Site, replies: Iterator[httpx.Response]) -> None:
    """Each was refused in one sentence."""
    for reply in replies:
        reason = refusal(site, reply)
        assert is_one_sentence(reason), reason


def refusal(site: Site, reply: httpx.Response, seconds: float = 30.0) -> str:
    """Why a submission was refused: with its answer (4xx), or, where the worker was too busy for that, as an ERROR."""
    if reply.status_code == 201 and reply.json()["reason"] == "Validating":
        job = site.ended(reply.json()["id"], seconds)
        assert (job["state"], job["reason"]) == ("ERROR", "InvalidSequence")
        message: str = site.get(f"/v1/jobs/{job['id']}/result")["message"]
        return message
    assert 400 <= reply.status_code < 500, reply.text
    detail: str = reply.json()["detail"]
    return detail


@pytest.mark.parametrize("sample", samples("reject"))
def test_a_bad_sample_is_refused_in_one_sentence(site: Site, token: str, sample: dict[str, Any]) -> None:
    check_refused(site, submit(site, token, sample))


@pytest.mark.skipif(not MANIFEST.exists(), reason=f"no {MANIFEST}")
def test_the_sample_that_eats_memory_hurts_nobody(site: Site, token: str) -> None:
    sample = next(sample for sample in json.loads(MANIFEST.read_text()) if sample["file"] == DOS)
    before, began = site.resident_bytes(), time.monotonic()
    (reply,) = submit(site, token, sample)
    reason = refusal(site, reply, DOS_SECONDS)
    assert is_one_sentence(reason), reason
    assert time.monotonic() - began < DOS_SECONDS
    assert site.resident_bytes() - before < GROWTH_BYTES
    assert site.get("/accessible")["is_accessible"]
