"""Job ids: one integer sequence and one uuid that carries it, so that no index is needed to find a job by uuid."""

from __future__ import annotations

import re

LARGEST_JOB_ID = 2**31 - 1  # released QRMI clients parse an i32

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


def job_uid(job_id: int, randomness: int) -> str:
    """The uuid of a job: RFC 9562 version 8 with the id in its first 32 bits.

    Args:
        job_id: 1 … 2³¹−1.
        randomness: 90 random bits, so that uuids of several daemons differ.
    """
    digits = f"{randomness & ((1 << 90) - 1):023x}"
    variant = "89ab"[int(digits[0], 16) & 3]
    return f"{job_id:08x}-{digits[1:5]}-8{digits[5:8]}-{variant}{digits[8:11]}-{digits[11:23]}"


def job_id_of(ref: str) -> int | None:
    """The integer id in a reference, which is an id or a uuid; None if it can be neither."""
    if ref.isascii() and ref.isdigit() and len(ref) <= 10:
        return int(ref) if 0 < int(ref) <= LARGEST_JOB_ID else None
    return int(ref[:8], 16) if _UUID.fullmatch(ref) else None
