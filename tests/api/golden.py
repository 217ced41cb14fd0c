"""Golden files: what clients see, whole. `QPUD_WRITE_GOLDEN=1 pytest tests/api` writes them; read the diff."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx

FOLDER = Path(__file__).parent / "golden"


def compare(name: str, text: str) -> None:
    """Compare with a golden file, or write it when asked to."""
    path = FOLDER / name
    if os.environ.get("QPUD_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


class Recorder:
    """Records a conversation: method and path, status, body."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.lines: list[dict[str, Any]] = []

    async def __call__(self, method: str, path: str, **options: Any) -> Any:
        """Send one request, note the answer, return its body."""
        reply = await self._client.request(method, f"http://qpud{path}", **options)
        self.lines.append({"ask": f"{method} {path}", "status": reply.status_code, "body": reply.json()})
        return reply.json()

    def text(self) -> str:
        """The conversation as indented JSON."""
        return json.dumps(self.lines, indent=1, ensure_ascii=False) + "\n"
