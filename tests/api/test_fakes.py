"""The fake service is worth something only while it has the real one's signatures."""

from __future__ import annotations

import inspect

import pytest
from fakes import FakeService

from qpud.service import Service

OWN = {"finish", "run", "slurm_trouble", "urls"}
VERBS = [name for name in dir(FakeService) if not name.startswith("_") and name not in OWN]


@pytest.mark.parametrize("verb", VERBS)
def test_the_fake_has_the_signature_of_the_real_verb(verb: str) -> None:
    fake, real = getattr(FakeService, verb), getattr(Service, verb)
    assert list(inspect.signature(fake).parameters) == list(inspect.signature(real).parameters)
    assert inspect.iscoroutinefunction(fake) == inspect.iscoroutinefunction(real)
