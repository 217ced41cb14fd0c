"""One worker for all tests of this folder: it takes seconds to start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from qpud.drivers.workers import Workers


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def workers(worker_python: Path) -> AsyncIterator[Workers]:
    shared = Workers(worker_python, validation_memory=2 << 30, validation_timeout=10)
    await shared.open()
    try:
        yield shared
    finally:
        await shared.close()
