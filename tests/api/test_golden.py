"""Whole conversations with each dialect, compared with golden files: a change of the wire must be seen."""

from __future__ import annotations

import re

from fakes import SEQUENCE, Desk
from golden import Recorder, compare


async def test_the_native_dialect_answers_as_recorded() -> None:
    desk = Desk()
    async with desk.client(peer=1000) as client:
        ask = Recorder(client)
        grant = await ask("POST", "/v1/sessions", json={"queue": "test", "hint": "qc-heavy", "slurm_job_id": 42})
        session = {"X-Warden-Session": grant["token"]}
        await ask("GET", "/v1/sessions")
        await ask("GET", f"/v1/sessions/{grant['id']}")
        await ask("POST", "/v1/jobs", json={"sequence": SEQUENCE, "shots": 100, "name": "n"}, headers=session)
        await ask("POST", "/v1/jobs", json=[{"sequence": {"a": 1}, "shots": 5}] * 2, headers=session)
        await ask("GET", "/v1/queue?resource=FRESNEL")
        await ask("GET", "/v1/jobs?state=PENDING,RUNNING&limit=2")
        desk.service.finish(1, {"01": 60, "10": 40})
        await ask("GET", "/v1/jobs/1")
        await ask("GET", "/v1/jobs/1/result")
        await ask("GET", "/v1/jobs/1/logs")
        await ask("POST", "/v1/jobs/2/hold")
        await ask("POST", "/v1/jobs/2/release")
        await ask("POST", "/v1/jobs/2/cancel")
        await ask("DELETE", "/v1/jobs/1")
        await ask("GET", "/v1/resources")
        await ask("GET", "/v1/resources/FRESNEL/spec")
        await ask("GET", "/v1/shares?resource=FRESNEL")
        await ask("GET", "/v1/accounting/users")
        await ask("GET", "/v1/accounting/sessions?user=ada&ended_after=2023-11-14T00:00:00Z")
        await ask("GET", "/v1/accounting/jobs?state=DONE,ERROR")
        await ask("GET", "/v1/accounting/report")
        await ask("GET", "/v1/accounting/report?by=account,slurm_job,session,job,queue,resource&start=2023-11-14")
        await ask("GET", "/healthz")
        await ask("GET", "/readyz")
        await ask("DELETE", f"/v1/sessions/{grant['id']}")
    compare("native.json", ask.text())


async def test_the_controls_answer_as_recorded() -> None:
    desk = Desk()
    async with desk.client(peer=1000) as ada, desk.client(peer=0) as admin:
        ask, steer = Recorder(ada), Recorder(admin)
        session = {"X-Warden-Session": (await ada.post("/v1/sessions", json={})).json()["token"]}
        await ada.post("/v1/jobs", json=[{"sequence": SEQUENCE, "shots": 5}] * 2, headers=session)
        await ada.post("/v1/jobs", json={"sequence": SEQUENCE, "shots": 5000}, headers=session)
        await steer("POST", "/v1/jobs/1/queue", json={"queue": "production"})
        await steer("POST", "/v1/jobs/3/queue", json={"queue": "production"})
        await steer("POST", "/v1/jobs/3/queue", json={"queue": "production", "override": True})
        await ask("POST", "/v1/jobs/1/queue", json={"queue": "production"})
        await ask("POST", "/v1/jobs/cancel", json={"queue": "production", "dry_run": True})
        await ask("POST", "/v1/jobs/cancel", json={"state": "PENDING", "user": "ada"})
        await ask("POST", "/v1/jobs/cancel", json={"queues": "production"})
        await ask("POST", "/v1/jobs/cancel", json={"user": "nobody-here"})
        window = {"name": "monday", "starts_at": "2026-11-24T10:00:00Z", "duration_seconds": 3600, "duty": "qa"}
        await steer("POST", "/v1/reservations", json=window)
        await steer("POST", "/v1/reservations", json={**window, "users": ["nobody-here"]})
        await ask("POST", "/v1/reservations", json={"name": "mine", "duration_seconds": 60, "users": ["ada", 1001]})
        await ask("GET", "/v1/reservations")
        await steer("DELETE", "/v1/reservations/monday")
        await steer("DELETE", "/v1/reservations/monday")
        await steer("POST", "/v1/resources/FRESNEL/degrade", json={"units": 4, "reason": "two lasers of five"})
        await steer("POST", "/v1/resources/FRESNEL/down", json={"reason": "vacuum is gone"})
        await ask("POST", "/v1/resources/FRESNEL/down", json={"reason": "x"})
    compare("controls.json", ask.text() + steer.text())


