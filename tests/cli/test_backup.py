"""backup and restore as a user types them: beside a running daemon, and with it stopped."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from qpud.site.state import LOCK
from tests.daemon.harness import Daemon, a_daemon, open_session, submit

FOREIGN = 4711


def jobs(database: Path) -> int:
    with closing(sqlite3.connect(database)) as found:
        return int(found.execute("SELECT count(*) FROM jobs").fetchone()[0])


def a_backup(qpud: Any, daemon: Daemon) -> Path:
    with daemon.client() as client:
        submit(client, open_session(client))
    ended = qpud("backup", "copy.sqlite", "--config", str(daemon.folder / "qpud.conf"))
    assert (ended.returncode, ended.stderr) == (0, "")
    return daemon.folder / "copy.sqlite"


def test_a_backup_beside_the_daemon_has_what_it_accepted(qpud: Any, tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        assert jobs(a_backup(qpud, daemon)) == 1


def test_a_restore_beside_the_daemon_is_refused_in_one_sentence(qpud: Any, tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        a_backup(qpud, daemon)
        ended = qpud("restore", "copy.sqlite", "--state", str(tmp_path / "state"))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "another qpud serves" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_stopped_daemon_is_put_back_and_serves_what_the_backup_had(qpud: Any, tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        a_backup(qpud, daemon)
        with daemon.client() as client:
            submit(client, open_session(client))
        daemon.end()
        ended = qpud("restore", "copy.sqlite", "--state", str(tmp_path / "state"), "--json")
        assert ended.returncode == 0, ended.stderr
        assert jobs(Path(json.loads(ended.stdout)["kept"])) == 2
        daemon.start()
        with daemon.client() as client:
            assert [job["id"] for job in client.get("/v1/jobs").json()["jobs"]] == [1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_who_may_not_enter_the_folder_is_told_so(qpud: Any, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "out").mkdir()
    program = (
        "import os, sys; os.setgid(4711); os.setuid(4711); from qpud.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    qpud.argv = lambda *args: [sys.executable, "-c", f"import qpud.cli.parser, qpud.store.backup; {program}", *args]
    ended = qpud("backup", str(tmp_path / "out" / "copy"), "--state", str(tmp_path / "state"))
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
    assert "cannot be copied" in ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_root_restores_as_the_user_whose_state_it_is(qpud: Any, tmp_path: Path) -> None:
    with a_daemon(tmp_path) as daemon:
        copy = a_backup(qpud, daemon)
        daemon.end()
    state = tmp_path / "state"
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    for path in (state, *state.iterdir()):
        os.chown(path, FOREIGN, FOREIGN)
    (tmp_path / "private").mkdir(mode=0o700)  # where its new user may not even look
    copy = copy.rename(tmp_path / "private" / "copy.sqlite")
    ended = qpud("restore", str(copy), "--state", str(state))
    assert ended.returncode == 0, ended.stderr
    assert {path.stat().st_uid for path in state.iterdir() if path.name != LOCK} == {FOREIGN}


def test_what_cannot_be_found_is_named(qpud: Any, tmp_path: Path) -> None:
    ended = qpud("backup", "copy", "--state", str(tmp_path / "none"))
    assert (ended.returncode, f"there is no {tmp_path / 'none'}" in ended.stderr) == (5, True)
    ended = qpud("restore", "nowhere", "--state", str(tmp_path))
    assert (ended.returncode, "nowhere cannot be read" in ended.stderr) == (5, True)
    (tmp_path / "copy").touch()
    ended = qpud("restore", "copy", "--state", str(tmp_path / "none"))
    assert "cannot be entered: no such file" in ended.stderr


def test_install_from_a_clone_says_to_take_the_zipapp(qpud: Any) -> None:
    ended = qpud("install")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "is no zipapp" in ended.stderr
