"""The Pasqal cloud's REST API as an HTTP client, as its SDK speaks it (facts/CONTRACTS.md §3, §4).

GETs are repeated, nothing else is: the cloud knows no idempotency keys, a repeated POST would be a second batch.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

import httpx

from qpud.core.resource import ResourcePolicy
from qpud.drivers.base import Clock, Fault
from qpud.drivers.cloud_login import Login
from qpud.drivers.exchange import LIMITS, Answer, Away, Exchange, bearer, patiently


def batch_path(batch_id: str, verb: str = "") -> str:
    """The path of a batch, e.g. `/api/v2/batches/ID/cancel`."""
    return f"/api/v2/batches/{quote(batch_id, safe='')}{verb}"


def job_path(job_id: str) -> str:
    """The path of a job."""
    return f"/api/v2/jobs/{quote(job_id, safe='')}"


def link_path(job_id: str) -> str:
    """Where the link to a job's results is told."""
    return f"/api/v1/jobs/{quote(job_id, safe='')}/results_link"


class CloudClient:
    """The connections to the cloud for one resource.

    The environment's proxies and certificates count: the cloud is elsewhere, and sites reach it as they can.

    Args:
        policy: Url, AuthUrl, CredentialsFile or TokenFile, RequestTimeout.
        clock: Wall time.

    Raises:
        Fault: Url cannot be read.
    """

    def __init__(self, policy: ResourcePolicy, clock: Clock) -> None:
        self._login = Login(policy, clock)
        self._http = _http(policy)
        self._exchange = Exchange(policy.name, self._http, policy.request_timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._exchange.close()
        await self._login.close()

    async def get(self, path: str, **params: str) -> Answer:
        """GET, tried several times. Raises: Away."""
        return await patiently(partial(self.ask, "GET", path, params=params))

    async def ask(self, method: str, path: str, *, params: dict[str, str] | None = None, body: Any = None) -> Answer:
        """One request; after a 401 once more with a fresh token. Raises: Away."""
        token = await self._login.token()
        answer = await self._exchange.ask(method, path, params=params, body=body, headers=bearer(token))
        if answer.status != 401 or not await self._login.renew(token):
            return answer
        fresh = bearer(await self._login.token())
        return await self._exchange.ask(method, path, params=params, body=body, headers=fresh)

    async def download(self, link: str) -> Answer:
        """The object behind a results link, fetched without our token: it is another host's. Raises: Away."""
        try:
            where = httpx.URL(link)
        except httpx.InvalidURL:  # its words would quote the link, which is a key to the results
            raise Away("a results link is no address", sent=False, answered=True) from None
        return await patiently(partial(self._download, where))

    async def _download(self, where: httpx.URL) -> Answer:
        request = self._http.build_request("GET", where)
        return self._exchange.read("GET of a results link", *await self._exchange.send(request))


def _http(policy: ResourcePolicy) -> httpx.AsyncClient:
    try:
        parsed = httpx.URL(policy.url or "")
    except httpx.InvalidURL as error:
        raise Fault(f"resource {policy.name}: Url cannot be read: {error}") from error
    return httpx.AsyncClient(
        base_url=parsed.copy_with(userinfo=b"", path=parsed.path.rstrip("/"), query=None),
        timeout=policy.request_timeout,
        follow_redirects=False,
        limits=LIMITS,
    )
