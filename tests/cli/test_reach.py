"""Finding the daemon, and what is said when there is none."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from qpud.cli.client import Client
from qpud.cli.exits import Exit, Stop
from qpud.cli.locate import SITE_SOCKET, places

INFO = {"version": "1", "resources": [], "queues": [], "default_resource": "A", "urls": []}


def test_an_option_goes_before_the_environment() -> None:
    found = places("/a.sock", None, {"QPUD_SOCKET": "/b.sock", "QPUD_URL": "http://h:1"})
    assert [str(place.socket) for place in found] == ["/a.sock"]


def test_the_environment_offers_the_socket_first_and_then_the_url() -> None:
    found = places(None, None, {"QPUD_SOCKET": "/b.sock", "QPUD_URL": "http://h:1/"})
    assert [(place.socket and str(place.socket), place.url) for place in found] == [
        ("/b.sock", None),
        (None, "http://h:1"),
    ]


def test_the_site_socket_comes_last_when_nothing_is_named() -> None:
    assert places(None, None, {})[-1].socket == SITE_SOCKET


@pytest.mark.parametrize("url", ["127.0.0.1:80", "unix:/a", "ftp://x", "http://"])
def test_what_is_no_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(Stop, match="not a URL like http://127") as stop:
        places(None, url, {})
    assert stop.value.code is Exit.USAGE


def test_no_daemon_says_where_it_looked_and_how_to_point_elsewhere(qpud: Any, tmp_path: Path) -> None:
    ended = qpud("queue")
    assert ended.returncode == Exit.NO_DAEMON
    assert f"{tmp_path}/qpud.sock (QPUD_SOCKET): No such file" in ended.stderr
    assert "--socket PATH or --url URL" in ended.stderr


def test_who_may_not_enter_the_socket_is_told_who_lets_him_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def shut(_connection: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("qpud.cli.client._UnixConnection.connect", shut)  # root, who runs the tests, may enter any
    with pytest.raises(Stop, match=r"a\.sock.*: Permission denied\nAsk the administrator .*SocketGroup") as stop:
        Client(places("/a.sock", None, {})).get("/v1/info")
    assert stop.value.code is Exit.NO_DAEMON


def test_a_socket_left_by_a_killed_daemon_is_skipped_for_the_next_place(
    qpud: Any, daemon: Any, tmp_path: Path
) -> None:
    stale = tmp_path / "stale.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(stale))
    left.close()
    daemon.on("GET", "/v1/info", INFO)
    assert qpud("info", QPUD_SOCKET=str(stale), QPUD_URL=daemon.url).returncode == Exit.OK


def test_a_token_goes_as_bearer_over_tcp_only(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/info", INFO)
    qpud("info", QPUD_TOKEN="secret")
    qpud("info", "--url", daemon.url, QPUD_TOKEN="secret")
    assert [one.headers.get("Authorization") for one in daemon.asked] == [None, "Bearer secret"]


def test_a_prefix_of_the_url_is_kept(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/qpud/v1/info", INFO)
    assert qpud("info", "--url", daemon.url + "/qpud/").returncode == Exit.OK


def test_a_proxy_is_never_used(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/info", INFO)
    ended = qpud("info", "--url", daemon.url, http_proxy="http://127.0.0.1:1", HTTP_PROXY="http://127.0.0.1:1")
    assert ended.returncode == Exit.OK


@pytest.mark.parametrize(("status", "code"), [(401, 4), (403, 4), (404, 5), (409, 1), (422, 1), (500, 1), (507, 1)])
def test_a_refusal_shows_the_sentence_and_its_exit_code(qpud: Any, daemon: Any, status: int, code: int) -> None:
    daemon.on("GET", "/v1/queue", {"detail": "queue x has no y", "code": "z"}, status=status)
    ended = qpud("queue")
    assert (ended.returncode, ended.stderr) == (code, "qpud: queue x has no y\n")


def test_a_body_refused_before_all_of_it_is_read_shows_the_refusal(qpud: Any, tmp_path: Path) -> None:
    big = tmp_path / "big.json"
    big.write_text(json.dumps({"name": "x" * 8_000_000}))  # more than a socket buffers
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "early.sock"))
        listening.listen()
        refusing = threading.Thread(target=_refuse_early, args=(listening,))
        refusing.start()
        ended = qpud("submit", str(big), "--shots", "1", QPUD_SOCKET=str(tmp_path / "early.sock"), QPUD_TOKEN="tok")
        refusing.join()
    assert (ended.returncode, ended.stderr) == (Exit.FAILED, "qpud: the body is too large\n")


def _refuse_early(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(1000)
        body = b'{"detail": "the body is too large", "code": "too_large"}'
        head = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body)


def test_something_else_on_the_port_is_told_apart_from_a_daemon(qpud: Any, daemon: Any) -> None:
    daemon.on("GET", "/v1/queue", b"<html>nginx</html>")
    ended = qpud("queue", "--url", daemon.url)
    assert ended.returncode == Exit.NO_DAEMON
    assert "not a qpud daemon" in ended.stderr


def test_the_token_is_in_no_message(qpud: Any, daemon: Any) -> None:
    ended = qpud("queue", "--url", daemon.url, QPUD_TOKEN="secret")
    assert "secret" not in ended.stderr + ended.stdout


@pytest.mark.parametrize("args", [(), ("nonsense",), ("submit",), ("run",), ("run", "--"), ("serve", "--port", "1")])
def test_a_wrong_command_line_is_usage(qpud: Any, args: tuple[str, ...]) -> None:
    assert qpud(*args).returncode == Exit.USAGE


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("resutl", "1"), "did you mean result?"),
        (("submit", "a.json", "--shots", "1", "--hint", "qcheavy"), "did you mean qc-heavy?"),
        (("submit", "a.json", "--shots", "0"), "'0' is not a whole number, 1 to 2147483647"),
        (("serve", "--dev", "--port", "99999"), "'99999' is not a port"),
        (("serve", "--dev", "--speed-up", "fast"), "'fast' is not a factor above 0"),
        (("drain", "FRESNEL"), "--reason"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_sentence(qpud: Any, args: tuple[str, ...], said: str) -> None:
    ended = qpud(*args)
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_version_is_printed_and_needs_no_daemon(qpud: Any) -> None:
    ended = qpud("version")
    assert (ended.returncode, ended.stdout.split()[0]) == (0, "qpud")


def test_help_and_readme_tell_every_exit_code(qpud: Any) -> None:
    text = qpud("--help").stdout
    readme = (Path(__file__).parents[2] / "qpud/cli/README.md").read_text()
    for code in Exit:
        assert f"{code.value:>3}  " in text
        assert f"| {code.value} |" in readme
