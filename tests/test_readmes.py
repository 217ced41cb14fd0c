"""What a README names is there: commands and their options, policies, routes, metrics, variables, links, files.

What it says of them is for people to check; that the names are right is checked here.
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from qpud.api.app import ROUTES
from qpud.cli.exits import MEANINGS
from qpud.cli.parser import build
from qpud.config import parse
from qpud.config.keys import settings
from qpud.core.policy import AccountPolicy, DaemonPolicy, QueuePolicy, UserPolicy
from qpud.core.resource import ResourcePolicy
from qpud.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("etc", "packaging", "qpud", "sdk_shims", "tests")
READMES = [ROOT / "README.md", *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("README.md"))]
MAIN, CLI, PACKAGING = (ROOT / name for name in ("README.md", "qpud/cli/README.md", "packaging/README.md"))
KINDS = (DaemonPolicy, QueuePolicy, ResourcePolicy, AccountPolicy, UserPolicy)
KEYS = {setting.name for kind in KINDS for setting in settings(kind).values()}
SLURMS_KEYS = {"AccountingStorageEnforce", "PrivateData", "SchedulerParameters"}
SYSTEMDS_KEYS = {"CacheDirectory", "DeviceAllow", "IPAddressAllow", "IPAddressDeny", "PrivateDevices", "ProtectSystem"}
SHELL_GOES_ON = re.compile(r"(?:\|\|?|;|>|<|\)|\$\(|(?<=\s)[&#]|(?<=\s)-- ).*")
every_readme = pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))


def code(text: str) -> Iterator[str]:
    """What a README shows as code: fenced and indented lines, and what stands between backticks."""
    is_fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            is_fenced = not is_fenced
        elif is_fenced or line.startswith("    "):
            yield line.strip().removeprefix("$ ")
        else:
            yield from re.findall(r"`([^`]+)`", line)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of qpud that a README shows, from its verb on."""
    for line in code(text):
        for part in line.split("&&"):
            for found in re.finditer(r"(?:^\s*|[('\"])qpud ([a-z]+(?![\w=:]).*)", part):
                yield shlex.split(re.sub(r"['\"]", " ", SHELL_GOES_ON.sub("", found[1])))


def actions_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Verbs, or actions of a verb, and their parsers."""
    found = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def mistakes(words: list[str]) -> Iterator[str]:
    """What the program does not know of a command."""
    parser = build()
    while words and words[0].isalpha() and (known := actions_of(parser)):
        if words[0] not in known:
            yield f"there is no verb {words[0]}"
            return
        parser, words = known[words[0]], words[1:]
    for word in words:
        if word.startswith("-") and word.split("=")[0] not in ("-", *parser._option_string_actions):
            yield f"{parser.prog} has no option {word}"


def cells(readme: Path, heading: str) -> list[list[str]]:
    """The first table below a heading, its head left out."""
    (table,) = re.findall(r"(?:^\|.*\n)+", readme.read_text().split(f"# {heading}\n")[1], re.MULTILINE)[:1]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]]


def coded(rows: list[list[str]], column: int = 0) -> list[str]:
    """What stands between backticks in a column."""
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row[column])]


@every_readme
def test_every_command_in_a_readme_has_a_verb_and_options_that_exist(readme: Path) -> None:
    assert [(words, wrong) for words in commands(readme.read_text()) for wrong in mistakes(words)] == []


def test_the_table_of_verbs_has_every_verb_and_no_other() -> None:
    named = {words.split()[0].strip(",") for words in coded(cells(MAIN, "The command line"))}
    of_others = {"create", "list", "delete", "open", "token", "close"}
    assert named - of_others == set(actions_of(build()))


def test_the_table_of_exit_codes_is_that_of_the_program() -> None:
    assert [row[0] for row in cells(CLI, "Exit codes")] == [str(code.value) for code in MEANINGS]


@pytest.mark.parametrize("block", re.findall(r"^```ini\n(.*?)^```", MAIN.read_text(), re.MULTILINE | re.DOTALL))
def test_every_policy_in_the_readme_is_accepted_as_it_stands(block: str) -> None:
    parse(block)


@every_readme
def test_every_key_that_a_readme_gives_a_value_exists(readme: Path) -> None:
    named = set(re.findall(r"`([A-Z][a-z]+[A-Z]\w+) ?= ?[^`]+`", readme.read_text()))
    assert named - SLURMS_KEYS - SYSTEMDS_KEYS <= KEYS


@every_readme
def test_every_address_in_a_readme_is_a_route(readme: Path) -> None:
    text = readme.read_text()
    named = re.findall(r"http://qpud(/[\w/-]*)", text) + re.findall(r"`(?:GET |POST |DELETE )?(/v1/[\w/]+)", text)
    patterns = [re.compile(re.sub(r"\{\w+\}", r"[^/]+", route.path)) for route in ROUTES]
    assert [path for path in named if not any(pattern.fullmatch(path) for pattern in patterns)] == []


def test_the_table_of_metrics_has_every_metric_and_no_other() -> None:
    page = Metrics(("FRESNEL",), ("production",)).render().decode()
    assert sorted(coded(cells(PACKAGING, "Metrics"))) == sorted(re.findall(r"^# TYPE (qpud_\w+)", page, re.MULTILINE))


@every_readme
def test_every_metric_in_a_readme_exists(readme: Path) -> None:
    page = Metrics(("FRESNEL",), ("production",)).render().decode()
    named = re.findall(r"`(qpud_\w+(?:_total|_seconds|_away))[`{]", readme.read_text())
    assert [name for name in named if f"# TYPE {name} " not in page] == []


def read_by(source: Path) -> Iterator[str]:
    """Environment variables that a file reads by name."""
    for node in ast.walk(ast.parse(source.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(value=of, attr="get"), args=[ast.Constant(value=str(name)), *_]):
                pass
            case ast.Subscript(value=of, slice=ast.Constant(value=str(name)), ctx=ast.Load()):
                pass
            case _:
                continue
        if ast.unparse(of).endswith(("environ", "env")):
            yield name


def test_the_table_of_variables_has_every_one_that_is_read_and_no_other() -> None:
    sources = [*ROOT.glob("qpud/**/*.py"), *ROOT.glob("packaging/zipapp/*.py"), *ROOT.glob("sdk_shims/*/qpud_*.py")]
    read = {name for source in sources for name in read_by(source)}
    texts = "".join(source.read_text() for source in sources)
    named = coded(cells(CLI, "Environment"))
    assert read - set(named) == set()
    assert [name for name in named if f'"{name}"' not in texts] == []


@every_readme
def test_every_link_in_a_readme_leads_somewhere(readme: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", readme.read_text()):
        path, _, anchor = link.partition("#")
        target = (readme.parent / path).resolve() if path else readme
        if link.startswith("http"):
            continue
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(readme: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)", readme.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in ROOT.glob("qpud/*/README.md")), ids=lambda at: at.name
)
def test_a_folders_readme_or_docstring_names_each_of_its_files(folder: Path) -> None:
    named = (folder / "README.md").read_text()
    listed = re.findall(r"^(\w+)  ", (folder / "__init__.py").read_text(), re.MULTILINE)
    files = {path.name for path in folder.glob("*.py")} - {"__init__.py", *(f"{name}.py" for name in listed)}
    assert [name for name in sorted(files) if name not in named] == []


@every_readme
def test_every_file_of_ours_in_a_readme_exists(readme: Path) -> None:
    named = re.findall(r"(?<![\w./$-])((?:etc|packaging|qpud|sdk_shims|tests)/[\w/.-]+\.\w+)", readme.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []
