import os
from pathlib import Path

import pytest

from qpud.config import ConfigError, dev_policy, parse, render, warnings
from qpud.core.terms import AuthType, DriverKind, TcpListen, UnixListen
from qpud.site.peer import user_name

STATE = Path("/tmp/state")


def test_it_listens_in_its_folder_and_on_loopback() -> None:
    expected = (UnixListen(path=STATE / "qpud.sock"), TcpListen(host="127.0.0.1", port=8006))
    assert dev_policy(STATE, 8006, None).daemon.listen == expected


def test_its_user_administers_and_needs_no_munge() -> None:
    daemon = dev_policy(STATE, 0, None).daemon
    assert user_name(os.getuid()) in daemon.admin_users
    assert daemon.auth_type is AuthType.NONE


def test_it_has_a_simulated_qpu_and_an_emulator() -> None:
    resources = dev_policy(STATE, 0, None).resources
    found = {name: (resource.driver, resource.device) for name, resource in resources.items()}
    assert found == {
        "FRESNEL": (DriverKind.SIMULATED, "AnalogDevice"),
        "EMU_MPS": (DriverKind.EMULATOR, "AnalogDevice"),
    }


def test_only_its_user_may_connect() -> None:
    assert dev_policy(STATE, 0, None).daemon.socket_mode == 0o600


def test_it_is_a_policy_that_a_file_could_say_without_a_warning() -> None:
    policy = dev_policy(STATE, 0, Path("/opt/python"))
    assert (parse(render(policy)), warnings(policy)) == (policy, [])


def test_a_folder_too_deep_for_a_socket_is_refused() -> None:
    with pytest.raises(ConfigError, match="longer than 107 bytes"):
        dev_policy(Path("/" + "x" * 120), 0, None)
