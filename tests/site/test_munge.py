import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qpud.core.errors import Unauthenticated, Unavailable
from qpud.site.libmunge import Libmunge
from qpud.site.munge import LONGEST_CREDENTIAL, Munge, MungeIdentity

pytestmark = pytest.mark.munge

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def munge(munge_socket: Path) -> Iterator[Munge]:
    with Munge(munge_socket) as opened:
        yield opened


def wait_until(moment: float) -> None:
    """munge counts whole seconds of the clock: nothing but time expires a credential."""
    time.sleep(max(0.0, moment - time.time()))


def test_a_fresh_credential_proves_its_maker(munge: Munge) -> None:
    before = int(time.time())
    found = munge.decode(munge.encode())
    assert found == MungeIdentity(uid=os.geteuid(), gid=os.getegid(), encoded_at=found.encoded_at, ttl=300)
    assert before <= found.encoded_at <= time.time()


@is_root
def test_the_user_is_the_one_who_made_the_credential(munge: Munge, munge_socket: Path) -> None:
    # the folders above the socket are root's: its own folder as working directory spares the other user the way
    made = subprocess.run(
        ["munge", "-n", "--socket", munge_socket.name],
        cwd=munge_socket.parent,
        user=65534,
        group=65533,
        extra_groups=[],
        capture_output=True,
        check=True,
    )
    found = munge.decode(made.stdout.decode().strip())
    assert (found.uid, found.gid) == (65534, 65533)


def test_the_ttl_of_the_credential_is_told(munge: Munge) -> None:
    assert munge.decode(munge.encode(ttl=77)).ttl == 77


def test_decoding_leaves_later_credentials_alone(munge: Munge) -> None:
    munge.decode(munge.encode(ttl=77))
    assert munge.decode(munge.encode()).ttl == 300


def test_blanks_around_a_credential_do_not_matter(munge: Munge) -> None:
    assert munge.decode(f" {munge.encode()}\t").uid == os.geteuid()


def test_an_expired_credential_is_refused_as_expired(munge: Munge) -> None:
    credential = munge.encode(ttl=1)
    wait_until(int(time.time()) + 2.05)
    with pytest.raises(Unauthenticated, match="has expired"):
        munge.decode(credential)


def test_a_second_decoding_is_refused_as_used_before(munge: Munge) -> None:
    credential = munge.encode()
    munge.decode(credential)
    with pytest.raises(Unauthenticated, match="was used before"):
        munge.decode(credential)


def test_a_second_decoding_by_another_object_is_refused_too(munge: Munge, munge_socket: Path) -> None:
    credential = munge.encode()
    munge.decode(credential)
    with Munge(munge_socket) as other, pytest.raises(Unauthenticated, match="was used before"):
        other.decode(credential)


def test_a_credential_of_another_key_is_refused_as_invalid(
    munge: Munge, start_munged: Callable[[Path], Path], tmp_path: Path
) -> None:
    with Munge(start_munged(tmp_path / "other")) as other:
        credential = other.encode()
    with pytest.raises(Unauthenticated, match="key of another cluster"):
        munge.decode(credential)


def test_a_credential_for_another_user_is_refused(munge: Munge) -> None:
    credential = munge.encode(for_user=os.geteuid() + 12345)
    with pytest.raises(Unauthenticated, match="meant for another user"):
        munge.decode(credential)


def test_an_altered_credential_is_refused(munge: Munge) -> None:
    credential = munge.encode()
    middle = len(credential) // 2
    letter = "A" if credential[middle] != "A" else "B"
    with pytest.raises(Unauthenticated, match=r"is invalid|is malformed"):
        munge.decode(credential[:middle] + letter + credential[middle + 1 :])


@pytest.mark.parametrize(
    "garbage",
    ["", "MUNGE:", "MUNGE::", "MUNGE:AAAA", "munge:AAAA:", "Bearer x", "MUNGE:AA\0AA:", "MUNGE:é:", "MUNGE:AA AA:"],
)
def test_what_does_not_look_like_a_credential_is_refused(munge: Munge, garbage: str) -> None:
    with pytest.raises(Unauthenticated, match="is no munge credential"):
        munge.decode(garbage)


@pytest.mark.parametrize("garbage", ["MUNGE:A:", "MUNGE:AAAA:", "MUNGE:AwQFAAA=:", f"MUNGE:{'A' * 4000}:"])
def test_what_only_looks_like_a_credential_is_refused(munge: Munge, garbage: str) -> None:
    with pytest.raises(Unauthenticated, match="the munge credential"):
        munge.decode(garbage)


def test_a_megabyte_never_reaches_munged(munge: Munge) -> None:
    with pytest.raises(Unauthenticated, match=f"at most {LONGEST_CREDENTIAL}"):
        munge.decode(f"MUNGE:{'A' * (1 << 20)}:")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.text(), st.from_regex(r"MUNGE:[A-Za-z0-9+/]{0,300}={0,3}:", fullmatch=True)))
def test_no_text_does_worse_than_being_refused(munge: Munge, text: str) -> None:
    with pytest.raises(Unauthenticated):
        munge.decode(text)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 150), junk=st.binary(max_size=20))
def test_no_credential_with_bytes_replaced_does_worse_than_being_refused(munge: Munge, cut: int, junk: bytes) -> None:
    credential = munge.encode()
    broken = credential[:cut] + junk.decode("latin-1") + "\x7f" + credential[cut:]
    with pytest.raises(Unauthenticated):
        munge.decode(broken)


def test_a_hundred_refusals_do_not_disturb_the_next_good_one(munge: Munge) -> None:
    used = munge.encode()
    munge.decode(used)
    for _ in range(100):
        with pytest.raises(Unauthenticated):
            munge.decode(used)
    assert munge.decode(munge.encode()).uid == os.geteuid()


def test_without_munged_it_is_unavailable_and_says_where_it_looked(munge: Munge, tmp_path: Path) -> None:
    credential = munge.encode()
    with Munge(tmp_path / "nobody") as alone, pytest.raises(Unavailable, match="nobody"):
        alone.decode(credential)


def test_a_munged_that_comes_back_is_used_at_once(
    munge: Munge, start_munged: Callable[[Path], Path], tmp_path: Path
) -> None:
    with Munge(tmp_path / "late" / "sock") as late:
        with pytest.raises(Unavailable):
            late.decode(munge.encode())
        start_munged(tmp_path / "late")
        assert late.decode(late.encode()).uid == os.geteuid()


def test_the_environment_names_the_socket(munge_socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPUD_MUNGE_SOCKET", str(munge_socket))
    with Munge() as found:
        assert found.decode(found.encode()).uid == os.geteuid()


def test_a_closed_munge_is_unavailable(munge_socket: Path) -> None:
    closed = Munge(munge_socket)
    credential = closed.encode()
    closed.close()
    closed.close()
    with pytest.raises(Unavailable, match="closed"):
        closed.decode(credential)


def test_a_missing_library_is_named_with_what_to_do() -> None:
    with pytest.raises(Unavailable, match=r"libnothing\.so\.9 cannot be loaded.*install"):
        Libmunge("libnothing.so.9")


def test_two_thousand_refusals_leak_nothing(munge: Munge) -> None:
    used = munge.encode()
    munge.decode(used)

    def refuse(times: int) -> int:
        for _ in range(times):
            with pytest.raises(Unauthenticated):
                munge.decode(used)
        return resident_kilobytes()

    before = refuse(500)
    assert refuse(2000) - before < 1000


def resident_kilobytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
