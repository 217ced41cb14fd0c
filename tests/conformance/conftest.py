"""One live site for most tests, a munged, and the antiferromagnet as every client sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # the modules beside this file; tests are no package

import clients  # noqa: E402
import munged  # noqa: E402
from livesite import EMULATED, SIMULATED, Site, command_of, runs_from_source  # noqa: E402

ORDINARY_USER = 65534  # nobody
SHOTS = 1000
BUILD_SECONDS = 300
MakeSite = Callable[..., Site]


@pytest.fixture(scope="session")
def munge() -> Iterator[None]:
    """A munged at the default socket."""
    try:
        with munged.running():
            yield
    except munged.NoMunge as why:
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def command(request: pytest.FixtureRequest) -> list[str]:
    """How to run qpud: the zipapp of this very tree, unless QPUD_CONFORMANCE_SOURCE asks for the tree itself."""
    if not runs_from_source() and "QPUD_PYZ" not in os.environ:
        subprocess.run(["make", "--silent", "pyz"], cwd=HERE.parent.parent, check=True, timeout=BUILD_SECONDS)
    return command_of(None if runs_from_source() else request.getfixturevalue("pyz"))


@pytest.fixture(scope="session")
def site(
    munge: None, command: list[str], worker_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The site that most tests share: a fast simulated QPU and the emulators. A verdict is waited for, not hurried."""
    folder = tmp_path_factory.mktemp("site")
    shared = Site(
        command, folder, worker_python, SIMULATED + EMULATED, "ValidationWait = 20\nDefaultResource = FRESNEL"
    )
    shared.start()
    yield shared
    shared.stop()


@pytest.fixture
def make_site(munge: None, command: list[str], worker_python: Path, tmp_path: Path) -> Iterator[MakeSite]:
    """Sites of one test's own, by name; stopped at its end."""
    made: list[Site] = []

    def make(name: str, *sections: str, daemon: str = "ValidationWait = 20") -> Site:
        made.append(Site(command, tmp_path / name, worker_python, "".join(sections), daemon))
        return made[-1].start()

    yield make
    for own in reversed(made):
        own.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the daemon's log with a failure."""
    report = yield
    shared = getattr(item, "funcargs", {}).get("site")
    if report.failed and isinstance(shared, Site):
        report.sections.append(("qpud's log", shared.story()))
    return report


@pytest.fixture
def session(site: Site) -> Iterator[dict[str, Any]]:
    """A session of root's, closed at the end, so that the next test's is another one."""
    opened = site.open_session()
    yield opened
    with site.unix() as client:
        assert client.delete(f"/v1/sessions/{opened['id']}").status_code == 200


@pytest.fixture
def ordinary_user() -> int:
    """The uid of a user who is not root, and who can run the clients' interpreters."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a client as another user")
    try:
        clients.run("qrmi", "whoami.py", env={}, user_id=ORDINARY_USER)
    except (clients.ClientFailed, PermissionError) as error:
        pytest.skip(f"user {ORDINARY_USER} cannot run the clients (is the clone in a private folder?): {error}")
    return ORDINARY_USER


@pytest.fixture(scope="session")
def afm(site: Site, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The antiferromagnet's sequence for the site's QPU, as JSON text."""
    specs = tmp_path_factory.mktemp("specs") / "specs.json"
    specs.write_text(json.dumps(site.spec()))
    return json.dumps(clients.run("qrmi", "afm.py", str(specs), env={}))
