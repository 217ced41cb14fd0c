"""A real munged with its own key and socket, ended with the test."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