async def test_the_qrmi_dialect_answers_as_recorded() -> None:
    desk = Desk()
    async with desk.client(X_Munge_Cred="MUNGE:0:") as root, desk.client(X_Munge_Cred="MUNGE:1000:") as ada:
        slurm, ask = Recorder(root), Recorder(ada)
        await ask("GET", "//accessible")
        await ask("GET", "/qpu-slots")
        session = await slurm("POST", "/sessions", json={"user_id": "1000", "slurm_job_id": "4242"})
        await slurm("POST", "/sessions", json={"user_id": "1000", "scheduler_job_id": "4242", "qpu_slots": 1})
        await ask("GET", "/qpu/specs")
        named = {"X-Warden-Session": session["id"]}
        await ask("POST", "/jobs", json={"sequence": SEQUENCE, "shots": 100}, headers=named)
        await ask("GET", "/jobs/1")
        desk.service.finish(1, {"10": 70, "00": 30})
        await ask("GET", "/jobs/1")
        await ask("GET", "/jobs")
        await ask("GET", "/jobs/1/logs")
        await ask("POST", "/jobs/1/cancel")
        await ask("POST", "/jobs", json={"sequence": SEQUENCE, "shots": 1}, headers=named)
        await ask("GET", "/jobs/2/logs")
        await ask("POST", "/jobs/2/cancel")
        await ask("GET", "/sessions")
        await ask("GET", "/accounting")
        await ask("GET", "/accounting/sessions")
        await ask("GET", "/accounting/jobs?user_ids=1000&user_ids=1001&limit=10")
        await slurm("DELETE", "/sessions", headers=named)
        await slurm("DELETE", f"/sessions/{session['id']}")
    async with desk.client(peer=0) as admin:
        steer = Recorder(admin)
        await steer("POST", "/accessible", json={"is_accessible": False, "message": "maintenance"})
        await steer("GET", "/accessible")
        await steer("POST", "/accessible", json={"is_accessible": True})
        await steer("GET", "/status")
    compare("qrmi.json", ask.text() + slurm.text() + steer.text())


async def test_the_onprem_dialect_answers_as_recorded() -> None:
    desk = Desk()
    async with desk.client(peer=1000) as client:
        token = (await client.post("/v1/sessions", json={})).json()["token"]
    async with desk.client() as client:
        client.auth = ("ada", token)
        ask = Recorder(client)
        await ask("GET", "/api/latest/system/operational")
        await ask("GET", "/api/latest/system")
        body = {"nb_run": 100, "pulser_sequence": SEQUENCE, "context": {"batch_id": "b", "pasqman_job_id": "k"}}
        await ask("POST", "/api/latest/jobs", json=body)
        await ask("POST", "/api/latest/jobs", json=body)
        await ask("GET", "/api/v1/jobs?pasqman_job_id=k")
        await ask("GET", "/api/v1/programs/1")
        desk.service.finish(1, {"10": 70, "00": 30})
        await ask("GET", "/api/v1/jobs/1")
        await ask("PUT", "/api/v1/jobs/1/cancel")
        await ask("POST", "/api/v1/jobs", json={"nb_run": 5, "pulser_sequence": SEQUENCE})
        await ask("DELETE", "/api/v1/programs/2")
        await ask("GET", "/api/v1/jobs/77")
        await ask("POST", "/api/v1/jobs", json={"nb_run": 5})
    compare("onprem.json", ask.text())


async def test_the_metrics_page_is_as_recorded() -> None:
    desk = Desk()
    async with desk.client() as client:
        await client.get("/healthz")
        page = (await client.get("/metrics")).text
    compare("metrics.txt", _normalised(page))


def _normalised(page: str) -> str:
    lines = [re.sub(r'(_version|version)="[^"]*"', r'\1="V"', line) for line in page.splitlines()]
    return "\n".join(line if line.startswith("#") else line.rsplit(" ", 1)[0] + " N" for line in lines) + "\n"
