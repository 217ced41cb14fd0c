"""Real servers for the tests of this folder: a munged, a Slurm cluster; all end with the tests."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.site.cluster import Cluster, running_cluster
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
def cluster_of_the_session() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


@pytest.fixture
def cluster(cluster_of_the_session: Cluster) -> Iterator[Cluster]:
    """A real Slurm without jobs; its controller is up again afterwards."""
    yield cluster_of_the_session
    cluster_of_the_session.cancel_all()
