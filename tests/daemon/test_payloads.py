"""Programs that are not Pulser's, through service, scheduler and store; and slices of which nobody can tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qpud.core.errors import Invalid
from qpud.core.job import JobState, Reason
from qpud.core.policy import Policy
from qpud.core.resource import ResourcePolicy
from qpud.core.slices import Outcome
from qpud.core.terms import DriverKind, QrmiType
from qpud.drivers.base import SliceRequest, Undecided
from tests.daemon.builders import ALICE, SEQUENCE, Site, a_policy, a_site, until
from tests.daemon.qpu import SPEC, Qpu, QpuDriver

PAYLOAD = json.dumps({"program_id": "sampler", "input": {"pubs": []}})
RAW = '{"results": []}'


class PayloadDriver(QpuDriver):
    """Gives a text for all shots, and no counts."""

    async def wait(self, device_id: str, request: SliceRequest) -> Outcome:
        outcome = await super().wait(device_id, request)
        return msgspec.structs.replace(outcome, counts={}, result=RAW, result_shots=request.shots)


class ForgetfulDriver(QpuDriver):
    """Cannot list what it was given."""

    async def find(self, request: SliceRequest) -> str | None:
        raise Undecided("nobody can tell; look there")


def opaque_policy() -> Policy:
    twin = ResourcePolicy(name="TWIN", driver=DriverKind.QRMI, qrmi_type=QrmiType.IBM_QUANTUM_SYSTEM)
    return msgspec.structs.replace(a_policy(), resources={"TWIN": twin})


def with_payloads(path: Path, qpu: Qpu | None = None) -> Any:
    qpu = qpu or Qpu(seconds=0.0)
    return a_site(path, qpu, policy=opaque_policy(), drivers={"TWIN": PayloadDriver("TWIN", qpu)})


async def run(site: Site, shots: int = 1000, **ask: Any) -> Any:
    return await site.end(await site.submit(await site.session(), shots, **{"sequence": PAYLOAD, **ask}))


async def test_a_payload_runs_in_one_slice_and_nobody_looks_into_it(tmp_path: Path) -> None:
    async with with_payloads(tmp_path) as site:
        job = await run(site)
        assert (job.state, job.shots_done, len(site.qpu.requests)) == (JobState.DONE, 1000, 1)
        assert site.qpu.requests[0].program.sequence == PAYLOAD
        assert site.workers.asked == 0


async def test_its_result_comes_back_as_it_came(tmp_path: Path) -> None:
    async with with_payloads(tmp_path) as site:
        job = await run(site)
        result = await site.result(job)
        assert (result.result, result.counts, result.slices[0].shots_done) == (RAW, {}, 1000)
        assert await site.service.results_text(ALICE, str(job.id)) == (job, RAW)


async def test_counts_come_without_a_raw_result(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        job = await site.end(await site.submit(await site.session()))
        assert (await site.result(job)).result is None
        assert json.loads((await site.service.results_text(ALICE, str(job.id)))[1] or "")["counter"]


async def test_it_is_charged_like_any_other(tmp_path: Path) -> None:
    async with with_payloads(tmp_path) as site:
        job = await run(site)
        assert (await site.result(job)).qpu_seconds == pytest.approx(100.0)


async def test_a_payload_before_the_first_spec_runs_once_there_is_one(tmp_path: Path) -> None:
    qpu = Qpu(seconds=0.0)
    qpu.spec = None
    async with with_payloads(tmp_path, qpu) as site:
        job = await site.submit(await site.session(), 10, sequence=PAYLOAD)
        qpu.spec = SPEC
        assert (await site.end(job)).state is JobState.DONE
        assert site.workers.asked == 0


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        ({"sequence": SEQUENCE}, "the payload lacks input or parameters"),
        ({"variables": {"a": 1}}, "a payload for TWIN takes no variables"),
        ({"shots": 0}, "must be at least 1"),
    ],
)
async def test_what_the_resource_could_not_take_is_refused(tmp_path: Path, ask: dict[str, Any], words: str) -> None:
    async with with_payloads(tmp_path) as site:
        with pytest.raises(Invalid, match=words):
            await site.submit(await site.session(), **{"sequence": PAYLOAD, **ask})


async def test_a_slice_of_which_nobody_can_tell_waits_for_a_person_who_cancels_its_job(tmp_path: Path) -> None:
    qpu = Qpu()
    qpu.lose_replies = 1
    async with a_site(tmp_path, qpu, drivers={"TWIN": ForgetfulDriver("TWIN", qpu)}) as site:
        job = await site.submit(await site.session())
        await until(lambda: site.book.flights["TWIN"].state == "unreachable")
        assert site.book.flights["TWIN"].message == "nobody can tell; look there"
        assert (await site.job(job)).reason is Reason.UNKNOWN
        await site.service.cancel_job(ALICE, str(job.id))
        assert (await site.end(job)).state is JobState.CANCELED
    assert len(qpu.requests) == 1
