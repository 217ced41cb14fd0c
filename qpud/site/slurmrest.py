"""One Slurm job from slurmrestd over its Unix socket: faster than squeue, and JSON, which nobody can forge.

Both shapes are read: plain values up to v0.0.38, `{"set", "infinite", "number"}` and lists of states from v0.0.40 on.
slurmrestd must run as the daemon's own user, or the daemon as root (rest_auth/local), see facts/SLURM.md §3.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import msgspec

from qpud.core.slurm import SlurmAway, SlurmJob, units_of

VERSIONS = ("v0.0.40", "v0.0.38")
"""Tried in this order, until one is known: together they cover Slurm 22.05 to 25.05."""

_LONGEST_BODY = 8 << 20  # an array's answer holds all its tasks
_NO_SUCH_JOB = 2017  # ESLURM_INVALID_JOB_ID
_FLAGS_FIRST = ("COMPLETING", "CONFIGURING")  # as squeue prints them, instead of the state they go with


class SlurmRest:
    """Asks one slurmrestd.

    Args:
        socket: Its Unix socket.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._version: str | None = None

    async def job(self, number: int) -> SlurmJob | None:
        """A job by its id; None if Slurm does not know it. Raises: SlurmAway."""
        for version in VERSIONS if self._version is None else (self._version,):
            body = await self._get(f"/slurm/{version}/job/{number}")
            if body is not None:
                self._version = version
                return _job_in(body, number)
        raise SlurmAway(f"slurmrestd at {self._socket} speaks none of {', '.join(VERSIONS)}")

    async def _get(self, path: str) -> dict[str, Any] | None:
        """The answer's object; None if this path is unknown. Raises: SlurmAway."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError as why:
            raise SlurmAway(f"slurmrestd at {self._socket}: {why.strerror}") from None
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n".encode())
            return await _answer(reader)
        except (OSError, EOFError, ValueError, RecursionError, msgspec.DecodeError, asyncio.LimitOverrunError) as why:
            raise SlurmAway(f"slurmrestd at {self._socket} answers what cannot be read ({why})") from None
        finally:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """Head and body; what slurmrestd appends after Content-Length bytes is left unread."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status = head[9:12]  # after HTTP/1.1
    if status == "404":
        return None
    length = re.search(r"(?im)^content-length: *([0-9]{1,9})\s*$", head)
    if status not in ("200", "500") or length is None or int(length[1]) > _LONGEST_BODY:
        raise ValueError(f"status {status!r}, {length[0].strip() if length else 'no length'}")
    return msgspec.json.decode(await reader.readexactly(int(length[1])), type=dict[str, Any])


def _job_in(body: dict[str, Any], number: int) -> SlurmJob | None:
    """The job in an answer. Raises: SlurmAway, if it is an error or has another shape."""
    try:
        errors = body.get("errors") or []
        if any(error.get("error_number") == _NO_SUCH_JOB for error in errors):
            return None
        if errors:
            raise SlurmAway(f"slurmrestd answers {str(errors[0].get('error') or errors[0].get('description'))[:100]}")
        found = [job for job in body["jobs"] if job["job_id"] == number]
        return _job_of(found[0]) if len(found) == 1 else None
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as why:
        raise SlurmAway(f"slurmrestd answers a job of an unknown shape ({why!r})") from None


def _job_of(job: dict[str, Any]) -> SlurmJob:
    return SlurmJob(
        id=int(job["job_id"]),
        user_id=int(job["user_id"]),
        partition=str(job["partition"]),
        state=_state(job["job_state"]),
        nodes=max(1, int(_number(job["node_count"]) or 1)),
        started_at=_number(job["start_time"]) or None,
        # without a time limit Slurm counts a year
        ends_at=None if _number(job["time_limit"]) is None else _number(job["end_time"]) or None,
        units=units_of(job.get("licenses") or "", job.get("tres_per_node") or ""),
        account=job.get("account") or None,
        qos=job.get("qos") or None,
        priority=int(_number(job.get("priority")) or 0),
    )


def _state(shown: str | list[str]) -> str:
    if isinstance(shown, str):
        return shown
    return next((flag for flag in _FLAGS_FIRST if flag in shown), shown[0])


def _number(shown: dict[str, Any] | float | None) -> float | None:
    """A number in either shape; None if it is unset or infinite."""
    if isinstance(shown, dict):
        return float(shown["number"]) if shown["set"] and not shown["infinite"] else None
    return None if shown is None else float(shown)
