"""Bodies: limits, encodings, and a readable sentence for whatever arrives."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fakes import SEQUENCE, Desk, a_token
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GOOD = b'{"sequence":"{}","shots":1}'
LIMIT = 4096


async def posted(body: bytes | AsyncIterator[bytes], desk: Desk | None = None, **headers: str) -> httpx.Response:
    desk = desk or Desk(max_body_size=LIMIT)
    async with desk.client(peer=1000) as client:
        token = await a_token(client)
        named = {name.replace("_", "-"): value for name, value in headers.items()} | {"X-Warden-Session": token}
        return await client.post("/v1/jobs", content=body, headers=named)


async def test_a_body_over_the_limit_is_413_by_its_content_length() -> None:
    reply = await posted(b" " * (LIMIT + 1))
    assert reply.status_code == 413
    assert reply.json()["detail"] == f"the body of {LIMIT + 1} bytes exceeds MaxBodySize {LIMIT} bytes"


async def test_a_streamed_body_over_the_limit_is_413() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    assert (await posted(endless())).status_code == 413


async def test_a_streamed_body_within_the_limit_is_read_whole() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(GOOD), 5):
            yield GOOD[start : start + 5]

    assert (await posted(pieces())).status_code == 201


async def test_a_gzip_bomb_is_413() -> None:
    bomb = gzip.compress(b" " * 3_000_000)
    assert len(bomb) < LIMIT
    assert (await posted(bomb, Content_Encoding="gzip")).status_code == 413


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_body_is_inflated(encoding: str, pack: Any) -> None:
    assert (await posted(pack(GOOD), Content_Encoding=encoding)).status_code == 201


@pytest.mark.parametrize(
    ("body", "encoding", "sentence"),
    [
        (b"garbage", "gzip", "the body is not valid gzip"),
        (b"garbage", "deflate", "the body is not valid deflate"),
        (gzip.compress(GOOD)[:-4], "gzip", "the gzip body is cut short or has a tail"),
        (gzip.compress(GOOD) + b"x", "gzip", "the gzip body is cut short or has a tail"),
        (GOOD, "br", "Content-Encoding 'br' is unknown: send gzip, deflate or identity"),
    ],
)
async def test_a_damaged_encoding_is_400_with_the_reason(body: bytes, encoding: str, sentence: str) -> None:
    reply = await posted(body, Content_Encoding=encoding)
    assert (reply.status_code, reply.json()["detail"]) == (400, sentence)


SENTENCES = [
    (b"", 400, "the body is empty, JSON is expected"),
    (b"not json", 400, "the body is not JSON: invalid character (byte 4)"),
    (b'{"sequence":"{}","shots":NaN}', 400, "the body is not JSON: invalid character (byte 25)"),
    (b'{"sequence":"\xff","shots":1}', 400, "the body is not UTF-8"),
    (b'{"sequence":{"a":"\xff"},"shots":1}', 400, "the body is not UTF-8"),
    (b'{"x":' + b"[" * 1500 + b"]" * 1500 + b"}", 400, "the body is nested too deeply"),
    (b'{"sequence":' + b"[" * 1500 + b"]" * 1500 + b',"shots":1}', 400, "the body is nested too deeply"),
    (b'{"sequence":"{}"}', 422, "the body is not valid: object missing required field shots"),
    (b'{"sequence":"{}","shots":"9"}', 422, "the body is not valid: expected int, got str, in shots"),
    (b'{"sequence":"{}","shots":0}', 422, "the body is not valid: expected int >= 1, in shots"),
    (b'{"sequence":"{}","shots":3000000000}', 422, "the body is not valid: expected int <= 2147483647, in shots"),
    (b'{"sequence":4,"shots":1}', 422, "the body is not valid: expected str or object, in sequence"),
    (
        b'[{"sequence":"{}","shots":1},{"shots":2}]',
        422,
        "the body is not valid: object missing required field sequence, in [1]",
    ),
    (b"[]", 422, "a batch of 0 jobs is outside 1 … 1000"),
    (
        b'{"sequence":"{}","shots":1,"variables":{"a":[[1]]}}',
        422,
        "the body is not valid: expected int | float, got array, in variables[...][0]",
    ),
]


@pytest.mark.parametrize(("body", "status", "sentence"), SENTENCES, ids=range(len(SENTENCES)))
async def test_an_unreadable_body_gets_one_sentence(body: bytes, status: int, sentence: str) -> None:
    reply = await posted(body)
    assert (reply.status_code, reply.json()["detail"]) == (status, sentence)


async def test_a_sequence_given_as_an_object_keeps_its_digits() -> None:
    desk = Desk()
    await posted(b'{"sequence": {"x": 1.10, "y": 0.1000000000000000055511151231257827},"shots":1}', desk)
    assert desk.service.asks[1].sequence == '{"x": 1.10, "y": 0.1000000000000000055511151231257827}'


async def test_a_sequence_given_as_text_arrives_as_it_is() -> None:
    desk = Desk()
    async with desk.client(peer=1000) as client:
        token = await a_token(client)
        named = {"X-Warden-Session": token}
        await client.post(
            "/v1/jobs", json=[{"sequence": SEQUENCE, "shots": 1}, {"sequence": {}, "shots": 1}], headers=named
        )
    assert [desk.service.asks[job].sequence for job in (1, 2)] == [SEQUENCE, "{}"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**40) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        name: JSON
        for name in (
            "sequence",
            "shots",
            "variables",
            "resource",
            "name",
            "tags",
            "user",
            "user_id",
            "slurm_job_id",
            "queue",
            "share",
            "hint",
            "qpu_slots",
            "is_accessible",
            "message",
            "reason",
            "nb_run",
            "pulser_sequence",
            "context",
        )
    },
)
POSTS = [
    "/v1/sessions",
    "/v1/jobs",
    "/sessions",
    "/jobs",
    "/accessible",
    "/v1/jobs/cancel",
    "/v1/jobs/1/queue",
    "/v1/reservations",
    "/v1/resources/FRESNEL/drain",
    "/api/v1/jobs",
]


def encoded(value: Any) -> bytes:
    import json

    return json.dumps(value).encode("utf-8", "surrogatepass")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(POSTS), body=st.binary(max_size=200) | (FIELDS | JSON | st.lists(FIELDS)).map(encoded))
async def test_no_body_is_a_500(path: str, body: bytes) -> None:
    desk = Desk()
    async with desk.client(peer=0) as client:
        token = await a_token(client)
        reply = await client.post(path, content=body, headers={"X-Warden-Session": token})
    assert reply.status_code < 500
    assert isinstance(reply.json(), dict | list)


QUERIES = ["/v1/jobs", "/v1/sessions", "/v1/jobs/1", "/jobs", "/sessions", "/accounting/jobs", "/v1/accounting/users"]


@settings(max_examples=100, deadline=None)
@given(
    path=st.sampled_from(QUERIES),
    query=st.text(max_size=40),
    name=st.sampled_from(["limit", "wait", "state", "ended_after", "user", "user_ids", "offset", "active"]),
)
async def test_no_query_is_a_500(path: str, query: str, name: str) -> None:
    desk = Desk()
    desk.service.changed.set()
    async with desk.client(peer=0) as client:
        reply = await client.get(path, params={name: query})
    assert reply.status_code < 500
