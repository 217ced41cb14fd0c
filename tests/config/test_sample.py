import re
from pathlib import Path

import msgspec
import pytest

from qpud.config import parse
from qpud.config.keys import Kind, settings
from qpud.config.sample import sample
from qpud.core.policy import AccountPolicy, DaemonPolicy, QueuePolicy, UserPolicy, default_policy
from qpud.core.resource import ResourcePolicy
from qpud.core.terms import DriverKind

FILE = Path(__file__).parents[2] / "etc" / "qpud.conf"
TEXT = FILE.read_text()
UNCOMMENTED = re.sub(r"^#(?=\S)", "", TEXT, flags=re.MULTILINE)
KINDS: list[Kind] = [DaemonPolicy, QueuePolicy, ResourcePolicy, AccountPolicy, UserPolicy]
REAL = ("QPU", "CLOUD", "ibm_torino")
HEADINGS = ["qpud", "queue", "resource", "account", "user"]


def keys_under(heading: str) -> list[str]:
    """The keys, commented out or not, in the sections of a kind, without repetition."""
    blocks = re.findall(rf"^\[{heading}\b.*?(?=^\[|\Z)", UNCOMMENTED, flags=re.MULTILINE | re.DOTALL)
    return list(dict.fromkeys(key for block in blocks for key in re.findall(r"^(\w+) =", block, flags=re.MULTILINE)))


def test_the_file_is_what_the_program_writes() -> None:
    assert sample() == TEXT, "write it anew: python -m qpud.config.sample > etc/qpud.conf"


def test_the_file_gives_the_defaults() -> None:
    assert parse(TEXT) == default_policy()


def test_the_file_shows_the_defaults_in_its_comments() -> None:
    policy = parse(UNCOMMENTED)
    resources = {name: one for name, one in policy.resources.items() if name not in REAL}
    assert msgspec.structs.replace(policy, resources=resources, accounts={}, users={}) == default_policy()


def test_the_file_shows_the_defaults_of_a_real_qpu() -> None:
    qpu = parse(UNCOMMENTED).resources["QPU"]
    assert qpu == ResourcePolicy(name="QPU", driver=DriverKind.PASQAL_QPU, url=qpu.url)


@pytest.mark.parametrize(("heading", "kind"), list(zip(HEADINGS, KINDS, strict=True)))
def test_the_file_has_every_key_of_a_section_and_no_other(heading: str, kind: Kind) -> None:
    assert sorted(keys_under(heading)) == sorted(setting.name for setting in settings(kind).values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_stands_under_its_help(kind: Kind) -> None:
    for setting in settings(kind).values():
        assert re.search(rf"^# {re.escape(setting.key.help)}\n#{setting.name} =", TEXT, flags=re.MULTILINE), (
            setting.name
        )


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_a_key(kind: Kind) -> None:
    fields = {field.name for field in msgspec.structs.fields(kind)} - {"name"}
    assert {setting.field for setting in settings(kind).values()} == fields
