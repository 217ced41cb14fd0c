"""The error tree: one class per answer a client can get.

QpudError (internal, 500)
├── BadRequest          the body or a parameter cannot be read              400
├── Unauthenticated     no credential, or one that does not prove anything  401
├── Forbidden           known, but not allowed                              403
├── NotFound            no such object, or somebody else's                  404
├── Conflict            the object is not in a state that permits this      409
├── TooLarge            the body exceeds MaxBodySize                        413
├── Invalid             readable, but the resource cannot run it            422
├── LimitExceeded       a policy limit; says which, its value, what fits    422
├── TooManyRequests     come back later                                     429
├── Unavailable         the resource or the worker cannot answer now        503
└── StorageFull         nothing can be committed                            507

Each message is one sentence naming the object, the value and the limit. The HTTP status of each code is in
one table, `qpud/api/errors.py`; `core` knows no HTTP.
"""

from __future__ import annotations

from typing import ClassVar


class QpudError(Exception):
    """Anything qpud refuses or fails to do, with a sentence for the user.

    Args:
        message: One sentence naming the object, the value and the limit.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequest(QpudError):
    """The body or a parameter cannot be read."""

    code = "bad_request"


class Unauthenticated(QpudError):
    """No credential, or one that proves nothing: missing, expired, replayed, garbage."""

    code = "unauthenticated"


class Forbidden(QpudError):
    """The caller is known but may not do this."""

    code = "forbidden"


class NotFound(QpudError):
    """No such object; another user's object looks the same."""

    code = "not_found"


class Conflict(QpudError):
    """The object's state does not permit this."""

    code = "conflict"


class TooLarge(QpudError):
    """The body exceeds MaxBodySize."""

    code = "too_large"


class Invalid(QpudError):
    """Readable, but the resource cannot run it (Pulser's verdict, or the structural check's)."""

    code = "invalid"


class LimitExceeded(QpudError):
    """A limit of the policy was exceeded; the message says which, its value, and what fits."""

    code = "limit_exceeded"


class TooManyRequests(QpudError):
    """Come back later."""

    code = "too_many_requests"


class Unavailable(QpudError):
    """The resource, its spec or the worker cannot answer now."""

    code = "unavailable"


class StorageFull(QpudError):
    """Nothing can be committed: the disk of StateSaveLocation is full or failing."""

    code = "storage_full"
