"""The released qrmi wheel, PasqalLocal, with real munge credentials: root and an ordinary user."""

from __future__ import annotations

import json
from typing import Any

import clients
import pytest
from livesite import Site
from seen import is_antiferromagnet, is_one_sentence

pytestmark = [pytest.mark.client, pytest.mark.munge, pytest.mark.pyz, pytest.mark.worker]
ROOT_USER = 0


def steps(site: Site, *wanted: list[Any], url: str = "", **env: Any) -> list[dict[str, Any]]:
    """QRMI calls with what each returned or raised."""
    user = env.get("user_id", ROOT_USER)
    answers: list[dict[str, Any]] = clients.run(
        "qrmi",
        "qrmi_steps.py",
        "FRESNEL",
        stdin=json.dumps(wanted),
        env=clients.slurm_env(url or site.url, **env),
        user_id=user if user != ROOT_USER else None,
    )
    return answers


def sentence(answer: dict[str, Any], status: int) -> str:
    """The `detail` that qrmi shows its user inside QrmiError."""
    assert answer.get("error") == "QrmiError_", answer
    head, _, body = answer["text"].partition(", Fail ")
    assert head.startswith(f"Status: {status} "), answer["text"]
    detail: str = json.loads(body)["detail"]
    return detail


def too_strong(sequence: str) -> str:
    """The sequence with an amplitude far beyond the device's."""
    return sequence.replace("11.3", "500.0")


@pytest.mark.parametrize("who", ["root", "an ordinary user"])
def test_a_whole_run_from_acquire_to_release(site: Site, afm: str, request: pytest.FixtureRequest, who: str) -> None:
    user = ROOT_USER if who == "root" else request.getfixturevalue("ordinary_user")
    seen = clients.run(
        "qrmi",
        "qrmi_task.py",
        "FRESNEL",
        "300",
        stdin=afm,
        env=clients.slurm_env(site.url, user, slurm_job=100 + user),
        user_id=user if user != ROOT_USER else None,
    )
    assert (seen["accessible"], seen["device"]) == (True, "AnalogDevice")
    assert seen["statuses"][-1] == "TaskStatus.Completed"
    assert sum(seen["counter"].values()) == 300
    assert is_antiferromagnet(seen["counter"])
    assert "300 shots" in seen["logs"]
    assert "409" in seen["stop_after_end"] and "DONE" in seen["stop_after_end"]
    job = site.get(f"/v1/jobs/{seen['task']}")
    assert (job["user_id"], job["session_id"]) == (user, seen["session"])
    assert site.get(f"/v1/sessions/{seen['session']}")["close_reason"] == "manual"


def test_root_opens_a_session_that_the_user_of_the_slurm_job_uses(site: Site, afm: str, ordinary_user: int) -> None:
    as_slurmstepd = clients.slurm_env(site.url, ordinary_user, slurm_job=7)
    opened = clients.run("qrmi", "qrmi_steps.py", "FRESNEL", stdin='[["acquire"]]', env=as_slurmstepd)
    ran = steps(
        site,
        ["task_start", afm, 50],
        ["wait", "$task"],
        ["task_result", "$task"],
        user_id=ordinary_user,
        token=opened[0]["ok"],
        slurm_job=7,
    )
    assert sum(json.loads(ran[2]["ok"])["counter"].values()) == 50


def test_a_trailing_slash_in_the_url_does_no_harm(site: Site, afm: str) -> None:
    ran = steps(
        site,
        ["acquire"],
        ["target"],
        ["task_start", afm, 10],
        ["wait", "$task"],
        ["release", "$session"],
        url=f"{site.url}/",
    )
    assert [answer.get("text") for answer in ran] == [None] * 5
    assert ran[3]["ok"] == "TaskStatus.Completed"


def test_the_reason_of_a_wrong_sequence_reaches_the_user(site: Site, afm: str) -> None:
    refused = steps(site, ["acquire"], ["task_start", too_strong(afm), 10], ["release", "$session"])[1]
    reason = sentence(refused, 422)
    assert is_one_sentence(reason) and "amplitude" in reason


@pytest.mark.parametrize("shots", [0, -1])
def test_shots_below_one_are_refused_with_the_number(site: Site, afm: str, shots: int) -> None:
    refused = steps(site, ["acquire"], ["task_start", afm, shots], ["release", "$session"])[1]
    status = 422 if "422" in refused["text"] else 400
    assert is_one_sentence(sentence(refused, status)) and "shots" in refused["text"]


def test_canceling_twice_is_a_conflict_and_the_job_is_canceled(site: Site, afm: str) -> None:
    ran = steps(
        site,
        ["acquire"],
        ["task_start", afm, 2000],
        ["task_stop", "$task"],
        ["task_stop", "$task"],
        ["wait", "$task"],
        ["release", "$session"],
    )
    assert ran[2]["ok"] is None
    assert is_one_sentence(sentence(ran[3], 409))
    assert ran[4]["ok"] == "TaskStatus.Cancelled"


def test_the_task_of_another_user_looks_like_none(site: Site, afm: str, ordinary_user: int) -> None:
    roots = steps(site, ["acquire"], ["task_start", afm, 5], ["wait", "$task"])[1]["ok"]
    methods = ("task_status", "task_result", "task_stop", "task_logs")
    foreign = steps(site, *[[method, roots] for method in methods], user_id=ordinary_user)
    unknown = steps(site, *[[method, "1999999999"] for method in methods], user_id=ordinary_user)
    assert {sentence(answer, 404) for answer in foreign} == {"Job not found"}
    assert [answer["text"] for answer in foreign] == [answer["text"] for answer in unknown]


def test_a_result_is_not_there_before_the_end(site: Site, afm: str) -> None:
    asked = steps(
        site,
        ["acquire"],
        ["task_start", afm, 2000],
        ["task_result", "$task"],
        ["task_stop", "$task"],
        ["wait", "$task"],
        ["release", "$session"],
    )[2]
    assert "TaskNotReady" in asked["error"]


def test_another_users_session_cannot_be_used(site: Site, afm: str, ordinary_user: int) -> None:
    roots = steps(site, ["acquire"], slurm_job=8)[0]["ok"]
    refused = steps(site, ["task_start", afm, 5], user_id=ordinary_user, token=roots)[0]
    assert refused["text"].startswith(("Status: 403 ", "Status: 404 "))
