"""What drivers keep of a device: its spec, fetched again when it is old, and the sequences built for it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from qpud.drivers.base import DeviceSpec, Refused, SliceRequest, Unreachable, WorkersProtocol
from qpud.drivers.workers import WorkerFault

SPEC_SECONDS = 60.0
"""Age at which the device spec is fetched again."""

LARGEST_JOB = 2**31 - 1
"""Shots that a job may have anyway: a larger max_runs limits nothing."""


class KeptSpec:
    """The device spec of a resource that has to be asked for it.

    Args:
        name: The resource, for messages.
        fetch: Asks it; raises Unreachable.
    """

    def __init__(self, name: str, fetch: Callable[[], Awaitable[DeviceSpec]]) -> None:
        self._name = name
        self._fetch = fetch
        self._spec: DeviceSpec | None = None
        self._until = 0.0
        self._fetching = asyncio.Lock()

    async def get(self) -> DeviceSpec:
        """The spec, at most SPEC_SECONDS old while the resource answers. Raises: Unreachable, if it never did."""
        async with self._fetching:
            if self._spec is None or time.monotonic() >= self._until:
                await self._refresh()
        if self._spec is None:
            raise Unreachable(f"resource {self._name} has no device spec")
        return self._spec

    def doubt(self) -> None:
        """Fetch it again when it is wanted next: the resource refused what fitted the one we have."""
        self._until = 0.0

    async def _refresh(self) -> None:
        try:
            self._spec = await self._fetch()
        except Unreachable:
            if self._spec is None:
                raise
        self._until = time.monotonic() + SPEC_SECONDS


class Built:
    """Sequences as a QPU takes them, built once per job and device spec.

    Args:
        name: The resource, for messages.
        workers: Builds them.
    """

    def __init__(self, name: str, workers: WorkersProtocol) -> None:
        self._name = name
        self._workers = workers
        self._texts: dict[int, tuple[str, str]] = {}  # job id → spec hash, text

    async def text(self, request: SliceRequest, spec: DeviceSpec) -> str:
        """The job's sequence on this device. Raises: Refused."""
        built_for, text = self._texts.get(request.job_id, ("", ""))
        if built_for != spec.hash:
            try:
                text = await self._workers.build(request.program, spec)
            except WorkerFault as fault:
                message = f"the sequence cannot be built for resource {self._name}: {fault.message}"
                raise Refused(message, transient=fault.transient) from fault
            self._texts[request.job_id] = (spec.hash, text)
        return text

    def release(self, job_id: int) -> None:
        """Drop the job's sequence."""
        self._texts.pop(job_id, None)


def read_spec(name: str, specs: Any, *, is_emulator: bool = False) -> DeviceSpec:
    """The device spec, an object or its text, in one spelling: its hash must not depend on how it was sent.

    Args:
        name: The resource, for messages.
        specs: As reported.
        is_emulator: It also runs sequences written for virtual devices.

    Raises:
        Unreachable: It is no device spec.
    """
    try:
        content = msgspec.json.decode(specs) if isinstance(specs, str) else specs
    except (msgspec.DecodeError, RecursionError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        raise Unreachable(f"resource {name} reports no device spec: specs is neither a device nor its text")
    if not _is_text(content):
        raise Unreachable(f"resource {name} reports no device spec: specs holds half a character")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    most = content.get("max_runs")
    return DeviceSpec(
        name=content["name"],
        text=text,
        hash=hashlib.sha256(text.encode()).hexdigest(),
        max_runs=most if type(most) is int and most <= LARGEST_JOB else None,
        accepts_virtual=is_emulator or content.get("is_virtual") is True,
    )


def _is_text(content: dict[str, Any]) -> bool:
    """Whether no string is cut within a character: such a one ends the worker that reads it, and the store."""
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
