"""A real munged with its own key and socket, ended with the test; and a whole site of Slurm and qpud."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.site.hooked import Hooked, running_hooked
from tests.site.munged import running_munged


@pytest.fixture(scope="session")
def munge_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with running_munged(tmp_path_factory.mktemp("munged")) as path:
        yield path


@pytest.fixture
def start_munged() -> Iterator[Callable[[Path], Path]]:
    """Starts further munged processes; all end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda folder: stack.enter_context(running_munged(folder))


@pytest.fixture(scope="session")
def hooked_of_the_session(pyz: Path, worker_python: Path) -> Iterator[Hooked]:
    with running_hooked(pyz, worker_python) as running:
        yield running


@pytest.fixture
def hooked(hooked_of_the_session: Hooked) -> Iterator[Hooked]:
    """A cluster with the hooks and a daemon, without jobs."""
    yield hooked_of_the_session
    hooked_of_the_session.cluster.cancel_all()
    hooked_of_the_session.cluster.wait_idle()
