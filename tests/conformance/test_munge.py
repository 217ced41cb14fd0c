"""Real munge credentials over raw HTTP: the next qrmi's forms, stolen and stale credentials, no administration."""

from __future__ import annotations

import time
from typing import Any

import munged
import pytest
from livesite import Site
from seen import is_one_sentence

pytestmark = [pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]
TTL_SECONDS = 1
NEXT_FORM = {"user_id": "0", "scheduler_job_id": "77", "qpu_slots": 3}


def ask(site: Site, method: str, path: str, credential: str, body: Any = None, **headers: str) -> Any:
    """One request with a munge credential."""
    with site.tcp(**{"X-Munge-Cred": credential, **headers}) as client:
        return client.request(method, path, json=body)


def reason(reply: Any, status: int) -> str:
    """The sentence of a refusal with this status."""
    assert reply.status_code == status, reply.text
    detail: str = reply.json()["detail"]
    assert is_one_sentence(detail), detail
    return detail


def test_the_next_session_form_opens_one_session_per_user_and_job(site: Site) -> None:
    first = ask(site, "POST", "/sessions", munged.credential(), NEXT_FORM)
    again = ask(site, "POST", "/sessions", munged.credential(), NEXT_FORM)
    assert first.json()["qpu_slots"] == 3
    assert again.json()["id"] == first.json()["id"]


def test_the_next_delete_form_closes_the_session_of_the_header(site: Site) -> None:
    form = {**NEXT_FORM, "scheduler_job_id": "78"}
    opened = ask(site, "POST", "/sessions", munged.credential(), form).json()
    closed = ask(site, "DELETE", "/sessions", munged.credential(), **{"X-Warden-Session": opened["id"]})
    assert (closed.status_code, closed.json()["id"]) == (200, opened["id"])
    assert closed.json()["revoked_at"] is not None


def test_a_replayed_credential_is_refused(site: Site) -> None:
    credential = munged.credential()
    assert ask(site, "GET", "/jobs", credential).status_code == 200
    assert "used before" in reason(ask(site, "GET", "/jobs", credential), 401)


def test_an_expired_credential_is_refused(site: Site) -> None:
    credential = munged.credential(ttl_seconds=TTL_SECONDS)
    time.sleep(TTL_SECONDS + 1.1)  # munge counts whole seconds; nothing but time makes a credential expire
    assert "expired" in reason(ask(site, "GET", "/jobs", credential), 401).lower()


@pytest.mark.parametrize("garbage", ["MUNGE:AwQFAAA:", "garbage", "MUNGE:" + "A" * 4000 + ":"])
def test_garbage_is_refused(site: Site, garbage: str) -> None:
    reason(ask(site, "GET", "/jobs", garbage), 401)


def test_a_credential_with_one_letter_changed_is_refused(site: Site) -> None:
    good = munged.credential()
    middle = len(good) // 2
    forged = good[:middle] + ("A" if good[middle] != "A" else "B") + good[middle + 1 :]
    reason(ask(site, "GET", "/jobs", forged), 401)


def test_no_credential_is_refused(site: Site) -> None:
    with site.tcp() as client:
        assert "MUNGE" in reason(client.get("/jobs"), 401)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/accessible", {"is_accessible": False, "message": "stolen"}),
        ("POST", "/v1/resources/FRESNEL/drain", {"reason": "stolen"}),
        ("POST", "/v1/resources/FRESNEL/resume", None),
        ("POST", "/v1/reconfigure", None),
        ("GET", "/status", None),
    ],
)
def test_munge_never_administers_not_even_roots(site: Site, method: str, path: str, body: Any) -> None:
    reason(ask(site, method, path, munged.credential(0), body), 403)


def test_root_by_munge_does_not_see_others_sessions(site: Site, ordinary_user: int) -> None:
    others = site.open_session(ordinary_user)
    reason(ask(site, "GET", f"/v1/sessions/{others['id']}", munged.credential(0)), 404)


def test_root_by_munge_closes_sessions_for_others(site: Site, ordinary_user: int) -> None:
    form = {"user_id": str(ordinary_user), "slurm_job_id": "79"}
    opened = ask(site, "POST", "/sessions", munged.credential(0), form).json()
    closed = ask(site, "DELETE", f"/sessions/{opened['id']}", munged.credential(0))
    assert closed.status_code == 200, closed.text


def test_an_ordinary_user_opens_no_session_for_root(site: Site, ordinary_user: int) -> None:
    form = {"user_id": "0", "slurm_job_id": "80"}
    reason(ask(site, "POST", "/sessions", munged.credential(ordinary_user), form), 403)
