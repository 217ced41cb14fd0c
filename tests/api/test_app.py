"""Paths, methods, errors and metrics of the application as a whole."""

from __future__ import annotations

import logging

import pytest
from fakes import SEQUENCE, Desk, a_job, a_token, failing

from qpud.api.errors import STATUS
from qpud.core import errors
from qpud.core.job import JobState


@pytest.mark.parametrize("path", ["//accessible", "/accessible/", "///r/FRESNEL//accessible"])
async def test_doubled_and_trailing_slashes_do_not_matter(path: str) -> None:
    async with Desk().client() as client:
        assert (await client.get(f"http://qpud{path}")).status_code == 200


@pytest.mark.parametrize("path", ["/r/NOPE/accessible", "/accessible?resource=NOPE", "/r/NOPE/api/v1/system"])
async def test_prefix_and_query_select_the_resource(path: str) -> None:
    async with Desk().client() as client:
        reply = await client.get(path)
    assert (reply.status_code, reply.json()["detail"]) == (404, "resource 'NOPE' does not exist")


async def test_the_prefix_selects_the_resource_of_a_submission() -> None:
    desk = Desk()
    async with desk.client(peer=1000) as client:
        headers = {"X-Warden-Session": await a_token(client)}
        await client.post("/r/EMU_MPS/jobs", json={"sequence": SEQUENCE, "shots": 1}, headers=headers)
    assert desk.service.jobs[1].resource == "EMU_MPS"


@pytest.mark.parametrize("path", ["/", "/nope", "/v1", "/jobs/1/2/3", "/r", "/r/FRESNEL", "/%C3%A9/%00"])
async def test_an_unknown_path_is_404_in_json(path: str) -> None:
    async with Desk().client(peer=1000) as client:
        reply = await client.get(path)
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "BREW"])
async def test_a_wrong_method_is_405_naming_the_right_ones(method: str) -> None:
    async with Desk().client(peer=1000) as client:
        reply = await client.request(method, "/v1/jobs")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, POST")
    assert reply.json()["detail"] == f"{method} is not possible here, only GET and POST"


async def test_head_answers_like_get_without_a_body() -> None:
    async with Desk().client() as client:
        got, head = await client.get("/accessible"), await client.head("/accessible")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == str(len(got.content))


def error_types(root: type[errors.QpudError]) -> list[type[errors.QpudError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in error_types(child))]


def test_every_error_has_a_status() -> None:
    assert {kind.code for kind in error_types(errors.QpudError)} == set(STATUS)


@pytest.mark.parametrize(
    "kind", [kind for kind in error_types(errors.QpudError) if kind.__module__ == errors.__name__]
)
async def test_an_error_is_answered_by_the_table(kind: type[errors.QpudError]) -> None:
    desk = failing(kind("5000 shots exceed MaxShots 1000 of queue development"))
    async with desk.client(peer=1000) as client:
        reply = await client.post("/v1/jobs", json={"sequence": "{}", "shots": 1})
    assert reply.status_code == STATUS[kind.code]
    assert reply.json() == {"detail": "5000 shots exceed MaxShots 1000 of queue development", "code": kind.code}


async def test_a_bug_is_a_500_with_a_reference_that_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    desk = failing(RuntimeError("secret detail"))
    async with desk.client(peer=1000) as client:
        with caplog.at_level(logging.ERROR):
            reply = await client.post("/v1/jobs", json={"sequence": "{}", "shots": 1})
    (record,) = caplog.records
    assert reply.status_code == 500
    assert reply.json()["detail"] == f"internal error, reference {record.reference}"  # type: ignore[attr-defined]
    assert "secret" not in reply.text


async def test_a_bug_in_the_onprem_dialect_is_a_500_in_jsend() -> None:
    desk = failing(RuntimeError("secret detail"))
    async with desk.client(peer=1000) as client:
        reply = await client.post("/api/v1/jobs", json={"pulser_sequence": "{}", "nb_run": 1})
    assert (reply.status_code, reply.json()["status"], reply.json()["code"]) == (500, "error", "500")
    assert "secret" not in reply.text


@pytest.mark.parametrize("path", ["/api/v1/nope", "/r/FRESNEL/api/v2/jobs"])
async def test_an_unknown_path_of_the_onprem_dialect_is_404_in_jsend(path: str) -> None:
    async with Desk().client(peer=1000) as client:
        reply = await client.get(path)
    assert (reply.status_code, reply.json()["status"]) == (404, "fail")


async def test_a_wrong_method_behind_the_prefix_names_the_right_ones() -> None:
    async with Desk().client(peer=1000) as client:
        reply = await client.put("/r/FRESNEL/api/latest/jobs/")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, POST")


async def test_a_query_of_too_many_fields_is_refused() -> None:
    async with Desk().client(peer=1000) as client:
        reply = await client.get("/v1/jobs?" + "&".join(["limit=1"] * 201))
    assert (reply.status_code, reply.json()["detail"]) == (400, "the query string has more than 200 fields")


async def test_what_matches_no_route_of_a_mount_or_no_method_is_counted_as_unmatched() -> None:
    desk = Desk()
    async with desk.client(peer=1000) as client:
        await client.get("/r/FRESNEL/v1/nope")
        await client.get("/v1/jobs/1/hold")
        page = (await client.get("/metrics")).text
    assert 'qpud_http_requests_total{code="4xx",method="GET",route="unmatched"} 2.0' in page


