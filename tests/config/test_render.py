from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpud.config import check_report, parse, render
from qpud.config.keys import settings
from qpud.core.policy import DaemonPolicy, Policy, QueuePolicy, default_policy
from qpud.core.resource import ResourcePolicy
from qpud.core.terms import (
    UNLIMITED_SECONDS,
    AuthType,
    Counts,
    DriverKind,
    Launcher,
    OpenSessions,
    PreemptMode,
    QrmiType,
    TcpListen,
    UnixListen,
)

words = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,12}", fullmatch=True)
paths = st.from_regex(r"(/[A-Za-z0-9_.é-]{1,8}){1,4}", fullmatch=True).map(Path)
years = st.one_of(st.floats(1e-9, 365 * 86400.0), st.integers(1, 365 * 86400).map(float))
long_times = st.one_of(st.just(UNLIMITED_SECONDS), years)
listens = st.one_of(
    st.builds(UnixListen, path=paths),
    st.builds(TcpListen, host=st.sampled_from(["127.0.0.1", "::1", "node7"]), port=st.integers(0, 65535)),
)
drivers = st.sampled_from(list(DriverKind))


def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


def several(strategy: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[Any]:
    return st.lists(strategy, min_size=least, max_size=3, unique=True).map(tuple)


@st.composite
def queue_maps(draw: st.DrawFn) -> dict[str, QueuePolicy]:
    names = draw(
        st.lists(st.one_of(words, st.sampled_from(["production", "test"])), min_size=1, max_size=4, unique=True)
    )
    return {
        name: QueuePolicy(
            name=name,
            priority_tier=draw(st.integers(0, 1_000_000)),
            partitions=draw(st.sampled_from([(), (f"{name}+1", f"{name}+2")])),
            preempt_mode=draw(st.sampled_from(PreemptMode)),
            slice_seconds=draw(st.floats(0.001, 86400)),
            max_shots=draw(some(st.integers(1, 10**9))),
            max_submit_jobs=draw(some(st.integers(1, 10**9))),
        )
        for name in names
    }


RESOURCE_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "slurm_licenses": several(words.map(lambda name: f"{name}:7")),
    "slurm_partitions": several(words),
    "device": words,
    "shot_rate": st.floats(1e-6, 1e9),
    "setup_seconds": st.one_of(st.just(0.0), years),
    "speed_up": st.floats(1e-6, 1e9),
    "counts": st.sampled_from(Counts),
    "seed": some(st.integers(0, 2**63 - 1)),
    "max_atoms": st.integers(1, 10_000),
    "max_memory": st.integers(256 << 20, 1 << 45),
    "max_run_time": long_times,
    "launcher": st.sampled_from(Launcher),
    "launcher_options": some(st.sampled_from(["-p gpu", "-p gpu -c 8 --mem=4G", "--comment='two words'"])),
    "workers": st.integers(1, 256),
    "worker_idle_time": long_times,
    "worker_python": some(paths),
    "url": st.sampled_from(["http://h", "https://u:p@h:8/x", "http://[::1]:80"]),
    "token_file": some(paths),
    "auth_url": st.sampled_from(["http://h/oauth/token", "https://h:8"]),
    "credentials_file": paths,
    "project_id": words,
    "device_type": words,
    "qrmi_type": st.sampled_from(QrmiType),
    "qrmi_name": some(words),
    "qrmi_python": some(paths),
    "qrmi_environment_file": some(paths),
    "cloud_name": some(words),
    "request_timeout": years,
    "poll_min": st.floats(1e-3, 1.0),
    "poll_max": st.floats(1.0, 100.0),
}


@st.composite
def resource_maps(draw: st.DrawFn) -> dict[str, ResourcePolicy]:
    names = draw(
        st.lists(st.one_of(words, st.sampled_from(["FRESNEL", "EMU_MPS"])), min_size=1, max_size=4, unique=True)
    )
    return {name: draw_resource(draw, name) for name in names}


def draw_resource(draw: st.DrawFn, name: str) -> ResourcePolicy:
    driver = draw(drivers)
    fields = [
        one.field for one in settings(ResourcePolicy).values() if one.applies_to(driver) and one.field != "driver"
    ]
    return ResourcePolicy(name=name, driver=driver, **{field: draw(RESOURCE_VALUES[field]) for field in fields})


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    queues, resources = draw(queue_maps()), draw(resource_maps())
    daemon = DaemonPolicy(
        listen=draw(several(listens, least=1)),
        socket_mode=draw(st.integers(0o600, 0o777)),
        socket_group=draw(some(words)),
        auth_type=draw(st.sampled_from(AuthType)),
        admin_users=draw(several(words)),
        open_sessions=draw(st.sampled_from(OpenSessions)),
        state_save_location=draw(paths),
        worker_python=draw(some(paths)),
        default_resource=draw(some(st.sampled_from(list(resources)))),
        default_queue=draw(some(st.sampled_from(list(queues)))),
        session_idle_timeout=draw(long_times),
        session_max_lifetime=draw(long_times),
        max_body_size=draw(st.integers(1 << 10, 1 << 30)),
        validation_wait=draw(st.floats(0, 5)),
        validation_timeout=draw(st.floats(5, 1000)),
        validation_memory=draw(st.integers(256 << 20, 1 << 45)),
        log_level=draw(st.sampled_from(["debug", "info", "warning", "error", "critical"])),
    )
    return Policy(daemon=daemon, queues=queues, resources=resources)


@given(policies())
def test_a_rendered_policy_parses_back_to_itself(policy: Policy) -> None:
    assert parse(render(policy)) == policy


@given(policies())
def test_a_rendered_policy_keeps_the_order_of_its_sections(policy: Policy) -> None:
    again = parse(render(policy))
    assert (list(again.queues), list(again.resources)) == (list(policy.queues), list(policy.resources))


def test_the_random_policies_draw_every_key_of_a_resource() -> None:
    fields = {field.name for field in msgspec.structs.fields(ResourcePolicy)} - {"name", "driver"}
    assert set(RESOURCE_VALUES) == fields


def test_the_report_is_the_effective_policy() -> None:
    assert parse(check_report(default_policy())) == default_policy()


def test_the_report_begins_with_the_warnings_as_comments() -> None:
    policy = parse("[qpud]\nSocketMode = 0666\n")
    report = check_report(policy)
    assert report.startswith("# Warning: SocketMode = 0666 lets every user")
    assert parse(report) == policy


@pytest.mark.parametrize("password", ["secret", "se:cret"])
def test_the_report_shows_no_password(password: str) -> None:
    report = check_report(parse(f"[resource r]\nDriver = pasqal-qpu\nUrl = http://u:{password}@h\n"))
    assert "cret" not in report
