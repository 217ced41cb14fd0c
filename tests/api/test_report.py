"""The query string of a report: what it may say, and what is refused with the nearest valid word."""

from __future__ import annotations

import pytest
from fakes import Desk

from qpud.core.report import Group, ReportFilter

NOVEMBER = 1_793_491_200.0  # 2026-11-01T00:00Z


async def asked(query: str, prefix: str = "") -> tuple[Desk, int, dict[str, object]]:
    desk = Desk()
    async with desk.client(peer=0) as client:
        reply = await client.get(f"{prefix}/v1/accounting/report{query}")
    return desk, reply.status_code, reply.json()


async def test_without_a_word_it_is_by_day_and_user() -> None:
    desk, _status, _body = await asked("")
    assert desk.service.reported == ReportFilter(by=(Group.DAY, Group.USER))


async def test_every_filter_may_name_several() -> None:
    query = "?by=day&by=queue,day&user=ada,1001&account=a&account=b&queue=q&resource=R&session=s&slurm_job=7,8"
    desk, _status, _body = await asked(query)
    assert desk.service.reported == ReportFilter(
        by=(Group.DAY, Group.QUEUE),
        user_ids=(1000, 1001),
        accounts=("a", "b"),
        queues=("q",),
        resources=("R",),
        sessions=("s",),
        slurm_jobs=("7", "8"),
    )


@pytest.mark.parametrize(
    "start", ["2026-11-01", "2026-11-01T00:00", "2026-11-01T00:00:00Z", "2026-11-01T01:00%2b01:00"]
)
async def test_a_time_without_zone_is_utc(start: str) -> None:
    desk, _status, _body = await asked(f"?start={start}")
    assert desk.service.reported is not None
    assert desk.service.reported.start == NOVEMBER


async def test_a_resource_named_by_the_path_is_the_filter() -> None:
    desk, _status, _body = await asked("", "/r/FRESNEL")
    assert desk.service.reported is not None
    assert desk.service.reported.resources == ("FRESNEL",)


async def test_the_type_of_a_resource_is_its_driver_or_unknown() -> None:
    _desk, _status, body = await asked("?by=resource")
    assert [row["resource_type"] for row in body["rows"]] == ["simulated"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("?by=usr", 400, "a report cannot be grouped by 'usr': did you mean user?"),
        ("?by=colour", 400, "a report cannot be grouped by 'colour': there are account, day, job, queue"),
        ("?start=soon", 400, "'soon' is no time: write it as 2026-11-24"),
        ("?end=2026-02-30", 400, "'2026-02-30' is no time"),
        ("?user=nobody", 404, "user 'nobody' does not exist on this system"),
        ("?usr=ada", 400, "unknown field `usr`"),
        ("?limit=10001", 400, "Expected `int` <= 10000 - at `limit`"),
    ],
)
async def test_what_cannot_be_read_is_refused_in_a_sentence(query: str, status: int, sentence: str) -> None:
    _desk, found, body = await asked(query)
    assert found == status
    assert sentence in str(body["detail"])


async def test_a_report_needs_a_credential() -> None:
    async with Desk().client() as client:
        assert (await client.get("/v1/accounting/report?by=usr")).status_code == 401
