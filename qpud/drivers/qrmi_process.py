"""The daemon's side of the qrmi helper (qpud/worker/vendor.py): started when needed, ended when it does not answer.

qrmi has no time limits and repeats nothing. A request that takes too long kills the helper, and the next one starts
another; what the killed one had asked of the resource is then not known.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from qpud.core.resource import ResourcePolicy
from qpud.drivers.base import Fault, Unreachable
from qpud.drivers.launch import Launched, launch, listen
from qpud.drivers.private import private_text

MODULE = "qpud.worker.vendor"
START_SECONDS = 60.0
END_SECONDS = 5.0
PAUSE_SECONDS = 5.0
"""After a helper that could not start, the next one is tried so much later."""


class Told(Fault):
    """qrmi raised; `kind` is the class of its exception."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class Lost(Unreachable):
    """No answer. `sent` is False if the helper certainly never got the request."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class _Settings(msgspec.Struct, frozen=True):
    name: str
    type: str
    daemon: int


class QrmiProcess:
    """The helper of one resource.

    Args:
        policy: QrmiPython, QrmiType, QrmiName, QrmiEnvironmentFile, RequestTimeout.
        python: The interpreter where QrmiPython names none.
    """

    def __init__(self, policy: ResourcePolicy, python: Path) -> None:
        self.version = ""
        self.has_token = False
        """Whether the environment of the helper that runs brings a session: nothing is acquired then."""
        self._name = policy.name
        self._python = policy.qrmi_python or python
        self._settings = _Settings(policy.qrmi_name or policy.name, str(policy.qrmi_type), os.getpid())
        self._file = policy.qrmi_environment_file
        self._timeout = policy.request_timeout
        self._launched: Launched | None = None
        self._listening: asyncio.Task[None] | None = None
        self._last_words: deque[str] = deque(maxlen=5)
        self._numbers = itertools.count(1)
        self._turn = asyncio.Lock()
        self._not_before = 0.0
        self._why = ""

    async def close(self) -> None:
        """End the helper."""
        async with self._turn:
            await self._end()

    async def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """One request, in turn. Raises: Told, Lost."""
        async with self._turn:
            try:
                launched = await self._ready()
                async with asyncio.timeout(self._timeout):
                    answer = await self._exchange(launched, {"id": next(self._numbers), "op": operation, **fields})
            except (TimeoutError, OSError, ValueError) as broken:
                why = f"did not answer within {self._timeout:g} s" if isinstance(broken, TimeoutError) else "ended"
                await self._end()
                raise Lost(f"resource {self._name}: qrmi's {operation} {why}", sent=True) from broken
            except asyncio.CancelledError:
                await asyncio.shield(self._end())  # its answer must not be taken for the next one's
                raise
        if "ok" in answer:
            found: dict[str, Any] = answer["ok"]
            return found
        raise Told(_one_line(str(answer.get("error"))), str(answer.get("kind")))

    async def _exchange(self, launched: Launched, request: dict[str, Any]) -> dict[str, Any]:
        launched.writer.write(json.dumps(request).encode() + b"\n")
        line = await launched.reader.readline()
        if not line:
            raise ConnectionError("it ended")
        found: dict[str, Any] = json.loads(line)
        return found

    async def _ready(self) -> Launched:
        if self._launched is not None and self._launched.process.returncode is None:
            return self._launched
        await self._end()
        if asyncio.get_running_loop().time() < self._not_before:
            raise Lost(self._why, sent=False)
        try:
            return await self._start(await asyncio.to_thread(self._variables))
        except (OSError, TimeoutError, ValueError) as error:
            words = getattr(error, "strerror", None) or str(error) or f"no answer in {START_SECONDS:.0f} s"
            raise await self._failed(f"the helper {self._python} cannot be run: {words}") from error

    async def _start(self, variables: dict[str, str]) -> Launched:
        launched = self._launched = await launch(self._python, self._settings, MODULE, variables)
        self.has_token = f"{self._settings.name}_QRMI_JOB_ACQUISITION_TOKEN" in variables
        self._last_words.clear()
        self._listening = asyncio.create_task(listen(launched.process, self._last_words), name="qrmi-stderr")
        async with asyncio.timeout(START_SECONDS):
            line = await launched.reader.readline()
        told = json.loads(line) if line else {}
        if "ready" not in told:
            raise await self._failed(str(told.get("failed") or " ".join(self._last_words) or "the helper ended"))
        self.version = str(told["ready"].get("qrmi"))
        return launched

    async def _failed(self, why: str) -> Lost:
        await self._end()
        self._not_before = asyncio.get_running_loop().time() + PAUSE_SECONDS
        self._why = f"resource {self._name}: {why[:500]}"
        return Lost(self._why, sent=False)

    async def _end(self) -> None:
        launched, self._launched = self._launched, None
        if launched is None:
            return
        launched.writer.close()
        try:
            async with asyncio.timeout(END_SECONDS if self._is_idle(launched) else 0):
                await launched.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                launched.process.kill()
            await launched.process.wait()
        if self._listening is not None:
            await self._listening
        with contextlib.suppress(OSError):
            await launched.writer.wait_closed()
        if launched.folder is not None:
            launched.folder.cleanup()

    def _is_idle(self, launched: Launched) -> bool:
        return launched.process.returncode is None and not launched.reader.at_eof()

    def _variables(self) -> dict[str, str]:
        """The environment of the helper: the file's lines NAME=value. Raises: Lost, which quotes nothing of it."""
        defaults = {"QRMI_JOB_UID": str(os.getuid()), "QRMI_JOB_ID": "0"}
        if self._file is None:
            return defaults
        what = f"resource {self._name}: QrmiEnvironmentFile {self._file}"
        try:
            lines = [line.strip() for line in private_text(self._file).splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise Lost(f"{what}: {getattr(error, 'strerror', None) or 'it is no text'}", sent=False) from None
        pairs = [line.removeprefix("export ").partition("=") for line in lines if line and line[0] != "#"]
        if any(not equals for _name, equals, _value in pairs):
            raise Lost(f"{what} cannot be read: it needs lines NAME=value", sent=False)
        return {**defaults, **{name.strip(): value.strip().strip("'\"") for name, _equals, value in pairs}}


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
