"""For every test: where things lie, no silent skips, no silent second tries, no process left behind.

Setting QPUD_REQUIRE_ALL turns each skip into a failure (CI does); without it, skips are listed at the end, loudly.
A test that lives by the clock of a real Slurm, a real process or a real disk has a second try, listed as loudly.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from tests.site.cluster import Cluster, running_cluster

ROOT = Path(__file__).resolve().parent.parent
REQUIRE_ALL = bool(os.environ.get("QPUD_REQUIRE_ALL"))
PATIENCE_SECONDS = 5.0
PURE_FOLDERS = frozenset({"config", "core", "simulate"})
MARK = f"QPUD_TEST_RUN={uuid.uuid4()}"
second_tries: dict[str, str] = {}  # what the first try of a test said, by the test's node id


@pytest.fixture(scope="session")
def pyz() -> Path:
    """The built zipapp (`make pyz`), or the one that QPUD_PYZ names."""
    given = os.environ.get("QPUD_PYZ")
    built = [Path(given)] if given else sorted((ROOT / "dist").glob("qpud-*.pyz"))
    if len(built) != 1 or not built[0].exists():
        pytest.skip("no zipapp in dist/: make pyz")
    return built[0].resolve()


@pytest.fixture(scope="session")
def worker_python() -> Path:
    """The interpreter that has Pulser and the emulators (`make setup`), or the one that QPUD_WORKER_PYTHON names."""
    python = Path(os.environ.get("QPUD_WORKER_PYTHON", ROOT / ".venv" / "worker" / "bin" / "python"))
    if not python.exists():
        pytest.skip(f"no worker interpreter {python}: make setup")
    return python


@pytest.fixture(scope="session")
def cluster_of_the_session() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


@pytest.fixture
def cluster(cluster_of_the_session: Cluster) -> Iterator[Cluster]:
    """A real Slurm without jobs; its controller is up again afterwards."""
    yield cluster_of_the_session
    cluster_of_the_session.cancel_all()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a skipped test as failed where every test is required."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but QPUD_REQUIRE_ALL is set: {reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a file that skips itself."""
    report = yield
    if REQUIRE_ALL and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, but QPUD_REQUIRE_ALL is set: {reason(report)}"
    return report


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test that failed once more: a machine's pause does not happen twice, a mistake does.

    Why the first try failed is listed at the end. A test of pure code, which nothing can delay, has no second try.
    """
    if item.path.relative_to(ROOT / "tests").parts[0] in PURE_FOLDERS:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if failed := [report for report in reports if report.failed]:
        second_tries[item.nodeid] = "\n".join(report.longreprtext for report in failed)
        item._initrequest()  # type: ignore[attr-defined]  # fixtures anew, as pytest-rerunfailures does
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was not tested here, and what was tried twice."""
    if second_tries:
        terminalreporter.section(f"{len(second_tries)} TRIED TWICE: why the first try failed", sep="!", red=True)
        for nodeid, why in second_tries.items():
            terminalreporter.line(nodeid, red=True, bold=True)
            terminalreporter.line(why)
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section(f"{len(skipped)} NOT TESTED HERE", sep="!", red=True, bold=True)
        for why in sorted({reason(report) for report in skipped}):
            terminalreporter.line(f"  {why}", red=True)


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test was skipped."""
    where = report.longrepr
    return where[2].removeprefix("Skipped: ") if isinstance(where, tuple) else str(where)


def pytest_sessionstart() -> None:
    """Mark this run, so that every process started from it can be told from others."""
    name, value = MARK.split("=")
    os.environ[name] = value


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if a process that this run started is still there, and end it."""
    left = wait_for_the_last()
    for pid, command in left:
        print(f"\nleft running: {pid} {command}")
        os.kill(pid, signal.SIGKILL)
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def wait_for_the_last() -> list[tuple[int, str]]:
    """Processes of this run that do not end by themselves within PATIENCE_SECONDS."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (left := list(started_here())) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def started_here() -> Iterator[tuple[int, str]]:
    """Pid and command of each living process that inherited this run's mark."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            marked = MARK.encode() in (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # gone, or another user's
        if marked and int(entry.name) != os.getpid():
            yield int(entry.name), command