async def test_requests_are_counted_by_route_template() -> None:
    desk = Desk()
    desk.service.jobs[1] = a_job()
    async with desk.client(peer=1000) as client:
        await client.get("/v1/jobs/1")
        await client.get("/v1/jobs/nope")
        await client.request("BREW", "/nowhere")
        page = (await client.get("/metrics")).text
    assert 'qpud_http_requests_total{code="2xx",method="GET",route="/v1/jobs/{job}"} 1.0' in page
    assert 'qpud_http_requests_total{code="4xx",method="GET",route="/v1/jobs/{job}"} 1.0' in page
    assert 'qpud_http_requests_total{code="4xx",method="OTHER",route="unmatched"} 1.0' in page


async def test_a_dead_scheduler_is_503_at_healthz() -> None:
    desk = Desk()
    desk.service.alive = False
    async with desk.client() as client:
        assert [(await client.get(path)).status_code for path in ("/healthz", "/readyz")] == [503, 503]


async def test_anothers_job_looks_like_none() -> None:
    desk = Desk()
    desk.service.jobs[1] = a_job(user_id=1001)
    async with desk.client(peer=1000) as client:
        foreign, unknown = await client.get("/jobs/1"), await client.get("/jobs/2")
    assert (foreign.status_code, foreign.content) == (unknown.status_code, unknown.content)


async def test_a_list_goes_on_where_the_page_ended() -> None:
    desk = Desk()
    desk.service.jobs |= {number: a_job(id=number) for number in range(1, 6)}
    async with desk.client(peer=1000) as client:
        first = (await client.get("/v1/jobs?limit=3")).json()
        second = (await client.get(f"/v1/jobs?limit=3&before={first['next']}")).json()
    assert [job["id"] for job in first["jobs"] + second["jobs"]] == [5, 4, 3, 2, 1]
    assert second["next"] is None


async def test_a_misspelt_filter_is_refused() -> None:
    async with Desk().client(peer=1000) as client:
        reply = await client.get("/v1/jobs?sate=DONE")
    assert (reply.status_code, "sate" in reply.json()["detail"]) == (400, True)


async def test_a_repeated_idempotency_key_returns_the_first_job() -> None:
    desk = Desk()
    async with desk.client(peer=1000) as client:
        headers = {"X-Warden-Session": await a_token(client), "Idempotency-Key": "k"}
        ask = {"sequence": SEQUENCE, "shots": 1}
        ids = [(await client.post("/v1/jobs", json=ask, headers=headers)).json()["id"] for _ in range(2)]
    assert ids == [1, 1]


async def test_an_endless_idempotency_key_is_refused() -> None:
    async with Desk().client(peer=1000) as client:
        reply = await client.post(
            "/v1/jobs", json={"sequence": "{}", "shots": 1}, headers={"Idempotency-Key": "k" * 256}
        )
    assert reply.json()["detail"] == "an Idempotency-Key of 256 characters exceeds 255"


async def test_a_canceled_job_shows_its_shots_on_the_onprem_dialect_only() -> None:
    desk = Desk()
    desk.service.jobs[1] = a_job(state=JobState.CANCELED, shots_done=7)
    desk.service.counts[1] = {"1": 7}
    async with desk.client(peer=1000) as client:
        onprem, qrmi = await client.get("/api/v1/jobs/1"), await client.get("/jobs/1")
    assert onprem.json()["data"]["result"] == '{"counter":{"1":7}}'
    assert qrmi.json()["results"] is None


async def test_a_failed_job_says_why_on_the_onprem_dialect() -> None:
    desk = Desk()
    desk.service.jobs[1] = a_job(state=JobState.ERROR)
    async with desk.client(peer=1000) as client:
        job = (await client.get("/api/v1/jobs/1")).json()["data"]
    assert (job["status"], job["result"], job["error"]) == ("ERROR", None, "the laser tripped")


async def test_a_cancel_asked_twice_is_refused_in_wardens_words() -> None:
    desk = Desk()
    desk.service.jobs[1] = a_job()
    desk.service.run(1)
    async with desk.client(peer=1000) as client:
        first, second = await client.post("/jobs/1/cancel"), await client.post("/jobs/1/cancel")
    assert (first.status_code, first.json()["status"]) == (200, "RUNNING")
    assert (second.status_code, second.json()["detail"]) == (
        409,
        "Job with status was already requested to be stopped",
    )


async def test_info_names_queues_with_their_limits_and_bound_addresses() -> None:
    async with Desk().client(peer=1000) as client:
        info = (await client.get("/v1/info")).json()
    tiers = {queue["name"]: queue["priority_tier"] for queue in info["queues"]}
    assert tiers == {"production": 100, "test": 50, "development": 10}
    assert info["urls"] == ["http://127.0.0.1:8006"]


@pytest.mark.parametrize("named", [4242, "4242"])
async def test_a_submission_may_name_a_held_slurm_job(named: object) -> None:
    desk = Desk()
    async with desk.client(peer=1000) as client:
        session = {"X-Warden-Session": (await client.post("/v1/sessions", json={})).json()["token"]}
        body = {"sequence": SEQUENCE, "shots": 5, "then_release": named}
        assert (await client.post("/v1/jobs", json=body, headers=session)).status_code == 201
        assert desk.service.asks[1].then_release == 4242


@pytest.mark.parametrize("named", [0, -1, "", "4242_1", "4242.run-1", 2**32, "x", "٤"])
async def test_what_is_no_slurm_jobs_number_is_refused(named: object) -> None:
    desk = Desk()
    async with desk.client(peer=1000) as client:
        session = {"X-Warden-Session": (await client.post("/v1/sessions", json={})).json()["token"]}
        body = {"sequence": SEQUENCE, "shots": 5, "then_release": named}
        refused = await client.post("/v1/jobs", json=body, headers=session)
        assert refused.status_code == 400
        assert "is not the number of a Slurm job" in refused.json()["detail"]
