"""The real server on real sockets: peers, held requests, stopping, and what is not HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvloop
from fakes import Desk, a_job

from qpud.api import bodies, server
from qpud.api.server import LARGEST_HEAD, Server


@asynccontextmanager
async def serving(desk: Desk, folder: Path) -> AsyncIterator[tuple[Server, asyncio.Task[None], int]]:
    unix, tcp = socket.socket(socket.AF_UNIX), socket.socket()
    unix.bind(str(folder / "s"))
    tcp.bind(("127.0.0.1", 0))
    for one in (unix, tcp):
        one.listen()
        one.setblocking(False)
    port = tcp.getsockname()[1]
    server = Server(desk.app, [unix, tcp])
    running = asyncio.create_task(server.run())
    await asyncio.wait_for(server.listening(), 5)
    try:
        yield server, running, port
    finally:
        server.stop()
        await asyncio.wait((running,), timeout=5)


def over_unix(folder: Path) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=str(folder / "s"))
    return httpx.AsyncClient(transport=transport, base_url="http://qpud", timeout=10)


async def the_peer_is_known_on_the_unix_socket_only(folder: Path) -> None:
    async with (
        serving(Desk(), folder) as (_server, _running, port),
        over_unix(folder) as unix,
        httpx.AsyncClient() as tcp,
    ):
        opened = await unix.post("/v1/sessions", json={})
        refused = await tcp.post(f"http://127.0.0.1:{port}/v1/sessions", json={})
    assert opened.json()["user_id"] == os.getuid()
    assert refused.status_code == 401


async def test_the_peer_is_known_on_the_unix_socket_only(tmp_path: Path) -> None:
    await the_peer_is_known_on_the_unix_socket_only(tmp_path)


def test_the_peer_is_known_under_uvloop_too(tmp_path: Path) -> None:
    uvloop.run(the_peer_is_known_on_the_unix_socket_only(tmp_path))


def a_desk_with_a_job() -> Desk:
    desk = Desk()
    desk.service.jobs[1] = a_job(user_id=os.getuid())
    return desk


async def test_a_held_request_is_answered_by_the_change(tmp_path: Path) -> None:
    desk = a_desk_with_a_job()
    async with serving(desk, tmp_path), over_unix(tmp_path) as client:
        held = asyncio.create_task(client.get("/v1/jobs/1?wait=60"))
        await asyncio.wait_for(desk.service.waiting.wait(), 5)
        desk.service.finish(1, {"1": 100})
        assert (await asyncio.wait_for(held, 5)).json()["state"] == "DONE"


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_a_held_request_is_answered_when_the_server_ends(tmp_path: Path, how: str) -> None:
    desk = a_desk_with_a_job()
    async with serving(desk, tmp_path) as (server, running, _port), over_unix(tmp_path) as client:
        held = asyncio.create_task(client.get("/v1/jobs/1?wait=60"))
        await asyncio.wait_for(desk.service.waiting.wait(), 5)
        server.stop() if how == "stop" else running.cancel()
        reply = await asyncio.wait_for(held, 5)
        await asyncio.wait((running,), timeout=5)
    assert (reply.status_code, reply.json()["state"]) == (200, "PENDING")
    assert running.done()


async def test_a_client_that_leaves_is_waited_for_no_longer(tmp_path: Path) -> None:
    desk = a_desk_with_a_job()
    async with serving(desk, tmp_path), over_unix(tmp_path) as client:
        held = asyncio.create_task(client.get("/v1/jobs/1?wait=60"))
        await asyncio.wait_for(desk.service.waiting.wait(), 5)
        held.cancel()
        await asyncio.wait_for(desk.service.left.wait(), 5)
    assert desk.service.left.is_set()


async def test_a_wait_is_bounded(tmp_path: Path) -> None:
    desk = a_desk_with_a_job()
    desk.service.changed.set()
    async with serving(desk, tmp_path), over_unix(tmp_path) as client:
        await client.get("/v1/jobs/1?wait=86400")
    assert desk.service.waited_seconds == 300.0


async def test_held_time_is_no_latency(tmp_path: Path) -> None:
    desk = a_desk_with_a_job()
    async with serving(desk, tmp_path), over_unix(tmp_path) as client:
        held = asyncio.create_task(client.get("/v1/jobs/1?wait=60"))
        await asyncio.wait_for(desk.service.waiting.wait(), 5)
        await asyncio.sleep(0.3)  # the time that must not be seen
        desk.service.finish(1, {"1": 100})
        await held
    page = desk.metrics.render().decode()
    (total,) = [
        line for line in page.splitlines() if line.startswith('qpud_http_request_seconds_sum{route="/v1/jobs/{job}"')
    ]
    assert float(total.rsplit(" ", 1)[1]) < 0.2


async def test_a_request_that_never_ends_does_not_keep_the_server(tmp_path: Path) -> None:
    desk = a_desk_with_a_job()

    async def stuck(*_args: object) -> None:
        desk.service.waiting.set()
        await asyncio.Event().wait()

    desk.service.list_jobs = stuck  # type: ignore[method-assign, assignment]
    async with serving(desk, tmp_path) as (server, running, _port), over_unix(tmp_path) as client:
        asked = asyncio.create_task(client.get("/v1/jobs"))
        await asyncio.wait_for(desk.service.waiting.wait(), 5)
        began = time.monotonic()
        server.stop()
        await asyncio.wait((running,), timeout=5)
        asked.cancel()
    assert time.monotonic() - began < 3.5
    assert running.done()


async def raw(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        await writer.drain()
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "data",
    [b"garbage\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"a" * (LARGEST_HEAD + 1)],
    ids=["garbage", "path", "endless head"],
)
async def test_what_is_not_http_is_refused_in_json(tmp_path: Path, data: bytes) -> None:
    async with serving(Desk(), tmp_path) as (_server, _running, port):
        answer = await raw(port, data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b'"code":"bad_request"}')


async def test_a_body_that_is_too_large_closes_the_connection_unread(tmp_path: Path) -> None:
    async with serving(Desk(max_body_size=1024), tmp_path) as (_server, _running, port):
        answer = await raw(port, b"POST /jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_one_connection_serves_many_requests(tmp_path: Path) -> None:
    close = b"GET /accessible HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    async with serving(Desk(), tmp_path) as (_server, _running, port):
        answer = await raw(port, b"GET /accessible HTTP/1.1\r\nhost: x\r\n\r\n" * 3 + close)
    assert answer.count(b"HTTP/1.1 200 OK") == 4


async def test_head_and_body_of_an_answer_arrive_together(tmp_path: Path) -> None:
    async with serving(Desk(), tmp_path) as (_server, _running, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /accessible HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(4096), 5)
        writer.close()
    assert answer.endswith(b"}")


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_a_head_that_no_body_follows_is_sent(tmp_path: Path, connection: str) -> None:
    async with serving(Desk(), tmp_path) as (_server, _running, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"HEAD /accessible HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 OK")


async def test_a_client_that_asks_whether_to_go_on_is_told_at_once(tmp_path: Path) -> None:
    async with serving(Desk(), tmp_path) as (_server, _running, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /jobs HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        told = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.write(b"{}")
        answer = await asyncio.wait_for(reader.read(4096), 5)
        writer.close()
    assert told.startswith(b"HTTP/1.1 100 ")
    assert answer.startswith(b"HTTP/1.1 401 ")


async def drip(port: int, first: bytes) -> bytes:
    """What is answered to a client that sends a byte now and then and never comes to an end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    answer = asyncio.create_task(reader.read(4096))
    async with asyncio.timeout(10):
        while not answer.done():
            writer.write(b"x")
            await asyncio.wait((answer,), timeout=0.05)
    writer.close()
    return answer.result()


