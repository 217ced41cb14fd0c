from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpud.config import values
from qpud.core.terms import TcpListen, UnixListen


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0.2", 0.2),
        ("0", 0),
        ("90", 90),
        ("02:05", 125),
        ("90:00", 5400),
        ("1:30:00", 5400),
        ("100:00:00", 360_000),
        ("7-0", 7 * 86400),
        ("1-2", 93_600),
        ("1-02:03", 93_780),
        ("1-02:03:04", 93_784),
    ],
)
def test_a_duration_reads_as_slurm_means_it_in_seconds(text: str, seconds: float) -> None:
    assert values.read_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "x", "30s", "5m", "1:2:3:4", "1:60", "1:60:00", "1-24", "1-", "-1:00", "1e3", "1,5", "٣", "1:30.5", "inf"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(is no|has) "):
        values.read_duration(text)


@given(st.one_of(st.floats(0, 1e10), st.integers(0, 10**9).map(float)))
def test_a_duration_survives_writing_and_reading(seconds: float) -> None:
    written = values.write_duration(seconds)
    assert written == "UNLIMITED" or values.read_duration(written) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0.2"), (59.0, "59"), (60.0, "0:01:00"), (3600.0, "1:00:00"), (86400.0, "1-00"), (86401.0, "1-00:00:01")],
)
def test_a_duration_is_written_shortly(seconds: float, text: str) -> None:
    assert values.write_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"), [("1048576", 1 << 20), ("512K", 512 << 10), ("1M", 1 << 20), ("2g", 2 << 30), ("1 T", 1 << 40)]
)
def test_a_size_counts_in_powers_of_1024(text: str, size: int) -> None:
    assert values.read_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "1.5M", "-1", "1MB", "1X", "9" * 30])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        values.read_size(text)


@given(st.integers(0, 1 << 50))
def test_a_size_survives_writing_and_reading(size: int) -> None:
    assert values.read_size(values.write_size(size)) == size


@pytest.mark.parametrize("text", ["660", "0660", "0o660"])
def test_a_mode_is_octal(text: str) -> None:
    assert values.read_mode(text) == 0o660


@pytest.mark.parametrize("text", ["", "rw", "668", "0x1"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="octal"):
        values.read_mode(text)


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("unix:/run/q.sock", UnixListen(path=Path("/run/q.sock"))),
        ("http://127.0.0.1:8006", TcpListen(host="127.0.0.1", port=8006)),
        ("http://[::1]:0/", TcpListen(host="::1", port=0)),
        ("http://access-node:80", TcpListen(host="access-node", port=80)),
    ],
)
def test_an_address_is_a_socket_or_a_host_with_a_port(text: str, listen: object) -> None:
    assert values.read_listen(text) == listen


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("https://h:1", "leaves to a proxy"),
        ("http://h", "lacks a port"),
        ("http://:80", "no address"),
        ("http://h:65536", "no address"),
        ("http://h:x", "no address"),
        ("http://h:1/path", "more than a host and a port"),
        ("http://u@h:1", "more than a host and a port"),
        ("http://[::1:1", "no address"),
        ("/run/q.sock", "no address"),
        ("8006", "no address"),
        ("unix:q.sock", "no absolute path"),
        (f"unix:/{'x' * 107}", "107 bytes"),
    ],
)
def test_what_cannot_be_listened_on_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        values.read_listen(text)


@pytest.mark.parametrize(
    ("host", "inside"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.5", False), ("localhost.example.org", False)],
)  # fmt: skip
def test_only_loopback_stays_inside_the_machine(host: str, inside: bool) -> None:
    assert values.is_loopback(TcpListen(host=host, port=1)) is inside


@pytest.mark.parametrize("text", ["http://10.0.0.5:8000", "https://u:p@qpu/prefix", "http://[fe80::1]:1"])
def test_a_url_is_kept_as_written(text: str) -> None:
    assert values.read_url(text) == text


def test_a_url_loses_its_trailing_slash() -> None:
    assert values.read_url("http://h:1/api/") == "http://h:1/api"


@pytest.mark.parametrize(
    "text", ["10.0.0.5:8000", "ftp://h", "http://", "http://h/?a=1", "http://h/#a", "http://h/a b"]
)
def test_what_is_no_url_of_an_api_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no http|holds a query"):
        values.read_url(text)
