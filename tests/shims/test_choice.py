"""Which resource and daemon are meant: the command line and the shims follow one rule."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from qpud.cli import userfile
from qpud.cli.choice import chosen
from qpud.cli.connect import token_of_user
from qpud.cli.exits import Stop
from qpud.cli.locate import places

SHIM = Path(__file__).resolve().parents[2] / "sdk_shims" / "pulser"
INI = """\
# mine
[default]
QPU = FRESNEL   ; as usual
url = http://site:8006/
token_file = /run/site-token

[EMU_MPS]
url = http://here:1

[EMU_SV]
token_file = /run/of-no-url
"""
SHIM_SCRIPT = """
import json, os, sys
from qpud_pulser import QpudError, choose
for name, argument, environ in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update(environ)
    try:
        print(json.dumps([name, list(choose(argument))]))
    except QpudError as refused:
        print(json.dumps([name, str(refused)]))
"""


class Case(NamedTuple):
    """What somebody has set, and what is meant then: resource, URL, file of its token."""

    meant: tuple[str, str, str] | str  # or what the refusal says
    ini: str = INI
    asked: str | None = None
    environ: Mapping[str, str] = {}


CASES = {
    "nothing": Case(("", "", ""), ini=""),
    "the user's file": Case(("FRESNEL", "http://site:8006", "/run/site-token")),
    "an option before all": Case(
        ("X", "http://site:8006", "/run/site-token"),
        asked="X",
        environ={"QPUD_QPU": "Y", "QRMI_JOB_QPU_RESOURCES": "Z"},
    ),
    "the variable before Slurm's": Case(
        ("Y", "http://v:2", ""),
        environ={"QPUD_QPU": "Y", "QPUD_URL": "http://v:2/", "SLURM_JOB_QPU_RESOURCES": "Z"},
    ),
    "the first of QRMI's": Case(
        ("A", "", ""), ini="", environ={"QRMI_JOB_QPU_RESOURCES": "A,B", "SLURM_JOB_QPU_RESOURCES": "C"}
    ),
    "another delimiter": Case(
        ("A", "", ""), ini="", environ={"QRMI_JOB_QPU_RESOURCES": "A;B", "QRMI_LIST_DELIMITER": ";"}
    ),
    "Slurm's": Case(("C", "", ""), ini="", environ={"QRMI_JOB_QPU_RESOURCES": "", "SLURM_JOB_QPU_RESOURCES": " C"}),
    "a section of a resource, without the other daemon's token": Case(
        ("EMU_MPS", "http://here:1", ""), asked="EMU_MPS"
    ),
    "a section without URL": Case(("EMU_SV", "http://site:8006", "/run/site-token"), asked="EMU_SV"),
    "no token of the file for a URL of the environment": Case(
        ("FRESNEL", "http://v:2", ""), environ={"QPUD_URL": "http://v:2"}
    ),
    "an unknown key": Case(
        "line 2: [default] takes qpu, url, token_file = VALUE, not 'ulr = http://x'", ini="[default]\nulr = http://x\n"
    ),
    "a qpu in a section": Case("line 2: [A] takes url, token_file = VALUE, not 'qpu = B'", ini="[A]\nqpu = B\n"),
    "no value": Case("line 1: [default] takes qpu, url, token_file = VALUE, not 'qpu ='", ini="qpu =\n"),
    "no setting at all": Case("line 3: [default] takes qpu, url, token_file = VALUE, not '[A'", ini="\n\n[A\n"),
}


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One folder per case, with its file, as XDG_CONFIG_HOME."""
    made = {}
    for name, case in CASES.items():
        folder = tmp_path_factory.mktemp("config")
        if case.ini:
            (folder / "qpud.ini").write_text(case.ini)
        made[name] = str(folder)
    return made


@pytest.fixture(scope="module")
def shim(worker_python: Path, homes: dict[str, str]) -> dict[str, Any]:
    """What the shim says to each case."""
    asked = [[name, one.asked, {**one.environ, "XDG_CONFIG_HOME": homes[name]}] for name, one in CASES.items()]
    done = subprocess.run(
        [worker_python, "-c", SHIM_SCRIPT],
        input=json.dumps(asked),
        env={"PYTHONPATH": str(SHIM)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


def of_command_line(case: Case, environ: Mapping[str, str]) -> tuple[str, str, str]:
    """What `qpud --qpu` makes of it."""
    choice = chosen(case.asked, environ)
    url = next((place.url for place in places(None, None, environ, case.asked) if place.url), "")
    _, kept = userfile.daemon_of(userfile.read(environ), choice.name)
    return choice.name or "", url or "", kept.value if kept and url != environ.get("QPUD_URL", "").rstrip("/") else ""


@pytest.mark.parametrize("name", CASES)
def test_the_command_line_follows_the_rule(name: str, homes: dict[str, str]) -> None:
    case = CASES[name]
    environ = {**case.environ, "XDG_CONFIG_HOME": homes[name]}
    if isinstance(case.meant, str):
        with pytest.raises(Stop) as stop:
            of_command_line(case, environ)
        assert stop.value.message == f"{homes[name]}/qpud.ini, {case.meant}"
    else:
        assert of_command_line(case, environ) == case.meant


@pytest.mark.worker
@pytest.mark.parametrize("name", CASES)
def test_the_shim_follows_the_same_rule(name: str, shim: dict[str, Any], homes: dict[str, str]) -> None:
    meant, said = CASES[name].meant, shim[name]
    if isinstance(meant, str):
        assert said == f"{homes[name]}/qpud.ini, {meant}"
        return
    qpu, _, url, _, token_file = said
    assert (qpu, url, token_file) == meant


@pytest.mark.worker
def test_both_say_what_named_the_resource(shim: dict[str, Any], homes: dict[str, str]) -> None:
    for name, case in CASES.items():
        if not isinstance(case.meant, str) and not case.asked:
            environ = {**case.environ, "XDG_CONFIG_HOME": homes[name]}
            assert shim[name][1] == chosen(None, environ).named_by


@pytest.mark.worker
def test_an_address_that_is_none_is_told_in_a_sentence(worker_python: Path) -> None:
    script = "from qpud_pulser import *\ntry: QpudConnection()\nexcept QpudError as refused: print(refused)"
    environ = {"PYTHONPATH": str(SHIM), "QPUD_URL": "foo", "QPUD_TOKEN": "x"}
    said = subprocess.run(
        [worker_python, "-c", script], env=environ, capture_output=True, text=True, timeout=60
    ).stdout
    assert said == "QPUD_URL 'foo' is not a URL like http://127.0.0.1:8006\n"


def test_a_token_of_the_users_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("qpud_abc\n")
    (tmp_path / "qpud.ini").write_text(f"url = http://site:1\ntoken_file = {tmp_path}/token\n")
    assert token_of_user({"XDG_CONFIG_HOME": str(tmp_path)}, None) == "qpud_abc"


def test_a_folder_of_settings_must_be_absolute(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": "config", "HOME": str(tmp_path)}
    assert userfile.path_of(environ) == tmp_path / ".config" / "qpud.ini"
