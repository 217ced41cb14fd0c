"""The bare stack: the same libraries, munge decoded in the loop and group commit, and nothing else. An upper bound.

python tests/bench/bare.py PORT DATABASE        with QPUD_MUNGE_SOCKET in the environment
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qpud.site.munge import Munge
from qpud.store.writer import Writer


class Body(msgspec.Struct):
    sequence: str
    shots: int


async def serve(port: int, database: Path) -> None:
    writer = Writer(database, lambda _number, _seconds: None)
    await writer.run(lambda c: c.execute("CREATE TABLE bare (id INTEGER PRIMARY KEY, user_id, shots, sequence)"))
    munge = Munge()
    decoder = msgspec.json.Decoder(Body)
    last = 0

    async def submit(request: Request) -> Response:
        nonlocal last
        credential = request.headers.get("x-munge-cred")
        user_id = munge.decode(credential).uid if credential else 0
        body = decoder.decode(await request.body())
        last += 1
        row = (last, user_id, body.shots, body.sequence)
        await writer.run(lambda c: c.execute("INSERT INTO bare VALUES (?, ?, ?, ?)", row).rowcount)
        answer = {"id": row[0], "user_id": str(user_id), "created_at": "", "status": "PENDING", "results": None}
        return Response(msgspec.json.encode(answer), 201, media_type="application/json")

    app = Starlette(routes=[Route("/jobs", submit, methods=["POST"])])
    config = uvicorn.Config(app, port=port, http="httptools", lifespan="off", access_log=False, log_level="warning")
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
