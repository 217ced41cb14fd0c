"""slurm: what the hooks call, and the token file that jobs read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

INFO = {"resources": [{"name": "FRESNEL"}, {"name": "EMU_MPS"}], "default_resource": "FRESNEL", "urls": []}
WHO = (f"--uid={os.getuid()}", f"--gid={os.getgid()}")


@pytest.fixture
def ready(daemon: Any) -> Any:
    daemon.on("GET", "/v1/info", {**INFO, "urls": [daemon.url]})
    daemon.on("POST", "/v1/sessions", {"id": "s-9", "token": "tok-9", "created": True}, status=201)
    return daemon


def laid(qpud: Any, folder: Path, *options: str) -> dict[str, str]:
    """What open wrote for the TaskProlog."""
    ended = qpud("slurm", "open", f"--folder={folder}", "--slurm-job=42", *WHO, *options)
    assert ended.returncode == 0, ended.stderr
    lines = (folder / "environment").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_open_asks_for_the_users_session_and_lays_its_token(qpud: Any, ready: Any, tmp_path: Path) -> None:
    laid(qpud, tmp_path / "jobs" / "42", "--hint=qc-heavy")
    (asked,) = ready.requests("POST", "/v1/sessions")
    assert asked.body == {"user": os.getuid(), "slurm_job_id": "42", "hint": "qc-heavy"}
    assert (tmp_path / "jobs" / "42" / "token").read_text() == "tok-9\n"
    assert (tmp_path / "jobs" / "42" / "session").read_text() == "s-9\n"


def test_the_environment_names_every_resource_and_no_secret(qpud: Any, ready: Any, tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "42"
    env = laid(qpud, folder, "--qpu=EMU_MPS,FRESNEL")
    assert (env["QPUD_QPU"], env["QRMI_JOB_QPU_RESOURCES"]) == ("EMU_MPS", "EMU_MPS,FRESNEL")
    assert env["EMU_MPS_QRMI_WARDEN_URL"] == f"{ready.url}/r/EMU_MPS"
    assert env["FRESNEL_QRMI_WARDEN_URL"] == ready.url
    assert env["FRESNEL_QRMI_JOB_ACQUISITION_TOKEN"] == "s-9"
    assert env["QPUD_TOKEN_FILE"] == str(folder / "token")
    assert "tok-9" not in (folder / "environment").read_text()


def test_only_the_first_node_of_a_job_closes_its_session(qpud: Any, ready: Any, tmp_path: Path) -> None:
    for node in ("qn1", "qn2"):
        laid(qpud, tmp_path / "jobs" / node, "--nodes=qn[1-2]", f"--node={node}")
    assert [(tmp_path / "jobs" / node / "session").exists() for node in ("qn1", "qn2")] == [True, False]


def test_an_unknown_resource_opens_nothing(qpud: Any, ready: Any, tmp_path: Path) -> None:
    ended = qpud("slurm", "open", f"--folder={tmp_path}/jobs/42", "--slurm-job=42", *WHO, "--qpu=FRESNL")
    assert (ended.returncode, ended.stderr) == (
        5,
        "qpud: there is no resource FRESNL; this daemon serves FRESNEL, EMU_MPS: did you mean FRESNEL?\n",
    )
    assert not ready.requests("POST", "/v1/sessions")


def test_close_ends_the_jobs_session_and_those_of_run_inside_and_no_other(qpud: Any, daemon: Any) -> None:
    jobs = {"a": "42", "b": "42.run-1", "c": "421", "d": None}
    daemon.on("GET", "/v1/sessions", [{"id": name, "slurm_job_id": job} for name, job in jobs.items()])
    daemon.on("DELETE", "/v1/sessions/a", {"id": "a"})  # b ended meanwhile: 404
    assert qpud("slurm", "close", "--slurm-job=42", "--uid=7").returncode == 0
    assert [asked.path for asked in daemon.asked if asked.method == "DELETE"] == ["/v1/sessions/a", "/v1/sessions/b"]


def test_the_token_is_read_from_its_file(qpud: Any, ready: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("tok-1\n")
    qpud("info", "--url", ready.url, QPUD_TOKEN_FILE=str(tmp_path / "token"))
    assert ready.asked[-1].headers["Authorization"] == "Bearer tok-1"


def test_a_token_file_that_is_gone_is_noted(qpud: Any, ready: Any, tmp_path: Path) -> None:
    ended = qpud("info", QPUD_TOKEN_FILE=str(tmp_path / "gone"))
    assert f"QPUD_TOKEN_FILE {tmp_path}/gone cannot be read: No such file or directory" in ended.stderr
