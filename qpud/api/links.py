"""Links to results that carry their own proof: whoever has one may read one job's counts until it expires.

Clients of the cloud dialect fetch results without any credential, from an absolute URL.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlencode

from starlette.requests import Request

from qpud.core.errors import Forbidden

LIFETIME_SECONDS = 3600.0
PATH = "/core-fast/results/{job}"
_HOP = ("http", "https")


class Links:
    """Makes and checks such links.

    Args:
        secret: Kept across restarts, so that a link outlives one.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def to(self, request: Request, uid: str, user_id: int, now: float) -> str:
        """The link to a job's results, for the host that the client has asked.

        Args:
            request: Whose Host, and whose X-Forwarded-Proto where a proxy speaks TLS.
            uid: The job's.
            user_id: Its owner.
            now: Seconds since the epoch.
        """
        expires = str(int(now + LIFETIME_SECONDS))
        proof = self._proof(uid, str(user_id), expires)
        query = urlencode({"user": user_id, "expires": expires, "signature": proof})
        forwarded = request.headers.get("x-forwarded-proto", "")
        scheme = forwarded if forwarded in _HOP else request.url.scheme
        return f"{scheme}://{request.url.netloc}{PATH.format(job=uid)}?{query}"

    def owner(self, uid: str, user: str, expires: str, signature: str, now: float) -> int:
        """The owner of the job that a link leads to. Raises: Forbidden: Not one of ours, or expired."""
        if not hmac.compare_digest(self._proof(uid, user, expires).encode(), signature.encode()):
            raise Forbidden("this link to results was not made here")
        if now >= int(expires):
            raise Forbidden("this link to results has expired: ask for a new one")
        return int(user)

    def _proof(self, uid: str, user: str, expires: str) -> str:
        return hmac.new(self._secret, f"{uid} {user} {expires}".encode(), hashlib.sha256).hexdigest()