async def test_a_head_that_only_drips_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    async with serving(Desk(), tmp_path) as (_server, _running, port):
        assert b"head did not arrive whole within 0.3 s" in await drip(port, b"GET / HTTP/1.1\r\nx: ")


async def test_a_body_that_only_drips_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.3)
    async with serving(Desk(), tmp_path) as (_server, _running, port):
        sent = b"POST /v1/jobs HTTP/1.1\r\nhost: q\r\ncontent-length: 100000\r\n\r\n"
        assert b"did not arrive whole within 0.3 s" in await drip(port, sent)


async def test_bodies_that_arrive_at_once_take_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_ARRIVING", 1000)
    desk = Desk(max_body_size=1000)
    async with serving(desk, tmp_path) as (_server, _running, port), httpx.AsyncClient() as client:
        unfinished = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(4)]
        for one in unfinished:
            one.write(b"POST /v1/jobs HTTP/1.1\r\nhost: q\r\ncontent-length: 1000\r\n\r\n" + b"x" * 990)
        url = f"http://127.0.0.1:{port}/v1/jobs"
        async with asyncio.timeout(5):
            while (refused := await client.post(url, content=b"x" * 100)).status_code != 503:
                await asyncio.sleep(0.01)
        assert "bodies arrive at once" in refused.text
        for one in unfinished:
            one.close()
        async with asyncio.timeout(5):
            while (await client.post(url, content=b"x" * 100)).status_code == 503:
                await asyncio.sleep(0.01)


async def test_whoever_takes_all_connections_does_not_lock_root_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "OVER_TCP", 0.0)
    monkeypatch.setattr(server, "peer_uid", lambda sock: 0 if sock.family == socket.AF_UNIX else None)
    async with serving(Desk(), tmp_path) as (_server, _running, port), over_unix(tmp_path) as unix:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert b"503 Service Unavailable" in await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert (await unix.get("/healthz")).status_code == 200


async def test_one_user_leaves_connections_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "OF_ONE_USER", 0.0)
    monkeypatch.setattr(server, "peer_uid", lambda sock: 1001 if sock.family == socket.AF_UNIX else None)
    async with serving(Desk(), tmp_path) as (_server, _running, port), over_unix(tmp_path) as unix:
        assert (await unix.get("/healthz")).status_code == 503
        async with httpx.AsyncClient() as tcp:
            assert (await tcp.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
