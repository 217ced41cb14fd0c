import grp
import os
import pwd
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qpud.core.errors import Conflict, Invalid, Unavailable
from qpud.site.peer import (
    Groups,
    bind_tcp,
    bind_unix,
    bound_at,
    peer_credentials,
    private_folder,
    unbind,
    user_id,
    user_name,
)

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give things away")


@pytest.fixture
def opened() -> Iterator[Callable[[socket.socket], socket.socket]]:
    """Closes what a test opens."""
    sockets: list[socket.socket] = []

    def keep(one: socket.socket) -> socket.socket:
        sockets.append(one)
        return one

    yield keep
    for one in sockets:
        one.close()


def leave_dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def test_the_peer_is_the_process_that_connected(tmp_path: Path) -> None:
    with bind_unix(tmp_path / "s") as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        connection, _ = listener.accept()
        with connection:
            assert peer_credentials(connection) == (os.getpid(), os.geteuid(), os.getegid())


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_a_socket_has_exactly_the_mode_asked_for(tmp_path: Path, mode: int) -> None:
    with bind_unix(tmp_path / "s", mode=mode):
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode


def test_binding_leaves_the_umask_alone(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        bind_unix(tmp_path / "s", mode=0o666).close()
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


@is_root
def test_a_socket_belongs_to_the_group_named(tmp_path: Path) -> None:
    group = next(group for group in grp.getgrall() if group.gr_gid != os.getegid())
    with bind_unix(tmp_path / "s", group=group.gr_name):
        assert (tmp_path / "s").stat().st_gid == group.gr_gid


def test_an_unknown_group_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="SocketGroup = no-such-group"):
        bind_unix(tmp_path / "s", group="no-such-group")


def test_a_group_that_the_daemon_is_not_in_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    group = grp.getgrgid(os.getegid()).gr_name
    with pytest.raises(Invalid, match=f"SocketGroup = {group}: .* is no member"):
        bind_unix(tmp_path / "s", group=group)
    assert not (tmp_path / "s").exists()


def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    leave_dead_socket(tmp_path / "s")
    with bind_unix(tmp_path / "s"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))


def test_the_socket_of_a_living_daemon_is_refused(tmp_path: Path) -> None:
    with bind_unix(tmp_path / "s"), pytest.raises(Conflict, match="already listens"):
        bind_unix(tmp_path / "s")


def test_a_living_daemon_keeps_its_socket_when_another_is_refused(tmp_path: Path) -> None:
    with bind_unix(tmp_path / "s"), socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(Conflict):
            bind_unix(tmp_path / "s")
        client.connect(str(tmp_path / "s"))


def test_a_stopped_daemon_leaves_no_socket(tmp_path: Path) -> None:
    bind_unix(tmp_path / "s").close()
    unbind(tmp_path / "s", bound_at(tmp_path / "s"))
    assert not (tmp_path / "s").exists()


def test_a_stopping_daemon_leaves_the_socket_of_its_successor(tmp_path: Path) -> None:
    bind_unix(tmp_path / "s").close()
    ours = bound_at(tmp_path / "s")
    (tmp_path / "s").rename(tmp_path / "old")  # keeps the inode's number taken
    with bind_unix(tmp_path / "s"):
        unbind(tmp_path / "s", ours)
        assert (tmp_path / "s").exists()


def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(Conflict, match="is no socket"):
        bind_unix(tmp_path / "s")
    assert (tmp_path / "s").read_text() == "precious"


def test_a_link_to_a_dead_socket_is_not_followed(tmp_path: Path) -> None:
    leave_dead_socket(tmp_path / "dead")
    (tmp_path / "s").symlink_to(tmp_path / "dead")
    with pytest.raises(Conflict, match="is no socket"):
        bind_unix(tmp_path / "s")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"nowhere/s: there is no folder .*nowhere"):
        bind_unix(tmp_path / "nowhere" / "s")


def test_a_path_too_long_for_a_socket_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot listen"):
        bind_unix(tmp_path / ("x" * 200))


def test_port_0_takes_a_free_port(opened: Callable[[socket.socket], socket.socket]) -> None:
    assert opened(bind_tcp("127.0.0.1", 0)).getsockname()[1] > 0


def test_a_taken_port_is_a_conflict(opened: Callable[[socket.socket], socket.socket]) -> None:
    port = opened(bind_tcp("127.0.0.1", 0)).getsockname()[1]
    with pytest.raises(Conflict, match=f"port {port}"):
        bind_tcp("127.0.0.1", port)


def test_an_address_of_another_machine_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"192\.0\.2\.1"):
        bind_tcp("192.0.2.1", 0)


def test_users_are_known_by_name_and_number() -> None:
    assert (user_name(0), user_id("root")) == ("root", 0)


def test_an_unknown_user_is_called_by_his_number() -> None:
    assert (user_name(3_999_999_999), user_id("3999999999")) == ("3999999999", 3_999_999_999)


@pytest.mark.parametrize("name", ["no such user", "", "-1", "٣", "9" * 30, "a\0b"])
def test_a_name_without_a_user_has_no_number(name: str) -> None:
    assert user_id(name) is None


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_the_private_folder_lies_in_the_runtime_folder_of_the_user(runtime: Path) -> None:
    assert private_folder() == runtime / "qpud"
    assert stat.S_IMODE((runtime / "qpud").stat().st_mode) == 0o700


def test_the_private_folder_is_found_again(runtime: Path) -> None:
    private_folder()
    assert private_folder() == runtime / "qpud"


def test_without_a_runtime_folder_it_lies_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert private_folder() == tmp_path / f"qpud-{os.getuid()}"


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o755])
def test_a_folder_that_others_may_use_is_refused(runtime: Path, mode: int) -> None:
    (runtime / "qpud").mkdir()
    (runtime / "qpud").chmod(mode)
    with pytest.raises(Conflict, match=f"has mode {mode:04o}"):
        private_folder()


def test_a_link_in_its_place_is_refused(runtime: Path) -> None:
    (runtime / "elsewhere").mkdir(mode=0o700)
    (runtime / "qpud").symlink_to(runtime / "elsewhere")
    with pytest.raises(Conflict, match="is no folder"):
        private_folder()


@is_root
def test_a_folder_of_another_user_is_refused(runtime: Path) -> None:
    (runtime / "qpud").mkdir(mode=0o700)
    os.chown(runtime / "qpud", 65534, -1)
    with pytest.raises(Conflict, match="belongs to user nobody"):
        private_folder()


# -- groups
def test_a_user_has_the_groups_that_the_system_says() -> None:
    known = Groups(lambda: 0.0)(os.getuid())
    assert grp.getgrgid(pwd.getpwuid(os.getuid()).pw_gid).gr_name in known


def test_an_unknown_user_has_no_groups() -> None:
    assert Groups(lambda: 0.0)(2**31 - 7) == ()


def test_groups_are_asked_for_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = [1000.0], []
    monkeypatch.setattr(os, "getgrouplist", lambda user, group: asked.append(user) or [group])
    groups = Groups(lambda: now[0])
    for now[0] in (1000.0, 1059.0, 1060.0, 1100.0):
        groups(os.getuid())
    assert len(asked) == 2


def test_a_group_without_a_name_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda user, group: [group, 2**31 - 7])
    assert len(Groups(lambda: 0.0)(os.getuid())) == 1
